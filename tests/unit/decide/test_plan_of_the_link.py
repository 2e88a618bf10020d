"""The link of a plan, its settings, and what is refused before anything is made."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cni_macvlan_egress.decide.addressing import Addressing
from cni_macvlan_egress.decide.facts import AddressFact, HostFacts, LinkFact
from cni_macvlan_egress.decide.plan import Plan
from cni_macvlan_egress.protocol.errors import (
    ADDRESS_HELD,
    INTERFACE_EXISTS,
    INVALID_CONFIGURATION,
    MASTER_UNUSABLE,
)

from ..refusals import refused
from .examples import ASSIGN, CALICO, DUAL, NIC, NODE, planned, request, source

ONE = source("192.168.12.99/24", "192.168.12.1")


def test_link_is_as_asked_for() -> None:
    link = planned(request({**DUAL, "macvlan-egress/mode": "private", "macvlan-egress/mac": "address"})).link
    assert asdict(link) == {
        "name": "macvlan0",
        "master": "eth0",
        "mode": "private",
        "mtu": 1500,
        "mac": "06:6d:c0:a8:0c:63",
    }


@pytest.mark.parametrize(
    ("wanted", "of_nic", "mtu"),
    [(None, 1500, 1500), (None, 9000, 9000), (1400, 1500, 1400), (1500, 1500, 1500)],
)
def test_mtu_is_the_nics_or_a_smaller_one(wanted: int | None, of_nic: int, mtu: int) -> None:
    plan = planned(request(ONE, mtu=wanted), nic=replace(NIC, mtu=of_nic))
    assert plan.link.mtu == mtu


def test_mtu_that_the_nic_or_ipv6_cannot_carry_is_refused() -> None:
    with refused(INVALID_CONFIGURATION, "mtu 1501", "1500", "'eth0'"):
        planned(request(ONE, mtu=1501))
    planned(request(ONE, mtu=1279))
    with refused(INVALID_CONFIGURATION, "mtu 1279", "1280"):
        planned(request(DUAL, mtu=1279))
    with refused(MASTER_UNUSABLE, "mtu 1279", "1280"):
        planned(request(DUAL), nic=replace(NIC, mtu=1279))


@pytest.mark.parametrize("kind", ["macvlan", "veth", ""])
def test_interface_that_is_there_is_named(kind: str) -> None:
    there = LinkFact(index=9, name="macvlan0", mac="02:00:00:00:00:09", mtu=1500, up=True, kind=kind)
    pod = replace(CALICO, links=(*CALICO.links, there))
    with refused(INTERFACE_EXISTS, "'macvlan0'", kind or "physical", "02:00:00:00:00:09", "'ifName'"):
        planned(request(ONE), pod)
    planned(request(ONE, ifName="lan0"), pod)


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        (source("192.168.12.10/24"), ["source address 192.168.12.10", "eth0"]),
        (source("192.168.12.10"), ["source address 192.168.12.10", "eth0"]),
        (source("10.244.0.1"), ["source address 10.244.0.1", "cni0"]),
        (source("FD00:12:0::10"), ["source address fd00:12::10", "eth0"]),
        (source("192.168.12.99,fd00:12::10"), ["source address fd00:12::10", "eth0"]),
        (source("192.168.12.99/24", "192.168.12.10"), ["gateway 192.168.12.10", "eth0", "router"]),
        (source("192.168.12.99/24", "10.20.0.10"), ["gateway 10.20.0.10", "eth1"]),
    ],
    ids=str,
)
def test_address_of_the_node_itself_is_refused(annotations: dict[str, str], words: list[str]) -> None:
    with refused(ADDRESS_HELD, *words):
        planned(request(annotations))


def test_link_local_gateway_may_be_like_one_of_the_nodes() -> None:
    node = replace(NODE, addresses=(*NODE.addresses, AddressFact("eth1", "fe80::1/64")))
    planned(request(source("fd00:12::99/64", "fe80::1")), node=node)


def test_mac_of_the_node_is_refused() -> None:
    with refused(INVALID_CONFIGURATION, NIC.mac):
        planned(request({**ONE, "macvlan-egress/mac": NIC.mac}))


# -- settings

IPV4 = {
    "arp_ignore": "1",
    "arp_announce": "2",
    "rp_filter": "2",
    "accept_redirects": "0",
    "secure_redirects": "0",
    "send_redirects": "0",
    "accept_source_route": "0",
    "forwarding": "0",
    "arp_notify": "1",
}
IPV6 = {
    "disable_ipv6": "0",
    "accept_ra": "0",
    "autoconf": "0",
    "accept_dad": "0",
    "accept_redirects": "0",
    "accept_source_route": "-1",
    "forwarding": "0",
    "ndisc_notify": "1",
}


def settings_of(plan: Plan, family: int) -> dict[str, str]:
    prefix = f"net/ipv{family}/conf/{plan.link.name}/"
    assert all(
        one.key.startswith(f"net/ipv{number}/conf/{plan.link.name}/") for one, number in _numbered(plan)
    )
    return {one.key.removeprefix(prefix): one.value for one in plan.sysctls if one.key.startswith(prefix)}


def _numbered(plan: Plan) -> list[tuple]:
    return [(one, one.key[len("net/ipv")]) for one in plan.sysctls]


@pytest.mark.parametrize("name", ["macvlan0", "bond0.100", "a-b_c"])
def test_interface_answers_for_its_own_addresses_and_forwards_nothing(name: str) -> None:
    plan = planned(request(DUAL, ifName=name))
    assert settings_of(plan, 4) == IPV4
    assert settings_of(plan, 6) == IPV6


def test_ipv6_is_off_where_no_ipv6_source_is() -> None:
    plan = planned(request(ONE))
    assert settings_of(plan, 4) == IPV4
    assert settings_of(plan, 6) == {"disable_ipv6": "1"}


def test_ipv6_is_not_spoken_of_on_a_kernel_without_it() -> None:
    assert settings_of(planned(request(ONE), replace(CALICO, ipv6=False)), 6) == {}


@pytest.mark.parametrize(("detection", "dad"), [("fast", "0"), ("off", "0"), ("strict", "1")])
def test_kernel_looks_for_duplicates_only_where_strictness_is_wanted(detection: str, dad: str) -> None:
    plan = planned(request(DUAL, conflictDetection=detection, conflictTimeoutMs=50))
    assert settings_of(plan, 6)["accept_dad"] == dad
    assert asdict(plan.conflicts) == {"detection": detection, "timeout_ms": 50}


# -- the plan as data


@given(
    st.sampled_from([DUAL, ONE, source("fd00:12::99", "fe80::1"), {ASSIGN: "true"}]),
    st.sampled_from(["destinations", "default"]),
    st.sampled_from([CALICO, HostFacts(ipv6=False)]),
)
def test_plan_survives_the_state_file(annotations: dict[str, str], routes: str, pod: HostFacts) -> None:
    plan = planned(request(annotations, routes=routes), pod)
    assert TypeAdapter(Plan).validate_json(json.dumps(asdict(plan))) == plan


def test_same_wish_and_facts_lead_to_the_same_plan() -> None:
    assert planned(request(DUAL)) == planned(request(DUAL))


@pytest.mark.parametrize(("family", "gateway"), [(4, "192.168.12.1"), (6, "fd00:12::1")])
def test_gateway_of_a_family(family: int, gateway: str) -> None:
    addressing = Addressing(gateways=tuple(map(ipaddress.ip_address, ("fd00:12::1", "192.168.12.1"))))
    assert str(addressing.gateway(family)) == gateway
    assert Addressing().gateway(family) is None
