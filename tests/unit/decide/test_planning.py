"""What an ADD will do to the kernel: addresses, routes and rules in the words of ip(8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cni_macvlan_egress.decide.facts import HostFacts, RouteFact, RuleFact

from .examples import ASSIGN, BRIDGED, CALICO, DUAL, NIC, planned, request, shown, source

FROM_99 = [
    "-4 7200: from 192.168.12.99/32 lookup 7200",
    "-4 7201: from all oif macvlan0 lookup 7200",
]
FROM_V6 = [
    "-6 7200: from fd00:12::99/128 lookup 7200",
    "-6 7201: from all oif macvlan0 lookup 7200",
]

NODES = ["10.244.0.0/16", "192.168.12.0/24", "fd00:12::/64"]

# What a chained pod gets by default: a table of its own, and nothing in the main table.
CHAINED: dict[str, tuple[dict[str, str], dict[str, list[str]]]] = {
    "IPv4 with prefix": (
        source("192.168.12.99/24", "192.168.12.1"),
        {
            "addresses": ["192.168.12.99/24 noprefixroute"],
            "routes": [
                "192.168.12.0/24 dev macvlan0 table 7200 src 192.168.12.99",
                "0.0.0.0/0 via 192.168.12.1 dev macvlan0 table 7200 src 192.168.12.99",
            ],
            "rules": FROM_99,
        },
    ),
    "IPv4 alone": (
        source("192.168.12.99", "192.168.12.1"),
        {
            "addresses": ["192.168.12.99/32 noprefixroute"],
            "routes": [
                "192.168.12.1/32 dev macvlan0 table 7200 src 192.168.12.99",
                "0.0.0.0/0 via 192.168.12.1 dev macvlan0 table 7200 src 192.168.12.99",
            ],
            "rules": FROM_99,
        },
    ),
    "gateway outside the prefix": (
        source("192.168.12.99/24", "10.0.0.1"),
        {
            "addresses": ["192.168.12.99/24 noprefixroute"],
            "routes": [
                "192.168.12.0/24 dev macvlan0 table 7200 src 192.168.12.99",
                "10.0.0.1/32 dev macvlan0 table 7200 src 192.168.12.99",
                "0.0.0.0/0 via 10.0.0.1 dev macvlan0 table 7200 src 192.168.12.99",
            ],
            "rules": FROM_99,
        },
    ),
    "no gateway": (
        source("192.168.12.99/24"),
        {
            "addresses": ["192.168.12.99/24 noprefixroute"],
            "routes": ["192.168.12.0/24 dev macvlan0 table 7200 src 192.168.12.99"],
            "rules": FROM_99,
        },
    ),
    "IPv6 with prefix": (
        source("fd00:12::99/64", "fd00:12::1"),
        {
            "addresses": ["fd00:12::99/64 noprefixroute"],
            "routes": [
                "fd00:12::/64 dev macvlan0 table 7200 src fd00:12::99",
                "fe80::/64 dev macvlan0 table 7200",
                "::/0 via fd00:12::1 dev macvlan0 table 7200 src fd00:12::99",
            ],
            "rules": FROM_V6,
        },
    ),
    "IPv6 alone, link-local gateway": (
        source("fd00:12::99", "fe80::1"),
        {
            "addresses": ["fd00:12::99/128 noprefixroute"],
            "routes": [
                "fe80::/64 dev macvlan0 table 7200",
                "::/0 via fe80::1 dev macvlan0 table 7200 src fd00:12::99",
            ],
            "rules": FROM_V6,
        },
    ),
    "both families": (
        DUAL,
        {
            "addresses": ["192.168.12.99/24 noprefixroute", "fd00:12::99/64 noprefixroute"],
            "routes": [
                "192.168.12.0/24 dev macvlan0 table 7200 src 192.168.12.99",
                "0.0.0.0/0 via 192.168.12.1 dev macvlan0 table 7200 src 192.168.12.99",
                "fd00:12::/64 dev macvlan0 table 7200 src fd00:12::99",
                "fe80::/64 dev macvlan0 table 7200",
                "::/0 via fd00:12::1 dev macvlan0 table 7200 src fd00:12::99",
            ],
            "rules": FROM_99 + FROM_V6,
        },
    ),
}


@pytest.mark.parametrize("case", CHAINED)
@pytest.mark.parametrize("pod", [CALICO, BRIDGED], ids=["calico", "bridge"])
def test_chained_pod_keeps_its_main_table(case: str, pod: HostFacts) -> None:
    annotations, expected = CHAINED[case]
    assert shown(planned(request(annotations), pod)) == expected


# -- routes: default

CLUSTER = ["10.244.0.0/16", "10.96.0.0/12", "fd00:244::/64"]
TO_LAN_4 = [
    *FROM_99,
    "-4 7202: from 10.244.0.5/32 lookup main",
    "-4 7203: from all lookup main suppress_prefixlength 0",
    "-4 7204: from all lookup 7200",
]
TO_LAN_6 = [
    *FROM_V6,
    "-6 7202: from fd00:244::5/128 lookup main",
    "-6 7203: from all lookup main suppress_prefixlength 0",
    "-6 7204: from all lookup 7200",
]


def to_lan(annotations: dict[str, str], pod: HostFacts, **conf: Any) -> tuple[list[str], list[str]]:
    """The rules under `routes: default`, and the routes that keep node and cluster on the main interface."""
    plan = shown(planned(request(annotations, routes="default", clusterNetworks=CLUSTER, **conf), pod))
    return plan["rules"], [route for route in plan["routes"] if "dev eth0" in route]


def test_default_route_moves_and_calicos_pod_keeps_node_and_cluster() -> None:
    rules, kept = to_lan(DUAL, CALICO)
    assert rules == TO_LAN_4 + TO_LAN_6
    assert kept == [
        "192.168.12.10/32 via 169.254.1.1 dev eth0",
        "fd00:12::10/128 via fe80::ecee:eeff:feee:eeee dev eth0",
        "10.244.0.0/16 via 169.254.1.1 dev eth0",
        "10.96.0.0/12 via 169.254.1.1 dev eth0",
        "fd00:244::/64 via fe80::ecee:eeff:feee:eeee dev eth0",
    ]


def test_default_route_moves_and_bridges_pod_keeps_what_only_the_default_route_reached() -> None:
    rules, kept = to_lan(source("192.168.12.99/24", "192.168.12.1"), BRIDGED)
    assert rules == TO_LAN_4
    # 10.96.0.0/12 has a route of its own already.
    assert kept == ["192.168.12.10/32 via 10.244.0.1 dev eth0", "10.244.0.0/16 via 10.244.0.1 dev eth0"]


def test_family_without_gateway_keeps_its_default_route() -> None:
    rules, _ = to_lan(source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1"), CALICO)
    assert rules == TO_LAN_4 + FROM_V6


def test_pod_without_default_route_keeps_nothing() -> None:
    pod = replace(CALICO, routes=())
    _, kept = to_lan(DUAL, pod)
    assert kept == []


def test_onlink_and_metric_of_the_default_route_are_minded() -> None:
    defaults = (
        RouteFact("0.0.0.0/0", "eth0", "169.254.1.2", metric=200),
        RouteFact("0.0.0.0/0", "eth0", "169.254.1.1", metric=100, onlink=True),
        RouteFact("0.0.0.0/0", "net1", "10.9.9.9"),  # of another interface
        RouteFact("0.0.0.0/0", "eth0", "10.9.9.8", table=100),
    )
    _, kept = to_lan(source("192.168.12.99/24", "192.168.12.1"), replace(CALICO, routes=defaults))
    assert kept == [
        "192.168.12.10/32 via 169.254.1.1 dev eth0 onlink",
        "10.244.0.0/16 via 169.254.1.1 dev eth0 onlink",
        "10.96.0.0/12 via 169.254.1.1 dev eth0 onlink",
    ]


def test_annotation_can_spare_a_pod_the_configurations_default() -> None:
    rules, kept = to_lan({**DUAL, "macvlan-egress/routes": "destinations"}, CALICO)
    assert (rules, kept) == (FROM_99 + FROM_V6, [])


# -- bare

BARE = {ASSIGN: "true"}


@pytest.mark.parametrize(
    ("pod", "kept"),
    [
        (
            CALICO,
            [
                "192.168.12.10/32 via 169.254.1.1 dev eth0",
                "fd00:12::10/128 via fe80::ecee:eeff:feee:eeee dev eth0",
                "10.244.0.0/16 via 169.254.1.1 dev eth0",
                "10.96.0.0/12 via 169.254.1.1 dev eth0",
                "fd00:244::/64 via fe80::ecee:eeff:feee:eeee dev eth0",
            ],
        ),
        (BRIDGED, ["192.168.12.10/32 via 10.244.0.1 dev eth0", "10.244.0.0/16 via 10.244.0.1 dev eth0"]),
        (replace(CALICO, routes=()), []),
    ],
    ids=["calico", "bridge", "no default route"],
)
def test_bare_interface_gets_no_address_and_the_pod_keeps_node_and_cluster(
    pod: HostFacts, kept: list[str]
) -> None:
    plan = planned(request(BARE, clusterNetworks=CLUSTER), pod)
    assert shown(plan) == {"addresses": [], "routes": kept, "rules": []}
    assert plan.sysctls == ()
    assert plan.conflicts.detection == "off"


def test_address_of_the_node_on_another_nic_needs_no_route() -> None:
    plan = planned(request(BARE), CALICO, nic=replace(NIC, name="eth1"))
    assert shown(plan)["routes"] == ["10.20.0.10/32 via 169.254.1.1 dev eth0"]


def test_network_that_is_named_twice_is_kept_by_one_route() -> None:
    cluster = ["10.244.0.0/16", "10.244.0.0/16", "192.168.12.10/32"]
    plan = planned(request(BARE, clusterNetworks=cluster), BRIDGED)
    assert shown(plan)["routes"] == [
        "192.168.12.10/32 via 10.244.0.1 dev eth0",
        "10.244.0.0/16 via 10.244.0.1 dev eth0",
    ]


# -- the table


@pytest.mark.parametrize(
    ("routes", "rules", "table"),
    [
        ((), (), 7200),
        ((RouteFact("0.0.0.0/0", "net1", table=7200),), (), 7201),
        ((), (RuleFact(4, 100, 7200),), 7201),
        ((RouteFact("0.0.0.0/0", "net1", table=7201),), (RuleFact(6, 100, 7200),), 7202),
        ((RouteFact("0.0.0.0/0", "net1", table=7201),), (), 7200),
    ],
)
def test_table_is_one_that_nobody_uses(
    routes: tuple[RouteFact, ...], rules: tuple[RuleFact, ...], table: int
) -> None:
    pod = replace(CALICO, routes=CALICO.routes + routes, rules=CALICO.rules + rules)
    plan = planned(request(DUAL, routes="default"), pod)
    assert {rule.table for rule in plan.rules} == {table, 254}
    assert {route.table for route in plan.routes} == {table, 254}


def test_nodes_network_may_be_the_lan() -> None:
    addresses = [address.address for address in planned(request(DUAL, clusterNetworks=NODES)).addresses]
    assert addresses == ["192.168.12.99/24", "fd00:12::99/64"]
