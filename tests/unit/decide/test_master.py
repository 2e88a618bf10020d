"""Which NIC a macvlan is attached to, and which cannot carry one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cni_macvlan_egress.decide.facts import AddressFact, HostFacts, LinkFact, RouteFact
from cni_macvlan_egress.decide.master import choose, refusal
from cni_macvlan_egress.protocol.errors import MASTER_UNUSABLE

from ..refusals import refused
from .examples import ASSIGN, BRIDGE, LOOPBACK, NIC, NODE, PORT, SECOND_NIC, request, source


def node(
    links: tuple[LinkFact, ...] = NODE.links,
    addresses: tuple[AddressFact, ...] = NODE.addresses,
    routes: tuple[RouteFact, ...] = NODE.routes,
) -> HostFacts:
    return HostFacts(links=links, addresses=addresses, routes=routes)


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        (source("192.168.12.99/24", "192.168.12.1"), "eth0"),
        (source("192.168.12.99"), "eth0"),
        (source("10.20.0.99/16", "10.20.0.1"), "eth1"),
        (source("10.20.0.99"), "eth1"),
        (source("192.168.12.99", "10.20.0.1"), "eth1"),  # the gateway says more than the source
        (source("203.0.113.9", "10.20.0.1"), "eth1"),
        (source("203.0.113.9", "203.0.113.1"), "eth0"),  # the default route's
        (source("fd00:12::99/64", "fd00:12::1"), "eth0"),
        (source("fd00:12::99/64", "fe80::1"), "eth0"),
        (source("2001:db8::9", "fe80::1"), "eth0"),  # a link-local address is on every link
        (source("10.20.0.99,fd00:12::99", "10.20.0.1,fd00:12::1"), "eth1"),
        (source("fd00:12::99,10.20.0.99", "fd00:12::1,10.20.0.1"), "eth0"),
        (source("10.244.0.99/24"), "cni0"),  # a bridge is a master as good as any
        ({ASSIGN: "true"}, "eth0"),
        ({ASSIGN: "eth1"}, "eth1"),
        ({ASSIGN: "eth1", **source("192.168.12.99/24", "192.168.12.1")}, "eth1"),
    ],
    ids=lambda value: ",".join(value.values()) if isinstance(value, dict) else value,
)
def test_nic_is_named_or_found_by_subnet_or_default_route(annotations: dict[str, str], name: str) -> None:
    assert choose(request(annotations), NODE) == NODE.link(name)


def test_longest_prefix_then_the_older_nic_wins() -> None:
    asked = request(source("192.168.12.99", "192.168.12.129"))
    wide, narrow, same = (
        AddressFact("eth0", "192.168.12.10/24"),
        AddressFact("eth1", "192.168.12.130/25"),
        AddressFact("cni0", "192.168.12.131/25"),
    )
    for order in ((wide, narrow, same), (narrow, same, wide)):
        assert choose(asked, node(addresses=order)) == SECOND_NIC
    assert choose(request(source("192.168.12.99")), node(addresses=(narrow, wide))) == NIC


@pytest.mark.parametrize(
    ("routes", "name"),
    [
        ([RouteFact("0.0.0.0/0", "eth0", metric=200), RouteFact("0.0.0.0/0", "eth1", metric=100)], "eth1"),
        ([RouteFact("::/0", "eth1", metric=1), RouteFact("0.0.0.0/0", "eth0", metric=200)], "eth0"),
        ([RouteFact("::/0", "eth1")], "eth1"),
        ([RouteFact("0.0.0.0/0", "eth1", table=100), RouteFact("0.0.0.0/0", "eth0", metric=200)], "eth0"),
    ],
)
def test_default_route_of_the_main_table_with_the_least_metric_counts(
    routes: list[RouteFact], name: str
) -> None:
    assert choose(request({ASSIGN: "true"}), node(routes=tuple(routes))).name == name


@pytest.mark.parametrize(
    "routes", [(), (RouteFact("0.0.0.0/0", "eth0", table=100),), (RouteFact("0.0.0.0/0", "gone0"),)]
)
def test_node_that_gives_no_hint_wants_the_nic_named(routes: tuple[RouteFact, ...]) -> None:
    with refused(MASTER_UNUSABLE, "no NIC to attach to", "'master'"):
        choose(request({ASSIGN: "true"}), node(routes=routes))


@pytest.mark.parametrize("conf", [{}, {"master": "eth7"}])
def test_missing_nic_is_named_with_the_usable_ones(conf: dict[str, str]) -> None:
    annotations = {ASSIGN: "true" if conf else "eth7"}
    with refused(MASTER_UNUSABLE, "'eth7'", "usable ones are: eth0, eth1, cni0"):
        choose(request(annotations, **conf), NODE)
    with refused(MASTER_UNUSABLE, "'eth7'", "none"):
        choose(request(annotations, **conf), node(links=(LOOPBACK, PORT)))


UNUSABLE = [
    (LOOPBACK, "loopback"),
    (PORT, "port of 'cni0'"),
    (replace(NIC, up=False), "ip link set eth0 up"),
    (replace(NIC, hardware=65534), "not an Ethernet"),  # ARPHRD_NONE: tun, WireGuard
    (replace(NIC, kind="macvlan", parent=7), "macvlan itself"),
    (replace(NIC, kind="macvtap"), "macvtap itself"),
    (replace(NIC, kind="ipvlan"), "ipvlan itself"),
]


@pytest.mark.parametrize(
    ("link", "words"), UNUSABLE, ids=lambda value: value if isinstance(value, str) else ""
)
def test_nic_that_cannot_carry_a_macvlan_is_refused_with_the_reason(link: LinkFact, words: str) -> None:
    with refused(MASTER_UNUSABLE, repr(link.name), words):
        choose(request({ASSIGN: link.name}), node(links=(link,)))
    with refused(MASTER_UNUSABLE, repr(link.name), words):
        choose(request({ASSIGN: "true"}), node(links=(link,), routes=(RouteFact("0.0.0.0/0", link.name),)))


@pytest.mark.parametrize(
    "link", [NIC, SECOND_NIC, BRIDGE, replace(NIC, kind="bond"), replace(NIC, kind="vlan")]
)
def test_nic_bridge_bond_and_vlan_can_carry_one_even_without_carrier(link: LinkFact) -> None:
    assert refusal(link) == ""
    assert refusal(replace(link, carrier=False)) == ""


@pytest.mark.parametrize(("link", "_"), UNUSABLE, ids=lambda value: value if isinstance(value, str) else "")
def test_unusable_nic_is_passed_over_by_the_search_for_the_subnet(link: LinkFact, _: str) -> None:
    held = (AddressFact(link.name, "10.20.0.10/24"), AddressFact("eth1", "10.20.0.10/16"))
    found = choose(request(source("10.20.0.99")), node(links=(link, SECOND_NIC), addresses=held))
    assert found == SECOND_NIC
