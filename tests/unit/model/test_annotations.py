"""The pod's annotations: whatever somebody writes is understood or refused by name, never stumbled over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cni_macvlan_egress.model import keys
from cni_macvlan_egress.model.annotations import PodAnnotations
from cni_macvlan_egress.protocol.errors import INVALID_ANNOTATION, CniError

from .. import json_values
from ..refusals import refused

ASSIGN = keys.ASSIGN
SOURCE, GATEWAY = "macvlan-egress/source", "macvlan-egress/gateway"
ROUTES, MAC, MTU = "macvlan-egress/routes", "macvlan-egress/mac", "macvlan-egress/mtu"
MODE, DESTINATION = "macvlan-egress/mode", "macvlan-egress/destination"
ONE = {SOURCE: "192.168.12.99/24", GATEWAY: "192.168.12.1"}


def parsed(annotations: dict[str, str]) -> dict[str, Any]:
    """What is found that differs from asking for nothing, in texts."""
    found = PodAnnotations.of(annotations)
    nothing = PodAnnotations()
    return {
        name: ",".join(map(str, value)) if isinstance(value, tuple) else value
        for name in PodAnnotations.__slots__
        if (value := getattr(found, name)) != getattr(nothing, name)
    }


@pytest.mark.parametrize(
    ("annotations", "found"),
    [
        ({}, {}),
        ({ASSIGN: "false"}, {}),
        ({ASSIGN: " "}, {}),
        ({"other/source": "x", "sidecar.istio.io/inject": "true"}, {}),
        ({ASSIGN: "true"}, {"attach": True}),
        ({ASSIGN: " true\n"}, {"attach": True}),
        ({ASSIGN: "eth1"}, {"attach": True, "master": "eth1"}),
        ({ASSIGN: "bond0.100"}, {"attach": True, "master": "bond0.100"}),
        ({ASSIGN: "True"}, {"attach": True, "master": "True"}),
        ({SOURCE: "192.168.12.99"}, {"attach": True, "sources": "192.168.12.99/32"}),
        ({ASSIGN: "", SOURCE: "192.168.12.99"}, {"attach": True, "sources": "192.168.12.99/32"}),
        (
            {SOURCE: "192.168.12.99/24 , fd00:12::99/64", GATEWAY: " fd00:12::1,192.168.12.1"},
            {
                "attach": True,
                "sources": "192.168.12.99/24,fd00:12::99/64",
                "gateways": "fd00:12::1,192.168.12.1",
            },
        ),
        (
            {SOURCE: "192.168.12.99", GATEWAY: "10.0.0.1"},  # outside the prefix, as OpenShift allows it
            {"attach": True, "sources": "192.168.12.99/32", "gateways": "10.0.0.1"},
        ),
        (
            {SOURCE: "fd00:12::99/64", GATEWAY: "fe80::1"},
            {"attach": True, "sources": "fd00:12::99/64", "gateways": "fe80::1"},
        ),
        (
            {**ONE, ROUTES: "default", MODE: "private", MTU: "1400", MAC: "02-00-00-00-00-07"},
            {
                "attach": True,
                "sources": "192.168.12.99/24",
                "gateways": "192.168.12.1",
                "routes": "default",
                "mode": "private",
                "mtu": 1400,
                "mac": "02:00:00:00:00:07",
            },
        ),
        ({MAC: "address"}, {"attach": True, "mac": "address"}),
        ({MAC: "kernel"}, {"attach": True, "mac": "kernel"}),
        ({MTU: "68"}, {"attach": True, "mtu": 68}),
        ({MTU: "65535"}, {"attach": True, "mtu": 65535}),
    ],
    ids=str,
)
def test_annotations_say(annotations: dict[str, str], found: dict[str, Any]) -> None:
    assert parsed(annotations) == found


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_every_mode_can_be_asked_for(mode: str) -> None:
    assert parsed({MODE: mode}) == {"attach": True, "mode": mode}


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({SOURCE: "192.168.12.99,192.168.12.98"}, [SOURCE, "'192.168.12.99,192.168.12.98'", "one a family"]),
        ({SOURCE: "192.168.12.99,"}, [SOURCE, "''"]),
        ({SOURCE: "192.168.12.99;fd00::1"}, [SOURCE, "192.168.12.99;fd00::1"]),
        ({GATEWAY: "192.168.12.1"}, [GATEWAY, "192.168.12.1", "IPv4", SOURCE]),
        ({SOURCE: "fd00::9", GATEWAY: "192.168.12.1"}, [GATEWAY, "192.168.12.1", "no IPv4 address", SOURCE]),
        ({SOURCE: "192.168.12.9", GATEWAY: "192.168.12.9"}, [GATEWAY, "192.168.12.9", SOURCE]),
        ({SOURCE: "fd00::9/64", GATEWAY: "FD00:0::9"}, [GATEWAY, "fd00::9", SOURCE]),
        ({SOURCE: "192.168.12.9/24", GATEWAY: "192.168.12.255"}, [GATEWAY, "192.168.12.255", "broadcast"]),
        ({SOURCE: "192.168.12.9/24", GATEWAY: "192.168.12.0"}, [GATEWAY, "192.168.12.0", "192.168.12.0/24"]),
        ({DESTINATION: "203.0.113.25"}, [DESTINATION, SOURCE]),
        ({ROUTES: "default"}, [ROUTES, SOURCE]),
        ({ROUTES: "destinations"}, [ROUTES, SOURCE]),
        ({SOURCE: "192.168.12.9", ROUTES: "default"}, [ROUTES, "default", GATEWAY]),
        ({**ONE, ROUTES: "all"}, [ROUTES, "'all'", "destinations, default"]),
        ({SOURCE: "fd00::9/64", MTU: "1279"}, [MTU, "1279", "1280", "RFC 8200"]),
        ({MTU: "67"}, [MTU, "'67'", "68"]),
        ({MTU: "65536"}, [MTU, "65535"]),
        ({MTU: "+1400"}, [MTU]),
        ({MTU: "1_400"}, [MTU]),
        ({MTU: "9" * 5000}, [MTU]),
        ({MODE: "Bridge"}, [MODE, "'Bridge'", "bridge, private, vepa, passthru"]),
        ({MAC: "01:00:00:00:00:01"}, [MAC, "01:00:00:00:00:01", "multicast"]),
        ({ASSIGN: "false", SOURCE: "192.168.12.9", MTU: "1400"}, [ASSIGN, MTU, SOURCE]),
        ({ASSIGN: "a/b"}, [ASSIGN, "'a/b'", "NIC"]),
        ({"macvlan-egress/gatway": "x"}, ["macvlan-egress/gatway", "did you mean 'gateway'?"]),
        ({"macvlan-egress/": "x"}, ["macvlan-egress/", "source"]),
    ],
    ids=str,
)
def test_rule_that_is_broken_is_named(annotations: dict[str, str], words: list[str]) -> None:
    with refused(INVALID_ANNOTATION, *words):
        PodAnnotations.of(annotations)


@pytest.mark.parametrize("value", [True, 1, 1.5, None, ["true"], {}])
@pytest.mark.parametrize("name", [ASSIGN, SOURCE, "macvlan-egress/nosuch"])
def test_value_that_is_no_text_is_refused(name: str, value: object) -> None:
    with refused(INVALID_ANNOTATION, name, "string"):
        PodAnnotations.of({name: value})


@pytest.mark.parametrize("value", [True, 1, None, ["x"], {}, "\ud800"])
def test_annotations_of_others_are_no_concern(value: object) -> None:
    assert PodAnnotations.of({"other/annotation": value, **ONE}) == PodAnnotations.of(ONE)


# -- properties

GOOD = {
    ASSIGN: ["true", "false", "", "eth1"],
    SOURCE: ["192.168.12.99", "192.168.12.99/24", "fd00:12::99/64", "192.168.12.99/24,fd00:12::99/64"],
    GATEWAY: ["192.168.12.1", "fd00:12::1", "fe80::1", "192.168.12.1,fd00:12::1"],
    ROUTES: ["default", "destinations"],
    MAC: ["kernel", "address", "02:00:00:00:00:07"],
    MTU: ["1400", "68", "1280"],
    MODE: ["bridge", "private"],
    DESTINATION: ["203.0.113.25", "80 tcp 203.0.113.25"],
}
good = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in GOOD.items()})
characters = st.text(st.sampled_from("0123456789abdefx:./%,- \n\ud800é"), max_size=20)
near = st.one_of(
    st.sampled_from([text for texts in GOOD.values() for text in texts]), characters, json_values.any_text
)
names = st.sampled_from([*GOOD, "macvlan-egress/", "other/x"]) | json_values.any_text.map(
    "macvlan-egress/{}".format
)
wild = st.dictionaries(names, near, max_size=5)


@settings(max_examples=120)
@given(st.builds(lambda some, more: {**some, **more}, good, wild) | st.dictionaries(st.text(), st.text()))
@example({DESTINATION: "\ud800", **ONE})
@example({ASSIGN: "\ud800"})
@example({ASSIGN: "\udcff"})
@example({SOURCE: "\ud800"})
@example({"macvlan-egress/\ud800": "x"})
def test_any_texts_are_understood_or_refused(annotations: dict[str, str]) -> None:
    try:
        found = PodAnnotations.of(annotations)
    except CniError as error:
        assert error.code == INVALID_ANNOTATION
        assert error.msg.startswith("annotation ")
        # Else an ADD would pass by what this refuses.
        assert keys.asks_to_attach(annotations)
    else:
        assert found.attach is keys.asks_to_attach(annotations)


def said_again(found: PodAnnotations) -> dict[str, str]:
    """The annotations that say what was understood, in the plainest words."""
    texts = {
        SOURCE: ",".join(map(str, found.sources)),
        GATEWAY: ",".join(map(str, found.gateways)),
        ROUTES: found.routes,
        MAC: found.mac,
        MTU: str(found.mtu or ""),
        MODE: found.mode,
        ASSIGN: found.master or ("true" if found.attach else ""),
    }
    return {name: text for name, text in texts.items() if text}


@given(good.filter(lambda annotations: DESTINATION not in annotations))
def test_what_was_understood_can_be_said_again(annotations: dict[str, str]) -> None:
    try:
        found = PodAnnotations.of(annotations)
    except CniError:
        return
    assert PodAnnotations.of(said_again(found)) == found
    assert PodAnnotations.of(annotations) == found
