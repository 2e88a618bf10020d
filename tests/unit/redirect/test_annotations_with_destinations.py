"""Destinations beside the other annotations: every line has an address to come from and a gateway to go through."""

from __future__ import annotations

import pytest

from cni_macvlan_egress.model import keys
from cni_macvlan_egress.model.annotations import DESTINATION, PodAnnotations
from cni_macvlan_egress.protocol.errors import INVALID_ANNOTATION

from ..refusals import refused

SOURCE, GATEWAY = "macvlan-egress/source", "macvlan-egress/gateway"
V4 = {SOURCE: "192.168.12.99/24", GATEWAY: "192.168.12.1"}
V6 = {SOURCE: "fd00:12::99/64", GATEWAY: "fd00:12::1"}
DUAL = {SOURCE: "192.168.12.99/24,fd00:12::99/64", GATEWAY: "192.168.12.1,fd00:12::1"}
DUAL_THROUGH_V4 = {**DUAL, GATEWAY: "192.168.12.1"}


@pytest.mark.parametrize(
    ("others", "destination", "found"),
    [
        (V4, "203.0.113.25", ["1: 203.0.113.25"]),
        (V4, "80 tcp 203.0.113.25", ["1: 80 tcp 203.0.113.25"]),
        (V6, "80 tcp 2001:db8::25", ["1: 80 tcp 2001:db8::25"]),
        (DUAL, "80 tcp 203.0.113.25", ["1: 80 tcp 203.0.113.25"]),
        (DUAL, "203.0.113.25\n2001:db8::25", ["1: 203.0.113.25", "2: 2001:db8::25"]),
        (DUAL_THROUGH_V4, "203.0.113.25", ["1: 203.0.113.25"]),
        (V4, "db.example.com", ["1: db.example.com"]),
        (V6, "db.example.com", ["1: db.example.com"]),
        (DUAL_THROUGH_V4, "db.example.com", ["1: db.example.com"]),
        ({**V6, GATEWAY: "fe80::1"}, "2001:db8::25", ["1: 2001:db8::25"]),
        ({**V4, SOURCE: "192.168.12.99", GATEWAY: "10.0.0.1"}, "203.0.113.25", ["1: 203.0.113.25"]),
        # the gateway, and a host of the LAN
        (V4, "192.168.12.1", ["1: 192.168.12.1"]),
        (V4, "80 tcp 192.168.12.50", ["1: 80 tcp 192.168.12.50"]),
        # blank lines at either end count
        (V4, "\n\n  203.0.113.25\n\n", ["3: 203.0.113.25"]),
        ({**V4, "macvlan-egress/routes": "default"}, "203.0.113.25", ["1: 203.0.113.25"]),
    ],
    ids=str,
)
def test_destinations_are_read(others: dict[str, str], destination: str, found: list[str]) -> None:
    annotations = PodAnnotations.of({**others, DESTINATION: destination})
    assert annotations.attach
    assert [f"{one.line}: {one}" for one in annotations.destinations] == found


@pytest.mark.parametrize(
    ("others", "destination", "words"),
    [
        ({}, "203.0.113.25", ["line 1", "'203.0.113.25'", "IPv4 address", SOURCE]),
        ({}, "2001:db8::25", ["line 1", "'2001:db8::25'", "IPv6 address", SOURCE]),
        ({}, "db.example.com", ["line 1", "'db.example.com'", "address", SOURCE]),
        ({keys.ASSIGN: "true"}, "203.0.113.25", ["line 1", SOURCE]),
        ({SOURCE: V4[SOURCE]}, "203.0.113.25", ["line 1", "IPv4 address", GATEWAY]),
        ({SOURCE: V6[SOURCE]}, "2001:db8::25", ["line 1", "IPv6 address", GATEWAY]),
        ({SOURCE: V4[SOURCE]}, "db.example.com", ["line 1", GATEWAY]),
        ({SOURCE: V6[SOURCE]}, "db.example.com", ["line 1", GATEWAY]),
        ({SOURCE: DUAL[SOURCE]}, "db.example.com", ["line 1", GATEWAY]),
        (V4, "2001:db8::25", ["line 1", "'2001:db8::25'", "IPv6 address", SOURCE]),
        (V6, "80 tcp 203.0.113.25 8080", ["line 1", "'80 tcp 203.0.113.25 8080'", "IPv4 address", SOURCE]),
        (DUAL_THROUGH_V4, "2001:db8::25", ["line 1", "IPv6 address", GATEWAY]),
        (DUAL_THROUGH_V4, "80 tcp 1.2.3.4\n\n80 tcp 2001:db8::25", ["line 3", "'80 tcp 2001:db8::25'"]),
        (V4, "192.168.12.99", ["line 1", "192.168.12.99", "own address", SOURCE]),
        (V6, "80 tcp FD00:12:0::99", ["line 1", "fd00:12::99", "own address", SOURCE]),
        (V4, "80 tcp 203.0.113.25,192.168.12.99", ["line 1", "192.168.12.99", "own address"]),
        (V4, "", ["line 1", "no destination"]),
        (V4, " \n# nothing\n", ["no destination"]),
        (V4, "80 tcp 203.0.113.25\n80 tcp", ["line 2", "'80 tcp'", "PORT PROTO"]),
        (V4, "80 tcp 203.0.113.25,fd00::1", ["line 1", "'203.0.113.25,fd00::1'", "one family"]),
        (V4, "80 tcp 203.0.113.25\n80 tcp 203.0.113.26", ["line 2", "taken by line 1"]),
        ({keys.ASSIGN: "false"}, "203.0.113.25", ["contradicts", "'false'"]),
    ],
    ids=str,
)
def test_combination_is_refused_by_name(others: dict[str, str], destination: str, words: list[str]) -> None:
    with refused(INVALID_ANNOTATION, DESTINATION, *words):
        PodAnnotations.of({**others, DESTINATION: destination})


@pytest.mark.parametrize("value", [None, 80, ["203.0.113.25"], {"80": "203.0.113.25"}])
def test_destination_that_is_no_text_is_refused(value: object) -> None:
    with refused(INVALID_ANNOTATION, DESTINATION, "string"):
        PodAnnotations.of({**V4, DESTINATION: value})
