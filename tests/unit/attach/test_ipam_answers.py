"""What an IPAM plugin answers, and what is made of it: addresses, or an error that names the plugin."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni_macvlan_egress.protocol.errors import IPAM_FAILED, TRY_AGAIN_LATER, CniError

from .. import json_values
from ..protocol import golden
from ..refusals import refused
from .plugin import Plugin


def leased(
    plugin: Plugin, answer: dict[str, Any], version: str = "1.1.0"
) -> tuple[list[str], list[str], list[str]]:
    """Sources, gateways and routes that an answer leads to."""
    addressing, _ = plugin.answers(answer).add(version)
    routes = [f"{destination}{f' via {via}' if via else ''}" for destination, via in addressing.routes]
    return list(map(str, addressing.sources)), list(map(str, addressing.gateways)), routes


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"ips": [{"address": "192.168.12.66/24"}]}, (["192.168.12.66/24"], [], [])),
        (
            {"ips": [{"address": "192.168.12.66/24", "gateway": "192.168.12.1"}]},
            (["192.168.12.66/24"], ["192.168.12.1"], []),
        ),
        (
            {
                "ips": [{"address": "fd00::66/64", "gateway": "fe80::1"}, {"address": "192.168.12.66/32"}],
                "routes": [
                    {"dst": "0.0.0.0/0"},
                    {"dst": "10.0.0.0/8", "gw": "192.168.12.7"},
                    {"dst": "::/0", "gw": ""},
                ],
            },
            (
                ["fd00::66/64", "192.168.12.66/32"],
                ["fe80::1"],
                ["0.0.0.0/0", "10.0.0.0/8 via 192.168.12.7", "::/0"],
            ),
        ),
        (
            {"ips": [{"address": "192.168.12.66/24"}], "routes": None, "dns": {}},
            (["192.168.12.66/24"], [], []),
        ),
    ],
    ids=str,
)
def test_answer_is_addresses_gateways_and_routes(
    plugin: Plugin, answer: dict[str, Any], found: tuple
) -> None:
    assert leased(plugin, answer) == found


@pytest.mark.parametrize("version", golden.VERSIONS)
def test_answer_may_be_of_any_version(plugin: Plugin, version: str) -> None:
    assert leased(plugin, golden.result(version), version) == (
        ["10.1.0.5/16", "fd00::5/64"],
        ["10.1.0.1", "fd00::1"],
        ["0.0.0.0/0 via 10.1.0.1", "192.168.0.0/16 via 10.1.0.2", "::/0 via fd00::1"],
    )


def test_answer_is_of_the_version_it_says_it_is_of(plugin: Plugin) -> None:
    answer = {"cniVersion": "0.2.0", "ip4": {"ip": "192.168.12.66/24"}}
    assert leased(plugin, answer, "1.0.0")[0] == ["192.168.12.66/24"]


def test_dns_of_the_answer_is_handed_on(plugin: Plugin) -> None:
    answer = {"ips": [{"address": "192.168.12.66/24"}], "dns": {"nameservers": ["10.0.0.1"]}}
    _, result = plugin.answers(answer).add("1.0.0")
    assert result["dns"] == answer["dns"]


# -- bad answers


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "no address"),
        ({"ips": []}, "no address"),
        ({"ips": [{"address": "192.168.12.0/24"}]}, "192.168.12.0"),
        ({"ips": [{"address": "pool"}]}, "pool"),
        ({"ips": [{"address": ""}]}, "''"),
        ({"ips": [{"address": 5}]}, "ips"),
        ({"ips": 7}, "ips"),
        ({"ips": [None]}, "ips"),
        ({"ips": [{"address": "192.168.12.66/24", "gateway": "router"}]}, "router"),
        ({"ips": [{"address": "192.168.12.66/24", "gateway": 3232238593}]}, "3232238593"),
        ({"ips": [{"address": "192.168.12.66/24", "gateway": 1.5}]}, "1.5"),
        ({"ips": [{"address": "192.168.12.66/24", "gateway": ["192.168.12.1"]}]}, "192.168.12.1"),
        ({"ips": [{"address": "192.168.12.66/24"}], "routes": [{"dst": "10.1.0.0/8"}]}, "10.0.0.0/8"),
        ({"ips": [{"address": "192.168.12.66/24"}], "routes": [{"gw": "10.0.0.1"}]}, "routes"),
        ({"ips": [{"address": "192.168.12.66/24"}], "routes": [{"dst": "0.0.0.0/0", "gw": True}]}, "True"),
    ],
    ids=str,
)
def test_unusable_answer_is_the_plugins_failure_and_shown(
    plugin: Plugin, answer: dict[str, Any], words: str
) -> None:
    with refused(IPAM_FAILED, "'pool'", words):
        plugin.answers(answer).add("1.1.0")


@pytest.mark.parametrize("output", [b"no json", b"[]", b"\xff\xfe", b"{", b'{"ips": NaN}', b"null"])
@pytest.mark.parametrize("status", [0, 1])
def test_answer_that_is_no_json_is_shown(plugin: Plugin, output: bytes, status: int) -> None:
    with pytest.raises(CniError) as caught:
        plugin.answers(output, status, b"my last words").add("1.1.0")
    assert caught.value.code == IPAM_FAILED
    assert "'pool'" in caught.value.msg
    assert repr(output) in caught.value.details or "my last words" in caught.value.details


@pytest.mark.parametrize(
    ("answer", "stderr", "code", "words"),
    [
        (
            {"code": 7, "msg": "my own words", "details": "and more"},
            b"",
            IPAM_FAILED,
            ["my own words", "and more"],
        ),
        ({"code": 11, "msg": "busy"}, b"", TRY_AGAIN_LATER, ["busy"]),
        ({"code": 999, "msg": ""}, b"", IPAM_FAILED, ["999"]),
        ({}, b"panic: broken", IPAM_FAILED, ["panic: broken", "status 3"]),
        (b"", b"panic: \xff", IPAM_FAILED, ["panic", "status 3"]),
        (b"  \n", b"", IPAM_FAILED, ["status 3"]),
    ],
    ids=str,
)
def test_error_of_the_plugin_is_handed_on_in_its_own_words(
    plugin: Plugin, answer: object, stderr: bytes, code: int, words: list[str]
) -> None:
    with refused(code, "'pool'", "ADD", *words):
        plugin.answers(answer, 3, stderr).add("1.1.0")


def test_words_of_the_plugin_are_a_short_line_for_a_terminal(plugin: Plugin) -> None:
    answer = {"code": 99, "msg": "\x1b[31mred\nand " + "long " * 2000, "details": "\x07" * 2000}
    with pytest.raises(CniError) as caught:
        plugin.answers(answer, 3).add("1.1.0")
    for text in (caught.value.msg, caught.value.details):
        assert text.isprintable()
        assert len(text) < 600
    assert r"\x1b[31mred and long long" in caught.value.msg


def test_error_without_exit_status_is_no_success(plugin: Plugin) -> None:
    with refused(IPAM_FAILED, "'pool'"):
        plugin.answers({"code": 7, "msg": "my own words"}).add("1.1.0")


parts = st.one_of(
    json_values.values,
    st.sampled_from(["192.168.12.66/24", "192.168.12.1", "fd00::1", "10.0.0.0/8", "0.0.0.0/0"]),
)
entries = st.lists(
    st.dictionaries(st.sampled_from(["address", "gateway", "dst", "gw", "ip", "name"]), parts), max_size=2
)
good_ip = st.just([{"address": "192.168.12.66/24"}])
answers = st.fixed_dictionaries(
    {},
    optional={
        "ips": entries | good_ip | json_values.values,
        "routes": entries | json_values.values,
        "ip4": json_values.values | st.dictionaries(st.sampled_from(["ip", "gateway", "routes"]), parts),
        "interfaces": entries | json_values.values,
        "cniVersion": st.sampled_from([*golden.VERSIONS, "9.9.9"]) | json_values.scalars,
    },
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers, st.sampled_from(golden.VERSIONS), st.sampled_from([0, 1]))
def test_any_answer_is_addresses_or_an_error(
    plugin: Plugin, answer: dict[str, Any], version: str, status: int
) -> None:
    try:
        addressing, _ = plugin.answers(answer, status).add(version)
    except CniError as error:
        assert error.code in (IPAM_FAILED, TRY_AGAIN_LATER)
    else:
        assert addressing.sources
