"""What an ADD does where the macvlan is the network itself, or an IPAM plugin gives its addresses."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from cni_macvlan_egress.decide.addressing import Addressing
from cni_macvlan_egress.decide.facts import HostFacts
from cni_macvlan_egress.decide.request import Request

from .examples import ASSIGN, CALICO, EMPTY, planned, request, shown


def interfaces(*texts: str) -> tuple[Any, ...]:
    return tuple(ipaddress.ip_interface(text) for text in texts)


def gateways(*texts: str) -> tuple[Any, ...]:
    return tuple(ipaddress.ip_address(text) for text in texts)


def via(*pairs: tuple[str, str | None]) -> tuple[Any, ...]:
    return tuple((ipaddress.ip_network(to), ipaddress.ip_address(gw) if gw else None) for to, gw in pairs)


ALONE = request(chained=False, ifname="net1")
POOL = request(chained=False, ifname="net1", ipam={"type": "host-local"})
OF_99 = ["-4 7200: from 192.168.12.99/32 lookup 7200", "-4 7201: from all oif net1 lookup 7200"]
BY_PREFIX = [
    "192.168.12.0/24 dev net1 table 7200 src 192.168.12.99",
    "0.0.0.0/0 via 192.168.12.1 dev net1 table 7200 src 192.168.12.99",
]
BY_HOST_ROUTE = [
    "192.168.12.1/32 dev net1 table 7200 src 192.168.12.99",
    "192.168.12.1/32 dev net1 src 192.168.12.99",
    "0.0.0.0/0 via 192.168.12.1 dev net1 table 7200 src 192.168.12.99",
]
LEASED = (interfaces("192.168.12.99/24"), gateways("192.168.12.1"))

STANDALONE: dict[str, tuple[Request, Addressing, list[str]]] = {
    "no gateway": (ALONE, Addressing(LEASED[0]), BY_PREFIX[:1]),
    "with gateway": (ALONE, Addressing(*LEASED), [*BY_PREFIX, "0.0.0.0/0 via 192.168.12.1 dev net1"]),
    "gateway out of the prefix": (
        ALONE,
        Addressing(interfaces("192.168.12.99"), gateways("192.168.12.1")),
        [*BY_HOST_ROUTE, "0.0.0.0/0 via 192.168.12.1 dev net1"],
    ),
    "pool without routes": (POOL, Addressing(*LEASED), BY_PREFIX),
    "pool with routes": (
        POOL,
        Addressing(*LEASED, via(("0.0.0.0/0", None), ("10.9.0.0/16", "192.168.12.7"))),
        [*BY_PREFIX, "0.0.0.0/0 via 192.168.12.1 dev net1", "10.9.0.0/16 via 192.168.12.7 dev net1"],
    ),
    "pool with a route and no gateway": (
        POOL,
        Addressing(LEASED[0], (), via(("10.9.0.0/16", None))),
        [*BY_PREFIX[:1], "10.9.0.0/16 dev net1"],
    ),
    "pool that names a route twice": (
        POOL,
        Addressing(*LEASED, via(("10.9.0.0/16", None), ("10.9.0.0/16", "192.168.12.1"))),
        [*BY_PREFIX, "10.9.0.0/16 via 192.168.12.1 dev net1"],
    ),
}


@pytest.mark.parametrize("case", STANDALONE)
def test_standalone_interface_has_its_prefix_and_routes_in_the_main_table(case: str) -> None:
    asked, addressing, routes = STANDALONE[case]
    plan = planned(asked, EMPTY, addressing=addressing)
    assert shown(plan) == {"addresses": [str(addressing.sources[0])], "routes": routes, "rules": OF_99}


@pytest.mark.parametrize("asked", [ALONE, POOL], ids=["runtime", "pool"])
def test_default_route_that_the_pod_has_already_is_left_to_it(asked: Request) -> None:
    addressing = Addressing(*LEASED, via(("0.0.0.0/0", None)))
    assert shown(planned(asked, CALICO, addressing=addressing))["routes"] == BY_PREFIX


@pytest.mark.parametrize("pod", [CALICO, replace(CALICO, routes=())], ids=["calico", "no route"])
def test_pool_of_a_chained_pod_gives_its_routes_but_no_default_route(pod: HostFacts) -> None:
    asked = request({ASSIGN: "true"}, ipam={"type": "host-local"})
    addressing = Addressing(*LEASED, via(("0.0.0.0/0", None), ("10.9.0.0/16", None)))
    routes = shown(planned(asked, pod, addressing=addressing))["routes"]
    # Nothing in the main table leads to the gateway, so that the kernel has to be told that it is on the link.
    in_main = [route for route in routes if "table" not in route]
    assert in_main == ["10.9.0.0/16 via 192.168.12.1 dev macvlan0 onlink"]


def test_two_addresses_of_one_family_share_their_routes_and_rules() -> None:
    """The kernel refuses a route or rule that is there already."""
    addressing = Addressing(
        interfaces("192.168.12.99/24", "192.168.12.98/24", "fd00:12::99/64", "fd00:13::99/64"),
        gateways("192.168.12.1", "fd00:12::1"),
    )
    plan = planned(POOL, EMPTY, addressing=addressing)
    keys = [(route.destination, route.table) for route in plan.routes]
    assert sorted(set(keys)) == sorted(keys)
    assert len(set(plan.rules)) == len(plan.rules)
    assert {rule.source for rule in plan.rules if rule.source} == {
        "192.168.12.99/32", "192.168.12.98/32", "fd00:12::99/128", "fd00:13::99/128",
    }  # fmt: skip
