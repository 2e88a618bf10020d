"""The keys there are, and the light checks by them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_macvlan_egress.model import keys
from cni_macvlan_egress.model.configuration import Configuration
from cni_macvlan_egress.protocol.errors import INVALID_CONFIGURATION

from .. import json_values
from ..refusals import refused


def test_every_field_of_the_configuration_is_a_known_key() -> None:
    aliases = {field.alias for field in Configuration.model_fields.values()}
    assert aliases <= keys.CONFIGURATION
    assert not keys.CONFIGURATION & keys.ENVELOPE


@pytest.mark.parametrize(
    "key", [*sorted(keys.CONFIGURATION | keys.ENVELOPE), "cni.dev/x", "cni.dev/valid-attachments"]
)
def test_known_key_passes_whatever_its_value(key: str) -> None:
    keys.check_known({key: object()})


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("mastr", "master"),
        ("Master", "master"),
        ("MTU", "mtu"),
        ("if_name", "ifName"),
        ("ifname", "ifName"),
        ("conflict_detection", "conflictDetection"),
        ("clusterNetwork", "clusterNetworks"),
        ("log_level", "logLevel"),
    ],
)
def test_unknown_key_is_named_with_the_nearest_known_one(key: str, meant: str) -> None:
    with refused(INVALID_CONFIGURATION, repr(key), f"did you mean {meant!r}?"):
        keys.check_known({"type": "macvlan-egress", key: 1})


def test_unknown_key_like_no_other_is_named_with_all_known_ones() -> None:
    with refused(INVALID_CONFIGURATION, "'xyzzy'", *keys.CONFIGURATION):
        keys.check_known({"xyzzy": 1})


@given(json_values.any_text)
def test_key_is_known_or_refused(key: str) -> None:
    if key in keys.CONFIGURATION | keys.ENVELOPE or key.startswith("cni.dev/"):
        keys.check_known({key: 1})
    else:
        with refused(INVALID_CONFIGURATION):
            keys.check_known({key: 1})


@pytest.mark.parametrize(
    ("annotations", "attach"),
    [
        ({}, False),
        ({"other/source": "192.168.12.99", "macvlan-egress.example.com/source": "x"}, False),
        ({keys.ASSIGN: "false"}, False),
        ({keys.ASSIGN: ""}, False),
        ({keys.ASSIGN: " false\n"}, False),
        ({keys.ASSIGN: None}, False),
        ({keys.ASSIGN: "true"}, True),
        ({keys.ASSIGN: "eth1"}, True),
        ({keys.ASSIGN: "False"}, True),
        ({keys.ASSIGN: False}, True),
        ({keys.ASSIGN: 0}, True),
        ({"macvlan-egress/source": "192.168.12.99"}, True),
        ({"macvlan-egress/": ""}, True),
        ({"macvlan-egress/anything": None}, True),
        ({keys.ASSIGN: "false", "macvlan-egress/mtu": "1400"}, True),
    ],
)
def test_whether_annotations_ask_for_anything(annotations: dict, attach: bool) -> None:
    assert keys.asks_to_attach(annotations) is attach


@given(st.text(max_size=8), st.lists(st.text(max_size=8), min_size=1, max_size=5))
def test_hint_names_one_known_word_or_all(word: str, known: list[str]) -> None:
    hint = keys.nearest(word, known)
    assert any(hint == f"; did you mean {one!r}?" for one in known) or all(one in hint for one in known)
