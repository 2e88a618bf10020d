"""Where the plugin keeps its files."""

from __future__ import annotations

import pytest
from hypothesis import given

from cni_macvlan_egress.attach import paths
from cni_macvlan_egress.protocol.errors import INVALID_CONFIGURATION, CniError

from .. import json_values
from ..refusals import refused


def test_record_is_named_by_container_and_interface() -> None:
    assert paths.record("/state", "c1", "eth0") == "/state/attachments/c1@eth0.json"


@pytest.mark.parametrize(
    ("value", "directory"),
    [
        (None, "/default"),
        ("/state", "/state"),
        ("/state/", "/state"),
        ("/a/b//", "/a/b"),
        ("/", "/"),
        ("//", "/"),
    ],
)
def test_directory_of_the_configuration_or_its_default(value: str | None, directory: str) -> None:
    assert paths.directory(value, "stateDir", "/default") == directory


@pytest.mark.parametrize("value", ["", "state", "./state", "~/state", "/a\0b", 5, True, [], {}, ["/a"]])
def test_directory_that_is_no_absolute_path_is_refused(value: object) -> None:
    with refused(INVALID_CONFIGURATION, "stateDir", "absolute path"):
        paths.directory(value, "stateDir", "/default")


@given(json_values.values)
def test_any_value_is_a_directory_or_refused(value: object) -> None:
    try:
        assert paths.directory(value, "runDir", "/default").startswith("/")
    except CniError as error:
        assert error.code == INVALID_CONFIGURATION
