"""Which versions are spoken, and which verb needs which."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from cni_macvlan_egress.protocol import versions
from cni_macvlan_egress.protocol.errors import INCOMPATIBLE_VERSION

from .. import json_values
from ..refusals import refused

SPOKEN = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
FIRST = {"ADD": "0.1.0", "DEL": "0.1.0", "CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


def test_report_lists_every_version() -> None:
    assert json.loads(versions.report()) == {"cniVersion": "1.1.0", "supportedVersions": SPOKEN}


@pytest.mark.parametrize("version", SPOKEN)
@pytest.mark.parametrize(("verb", "first"), FIRST.items())
def test_verb_is_allowed_from_its_first_version_on(verb: str, first: str, version: str) -> None:
    if SPOKEN.index(version) >= SPOKEN.index(first):
        assert versions.check(version, verb) == version
    else:
        with refused(INCOMPATIBLE_VERSION, version, verb, first):
            versions.check(version, verb)


@pytest.mark.parametrize("absent", [None, ""])
def test_no_version_means_the_first_one(absent: str | None) -> None:
    assert versions.check(absent, "ADD") == "0.1.0"
    with refused(INCOMPATIBLE_VERSION, "CHECK"):
        versions.check(absent, "CHECK")


@given(json_values.values.filter(lambda value: value not in (None, "", *SPOKEN)))
def test_any_other_version_is_refused_with_the_known_ones(version: object) -> None:
    with refused(INCOMPATIBLE_VERSION, *SPOKEN):
        versions.check(version, "ADD")


@pytest.mark.parametrize("number", range(len(SPOKEN)))
def test_order_of_the_versions(number: int) -> None:
    for other, version in enumerate(SPOKEN):
        assert versions.at_least(SPOKEN[number], version) is (number >= other)
