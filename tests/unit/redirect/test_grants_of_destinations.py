"""A grant that limits destinations: networks cover addresses, names cover names, and nothing covers everything."""

from __future__ import annotations

from typing import Any

import pytest

from cni_macvlan_egress.decide import grants
from cni_macvlan_egress.decide.request import Pod
from cni_macvlan_egress.model.configuration import Configuration
from cni_macvlan_egress.protocol.errors import NOT_ALLOWED

from ..decide.examples import ASSIGN, DUAL, request
from ..refusals import refused

SHOP = Pod("shop", "cart", "1-2-3")
DESTINATION = "macvlan-egress/destination"


def check(granted: list[str], destination: str, others: dict[str, str] = DUAL, **more: Any) -> None:
    allow = [{"namespaces": ["shop"], "destinations": granted, **more}]
    configuration = Configuration.of({"allow": allow})
    annotations = {**others, DESTINATION: destination} if destination else others
    grants.check(configuration, request(annotations), SHOP, "eth0")


@pytest.mark.parametrize(
    ("granted", "destination"),
    [
        (["203.0.113.0/24"], "203.0.113.25"),
        (["203.0.113.25"], "80 tcp 203.0.113.25 8080"),
        (["203.0.113.25/32"], "80 tcp 203.0.113.25"),
        (["203.0.113.0/24", "198.51.100.0/24"], "80 tcp 203.0.113.25\n81 tcp 198.51.100.1"),
        (["203.0.113.0/24", "198.51.100.0/24"], "80 tcp 203.0.113.25,198.51.100.1"),
        (["2001:db8::/32"], "2001:db8::25"),
        (["0.0.0.0/0"], "203.0.113.25"),
        (["::/0", "0.0.0.0/0"], "203.0.113.25\n2001:db8::25"),
        (["db.example.com"], "db.example.com"),
        (["DB.Example.com."], "80 tcp db.example.com"),
        (["db.example.com"], "80 tcp DB.EXAMPLE.COM. 443"),
        (["*.example.com"], "80 tcp db.example.com"),
        (["*.example.com"], "80 tcp a.b.example.com"),
        (["*"], "80 tcp db.example.com"),
        (["db-*.example.com", "203.0.113.0/24"], "80 tcp db-1.example.com\n203.0.113.25"),
    ],
    ids=str,
)
def test_destination_is_covered(granted: list[str], destination: str) -> None:
    check(granted, destination)


@pytest.mark.parametrize(
    ("granted", "destination", "words"),
    [
        (["203.0.113.0/24"], "198.51.100.1", ["198.51.100.1", "line 1", "203.0.113.0/24"]),
        (["203.0.113.0/24"], "80 tcp 203.0.113.25\n81 tcp 198.51.100.1", ["198.51.100.1", "line 2"]),
        (["203.0.113.0/24"], "80 tcp 203.0.113.25,198.51.100.1", ["203.0.113.25,198.51.100.1", "line 1"]),
        (["203.0.113.0/24"], "203.0.113.25\n2001:db8::25", ["2001:db8::25", "line 2"]),
        (["0.0.0.0/0"], "2001:db8::25", ["2001:db8::25"]),
        ([], "203.0.113.25", ["203.0.113.25"]),
        # a name's addresses are its owner's to change
        (["0.0.0.0/0", "::/0"], "db.example.com", ["db.example.com", "line 1"]),
        (["203.0.113.0/24"], "80 tcp db.example.com", ["db.example.com"]),
        (["*"], "203.0.113.25", ["203.0.113.25"]),
        (["*.example.com"], "80 tcp example.com", ["example.com"]),
        (["*.example.com"], "80 tcp db.example.com.evil.net", ["db.example.com.evil.net"]),
        (["example.com"], "80 tcp db.example.com", ["db.example.com"]),
        (["db.example.com"], "80 tcp dbxexample.com", ["dbxexample.com"]),
        (["203.0.113.*"], "203.0.113.25", ["203.0.113.25"]),
    ],
    ids=str,
)
def test_destination_that_is_not_covered_is_named(
    granted: list[str], destination: str, words: list[str]
) -> None:
    with refused(NOT_ALLOWED, "'shop'", *words):
        check(granted, destination)


@pytest.mark.parametrize(
    ("others", "destination", "words"),
    [
        (DUAL, "", ["names none"]),
        ({**DUAL, "macvlan-egress/routes": "default"}, "203.0.113.25", ["routes 'default'"]),
        ({ASSIGN: "true"}, "", ["bare"]),
        ({**DUAL, "macvlan-egress/mode": "passthru"}, "203.0.113.25", ["passthru"]),
    ],
    ids=str,
)
def test_limit_cannot_be_walked_around(others: dict[str, str], destination: str, words: list[str]) -> None:
    with refused(NOT_ALLOWED, "destinations", *words):
        check(["0.0.0.0/0", "::/0", "*"], destination, others)


def test_default_routes_of_the_configuration_count_as_well() -> None:
    allow = [{"namespaces": ["shop"], "destinations": ["0.0.0.0/0"]}]
    conf = {"allow": allow, "routes": "default"}
    with refused(NOT_ALLOWED, "routes 'default'"):
        grants.check(
            Configuration.of(conf), request({**DUAL, DESTINATION: "203.0.113.25"}, **conf), SHOP, "eth0"
        )


def test_grant_without_destinations_leaves_them_free() -> None:
    configuration = Configuration.of({"allow": [{"namespaces": ["shop"]}]})
    grants.check(configuration, request({**DUAL, DESTINATION: "db.example.com"}), SHOP, "eth0")


def test_sources_and_destinations_have_to_be_covered_by_one_grant() -> None:
    allow = [
        {
            "namespaces": ["shop"],
            "sources": ["192.168.12.0/24", "fd00:12::/64"],
            "destinations": ["198.51.100.1"],
        },
        {"namespaces": ["shop"], "sources": ["10.0.0.0/8"], "destinations": ["203.0.113.25"]},
    ]
    with refused(NOT_ALLOWED, "grant 1: destination 203.0.113.25", "grant 2: source 192.168.12.99"):
        grants.check(
            Configuration.of({"allow": allow}), request({**DUAL, DESTINATION: "203.0.113.25"}), SHOP, "eth0"
        )
