"""The text of a conflist: the entry goes in and out, and not a byte more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.refusals import refused

from cni_macvlan_egress.model.conflist_text import TYPE, parse
from cni_macvlan_egress.protocol.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
)

ENTRY = {
    "type": TYPE,
    "capabilities": {"io.kubernetes.cri.pod-annotations": True},
    "allow": [{"namespaces": ["egress"]}],
}
WHITE = st.text(alphabet=" \t\n", max_size=4) | st.sampled_from(["\r\n", "\r\n  ", "\n\n    ", ""])
NUMBERS = st.sampled_from(["0", "-0.0", "1e2", "1E+2", "1.50", "12345678901234567890123"])
STRINGS = st.sampled_from(
    ['"a"', r'"\u00e9\/"', '"é\u2028"', r'"\ud83d\ude00"', '"{[,:\\"]}"', '"plugins"', r'"\ud800"']
)


@st.composite
def values(draw: Any, depth: int = 2) -> str:
    """JSON text of any layout."""
    kinds = [NUMBERS, STRINGS, st.sampled_from(["true", "false", "null"])]
    if depth and draw(st.booleans()):
        inner = st.lists(values(depth - 1), max_size=3)
        parts = [f"{draw(WHITE)}{part}{draw(WHITE)}" for part in draw(inner)]
        if draw(st.booleans()):
            return f"[{','.join(parts)}]"
        members = [f'{draw(WHITE)}"k{number}"{draw(WHITE)}:{part}' for number, part in enumerate(parts)]
        return f"{{{','.join(members)}}}"
    return draw(draw(st.sampled_from(kinds)))


@st.composite
def conflists(draw: Any) -> str:
    """Conflists of any layout and any order of keys."""

    def spaced(text: str) -> str:
        return f"{draw(WHITE)}{text}{draw(WHITE)}"

    def object_of(members: list[tuple[str, str]]) -> str:
        shuffled = draw(st.permutations(members))
        return "{" + ",".join(f"{spaced(key)}:{spaced(value)}" for key, value in shuffled) + "}"

    plugins = []
    for number in range(draw(st.integers(1, 3))):
        extra = [(f'"x{index}"', value) for index, value in enumerate(draw(st.lists(values(), max_size=3)))]
        plugins.append(spaced(object_of([('"type"', f'"main{number}"'), *extra])))
    members = [('"name"', '"net"'), ('"plugins"', f"[{','.join(plugins)}]")]
    if draw(st.booleans()):
        members.append(('"cniVersion"', '"1.0.0"'))
    members += [(f'"y{index}"', value) for index, value in enumerate(draw(st.lists(values(), max_size=2)))]
    return spaced(object_of(members))


@settings(max_examples=150, deadline=None)
@given(text=conflists(), disable_check=st.booleans())
def test_entry_in_and_out_gives_back_any_text(text: str, disable_check: bool) -> None:
    with_entry = parse(text, listed=True).with_entry(ENTRY, disable_check=disable_check)
    before, after = json.loads(text), json.loads(with_entry)
    if disable_check:
        assert after.pop("disableCheck") is True
    assert after["plugins"].pop() == ENTRY
    assert after == before
    assert list(after) == list(before)
    found = parse(with_entry, listed=True)
    assert found.entry == ENTRY
    assert found.with_entry(ENTRY, disable_check=disable_check) == with_entry
    assert found.without_entry(enable_check=disable_check) == text


@settings(max_examples=50, deadline=None)
@given(text=conflists())
def test_changed_entry_leaves_the_rest_of_any_text(text: str) -> None:
    changed = {**ENTRY, "master": "eth1", "clusterNetworks": [f"10.{number}.0.0/16" for number in range(20)]}
    once = parse(text, listed=True).with_entry(ENTRY)
    twice = parse(once, listed=True).with_entry(changed)
    assert parse(twice, listed=True).entry == changed
    assert parse(twice, listed=True).without_entry() == text


def test_entry_that_somebody_has_moved_to_the_front_comes_out_too() -> None:
    text = '{"name": "n", "plugins": [{"type": "macvlan-egress"}, {"type": "a"}]}'
    assert parse(text, listed=True).without_entry() == '{"name": "n", "plugins": [{"type": "a"}]}'


def test_key_that_stands_last_comes_out_too() -> None:
    text = '{"name": "n", "plugins": [{"type": "a"}, {"type": "macvlan-egress"}], "disableCheck": true}'
    assert parse(text, listed=True).without_entry(enable_check=True) == (
        '{"name": "n", "plugins": [{"type": "a"}]}'
    )


def test_lone_configuration_becomes_what_libcni_would_make_of_it() -> None:
    text = '{\r\n\t"cniVersion": "0.4.0",\r\n\r\n\t"name": "n",\r\n\t"type": "a",\r\n\t"mtu": 1e3\r\n}\r\n'
    made = parse(text, listed=False).as_list(ENTRY)
    assert json.loads(made) == {"cniVersion": "0.4.0", "name": "n", "plugins": [json.loads(text), ENTRY]}
    assert made.count("\n") == made.count("\r\n")
    assert '"mtu": 1e3' in made


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("", DECODING_FAILURE, "line 1, column 1"),
        ("{", DECODING_FAILURE, "not JSON"),
        ('{"name": "n",\n "plugins": [{"type": "a"},]}', DECODING_FAILURE, "line 2"),
        ('{"name": "n", "plugins": [{"type": "a"}]} x', DECODING_FAILURE, "line 1, column 43"),
        ('// comment\n{"name": "n"}', DECODING_FAILURE, "not JSON"),
        ('\ufeff{"name": "n", "plugins": [{"type": "a"}]}', DECODING_FAILURE, "not JSON"),
        ('{"name": "n", "plugins": [{"type": "a", "x": NaN}]}', DECODING_FAILURE, "NaN"),
        ('{"name": "n", "plugins": [{"type": "a", "x": "\t"}]}', DECODING_FAILURE, "control character"),
        ("[" * 100_000, DECODING_FAILURE, "deep"),
        ("[]", DECODING_FAILURE, "object"),
        ('{"name": "n", "plugins": [{"type": "a"}], "plugins": []}', DECODING_FAILURE, "twice"),
        ('{"plugins": [{"type": "a"}]}', INVALID_CONFIGURATION, "name"),
        ('{"name": "a b", "plugins": [{"type": "a"}]}', INVALID_CONFIGURATION, "a b"),
        ('{"name": "n", "plugins": []}', INVALID_CONFIGURATION, "no plugins"),
        ('{"name": "n", "plugins": {}}', INVALID_CONFIGURATION, "no plugins"),
        ('{"name": "n"}', INVALID_CONFIGURATION, "no plugins"),
        ('{"name": "n", "plugins": ["a"]}', INVALID_CONFIGURATION, "no type"),
        ('{"name": "n", "plugins": [{"type": ""}]}', INVALID_CONFIGURATION, "no type"),
        ('{"name": "n", "cniVersion": "9", "plugins": [{"type": "a"}]}', INCOMPATIBLE_VERSION, "9"),
        (
            '{"name": "n", "plugins": [{"type": "a"}, {"type": "macvlan-egress"}, {"type": "macvlan-egress"}]}',
            INVALID_CONFIGURATION,
            "twice",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, code: int, word: str) -> None:
    with refused(code, word):
        parse(text, listed=True)


def test_list_in_a_lone_configuration_is_refused_as_runtimes_refuse_it() -> None:
    with refused(INVALID_CONFIGURATION, ".conflist"):
        parse('{"name": "n", "plugins": [{"type": "a"}]}', listed=False)


def test_network_of_our_own_keeps_its_only_plugin() -> None:
    with refused(INVALID_CONFIGURATION, "network of its own"):
        parse('{"name": "n", "plugins": [{"type": "macvlan-egress"}]}', listed=True).without_entry()
