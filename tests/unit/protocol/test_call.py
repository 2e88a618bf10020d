"""Environment and stdin together: what every verb needs of them."""

from __future__ import annotations

import pytest
from hypothesis import given

from cni_macvlan_egress.protocol.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    CniError,
)

from .. import json_values
from ..calls import call, configuration
from ..refusals import refused


def test_call_holds_what_was_said() -> None:
    asked = call("ADD", configuration(prevResult={"ips": []}, runtimeConfig={"mac": "x"}, mode="private"))
    assert (asked.network, asked.version, asked.chained) == ("cluster", "1.1.0", True)
    assert asked.previous == {"ips": []}
    assert asked.runtime_config == {"mac": "x"}
    assert asked.configuration["mode"] == "private"


@pytest.mark.parametrize(
    ("keys", "chained"), [({}, False), ({"prevResult": None}, False), ({"prevResult": {}}, True)]
)
def test_chain_is_known_by_its_previous_result(keys: dict, chained: bool) -> None:
    assert call("ADD", configuration(**keys)).chained is chained


@pytest.mark.parametrize("runtime", [{}, {"runtimeConfig": None}, {"runtimeConfig": {}}])
def test_no_capability_means_an_empty_runtime_config(runtime: dict) -> None:
    assert call("ADD", configuration(**runtime)).runtime_config == {}


@pytest.mark.parametrize("name", ["cluster", "a", "0", "a.b_c-d", "A" * 300])
def test_network_name_is_an_identifier(name: str) -> None:
    assert call("ADD", configuration(name=name)).network == name


@pytest.mark.parametrize("name", [None, "", "-a", ".a", "a/b", "a b", "a\n", "é", 5, True, ["a"], {}])
def test_bad_network_name_is_refused(name: object) -> None:
    with refused(INVALID_CONFIGURATION, "network name"):
        call("ADD", configuration(name=name))


def test_missing_network_name_is_called_missing() -> None:
    with refused(INVALID_CONFIGURATION, "network name", "missing"):
        call("ADD", {"cniVersion": "1.1.0"})


@pytest.mark.parametrize("value", [5, True, "x", [], [{}], 0.5])
@pytest.mark.parametrize("key", ["prevResult", "runtimeConfig"])
def test_object_that_is_none_is_named(key: str, value: object) -> None:
    with refused(DECODING_FAILURE, key):
        _ = call("ADD", configuration(**{key: value})).runtime_config


@given(json_values.objects, json_values.values, json_values.values)
def test_any_document_is_a_call_or_refused(document: dict, name: object, previous: object) -> None:
    for keys in ({}, {"name": name}, {"name": "n", "prevResult": previous, "runtimeConfig": previous}):
        try:
            made = call("ADD", {**document, **keys})
            _ = made.runtime_config
        except CniError as error:
            assert error.code in (INCOMPATIBLE_VERSION, INVALID_CONFIGURATION, DECODING_FAILURE)
        else:
            assert made.network == made.configuration["name"]
