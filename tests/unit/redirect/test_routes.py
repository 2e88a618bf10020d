"""A host route for every address that traffic is sent on to, and policy rules only where the default route moves."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni_macvlan_egress.decide import planning, redirect
from cni_macvlan_egress.decide.addressing import Addressing
from cni_macvlan_egress.decide.facts import MAIN_TABLE, HostFacts
from cni_macvlan_egress.decide.plan import Forward, Plan
from cni_macvlan_egress.decide.ruleset import Passage
from cni_macvlan_egress.model.destinations import parse
from cni_macvlan_egress.protocol.errors import MASTER_UNUSABLE

from ..decide.examples import (
    BRIDGED,
    CALICO,
    DUAL,
    EMPTY,
    NIC,
    NODE,
    request,
    shown_route,
    shown_rule,
    source,
)
from ..refusals import refused
from . import lines


def addressing(sources: str, gateways: str) -> Addressing:
    return Addressing(
        tuple(ipaddress.ip_interface(one) for one in sources.split(",")),
        tuple(ipaddress.ip_address(one) for one in gateways.split(",") if one),
    )


def forward(*addresses: str, line: int = 1) -> Forward:
    family = ipaddress.ip_address(addresses[0]).version
    return Forward(line=line, text="", family=family, addresses=addresses)


@pytest.mark.parametrize(
    ("sources", "gateways", "addresses", "found"),
    [
        # beyond the gateway
        (
            "192.168.12.99/24",
            "192.168.12.1",
            ["203.0.113.25"],
            ["203.0.113.25/32 via 192.168.12.1 dev macvlan0 src 192.168.12.99 onlink"],
        ),
        # in the source's own prefix: straight
        (
            "192.168.12.99/24",
            "192.168.12.1",
            ["192.168.12.50"],
            ["192.168.12.50/32 dev macvlan0 src 192.168.12.99"],
        ),
        # the gateway itself, within the prefix and outside of it
        (
            "192.168.12.99/24",
            "192.168.12.1",
            ["192.168.12.1"],
            ["192.168.12.1/32 dev macvlan0 src 192.168.12.99"],
        ),
        ("192.168.12.99/32", "10.0.0.1", ["10.0.0.1"], ["10.0.0.1/32 dev macvlan0 src 192.168.12.99"]),
        # a /32 has no neighbours
        (
            "192.168.12.99/32",
            "192.168.12.1",
            ["192.168.12.50"],
            ["192.168.12.50/32 via 192.168.12.1 dev macvlan0 src 192.168.12.99 onlink"],
        ),
        # IPv6, with a global and with a link-local gateway
        (
            "fd00:12::99/64",
            "fd00:12::1",
            ["2001:db8::25", "fd00:12::50"],
            [
                "2001:db8::25/128 via fd00:12::1 dev macvlan0 src fd00:12::99 onlink",
                "fd00:12::50/128 dev macvlan0 src fd00:12::99",
            ],
        ),
        (
            "fd00:12::99/64",
            "fe80::1",
            ["2001:db8::25"],
            ["2001:db8::25/128 via fe80::1 dev macvlan0 src fd00:12::99 onlink"],
        ),
        # a family without gateway, or without source, has none
        ("192.168.12.99/24,fd00:12::99/64", "192.168.12.1", ["2001:db8::25"], []),
        ("192.168.12.99/24", "192.168.12.1,fd00:12::1", ["2001:db8::25"], []),
    ],
)
def test_way_to_a_destination(sources: str, gateways: str, addresses: list[str], found: list[str]) -> None:
    routes = redirect.routes([forward(one) for one in addresses], addressing(sources, gateways), "macvlan0")
    assert [shown_route(one) for one in routes] == found


def test_every_address_has_one_route_in_the_order_of_numbers() -> None:
    both = addressing("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1")
    forwards = [
        forward("2001:db8::2", "2001:db8::1"),
        forward("203.0.113.100", "203.0.113.9", line=2),
        forward("203.0.113.9", line=3),
    ]
    found = [one.destination for one in redirect.routes(forwards, both, "macvlan0")]
    assert found == ["203.0.113.9/32", "203.0.113.100/32", "2001:db8::1/128", "2001:db8::2/128"]


@pytest.mark.parametrize(
    ("only_destinations", "found"),
    [(True, []), (False, ["-4 7202: from all lookup main", "-6 7202: from all lookup main"])],
)
def test_what_comes_back_goes_on_by_the_main_table(only_destinations: bool, found: list[str]) -> None:
    passage = Passage("eth0", "macvlan0", {6: "fd00::9", 4: "10.0.0.9"}, (1500, 1500), only_destinations)
    rules = list(redirect.rules(passage, 7202))
    assert [shown_rule(one) for one in rules] == found
    assert all(one.iif == "macvlan0" for one in rules)


# -- in the plan


def planned(text: str, annotations: dict[str, str], *, pod: HostFacts = CALICO, chained: bool = True) -> Plan:
    asked = request(
        {**annotations, "macvlan-egress/destination": text},
        chained=chained,
        ifname="eth0" if chained else "net1",
    )
    forwards = redirect.forwards(asked.destinations, {}, asked.families, asked.cluster_networks)
    return planning.plan(asked, Addressing(asked.sources, asked.gateways), forwards, NIC, NODE, pod, bytes)


def assert_nothing_twice(plan: Plan) -> None:
    for items in (
        [(one.destination, one.table) for one in plan.routes],
        [(one.family, one.priority, one.source, one.oif, one.iif) for one in plan.rules],
    ):
        assert len(items) == len(set(items)), items


@pytest.mark.parametrize("routes", ["destinations", "default"])
@pytest.mark.parametrize("pod", [CALICO, BRIDGED], ids=["calico", "bridge"])
def test_other_routes_of_the_pod_are_left_alone(pod: HostFacts, routes: str) -> None:
    """But for the node, which with `default` would be sought on the LAN where no other route leads to it."""
    plan = planned("203.0.113.25\n2001:db8::25", {**DUAL, "macvlan-egress/routes": routes}, pod=pod)
    found = {one.destination for one in plan.routes if one.table == MAIN_TABLE}
    node = {4: "192.168.12.10/32", 6: "fd00:12::10/128"}
    families = {4, 6} if pod is CALICO else {4}
    kept = {node[family] for family in families} if routes == "default" else set()
    assert found == {"203.0.113.25/32", "2001:db8::25/128"} | kept
    assert_nothing_twice(plan)


@pytest.mark.parametrize("chained", [True, False])
@pytest.mark.parametrize("gateway", ["192.168.12.1", "10.0.0.1"])
def test_gateway_as_a_destination_has_one_route(gateway: str, chained: bool) -> None:
    """The way to a gateway outside the prefix is a host route as well."""
    annotations = source("192.168.12.99/28", gateway)
    pod = CALICO if chained else BRIDGED
    assert_nothing_twice(planned(f"80 tcp {gateway}", annotations, pod=pod, chained=chained))


@settings(max_examples=100)
@given(
    st.data(),
    st.sampled_from(["destinations", "default"]),
    st.sampled_from([CALICO, BRIDGED]),
)
def test_no_step_is_planned_twice(data: st.DataObject, routes: str, pod: HostFacts) -> None:
    rows = data.draw(lines.documents(with_names=False))
    text = "\n".join(line.written() for line in rows)
    assert_nothing_twice(planned(text, {**DUAL, "macvlan-egress/routes": routes}, pod=pod))


def test_destination_needs_an_interface_that_traffic_comes_in_by() -> None:
    with refused(MASTER_UNUSABLE, "main interface"):
        planned("203.0.113.25", DUAL, pod=EMPTY)
    with refused(MASTER_UNUSABLE, "default route"):
        planned("203.0.113.25", DUAL, pod=EMPTY, chained=False)


def test_lines_are_numbered_in_the_plan_as_in_the_annotation() -> None:
    text = "# first\n\n80 tcp 203.0.113.25"
    plan = planned(text, DUAL)
    (line,) = parse(text)
    assert [one.line for one in plan.forwards] == [line.line] == [3]
    assert "chain line-3-ip {" in plan.ruleset
