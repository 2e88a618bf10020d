"""The interface's MAC address: random, derived from the source address, or given."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_macvlan_egress.decide.mac import choose, from_address
from cni_macvlan_egress.model.addresses import parse_mac
from cni_macvlan_egress.protocol.errors import INVALID_CONFIGURATION

from ..refusals import refused

SOURCES = [ipaddress.ip_interface(text) for text in ("192.168.12.99/24", "fd00:12::99/64")]
LOCALLY_ADMINISTERED = 0x02


def zeros(count: int) -> bytes:
    return bytes(count)


@given(st.binary(min_size=6, max_size=6))
def test_random_one_is_unicast_and_locally_administered(drawn: bytes) -> None:
    mac = choose("kernel", [], lambda _: drawn, set())
    assert parse_mac(mac) == mac
    assert int(mac[:2], 16) & LOCALLY_ADMINISTERED
    assert mac[3:] == drawn.hex(":")[3:]


@given(st.ip_addresses(), st.integers(0, 32))
def test_derived_one_depends_on_the_address_alone(address: ipaddress.IPv4Address, length: int) -> None:
    wide, narrow = (ipaddress.ip_interface(f"{address}/{one}") for one in (length, address.max_prefixlen))
    mac = choose("address", [wide], zeros, set())
    assert mac == choose("address", [narrow, *SOURCES], lambda _: b"\xff" * 6, {"x"}) == from_address(wide)
    assert parse_mac(mac) == mac
    assert int(mac[:2], 16) & LOCALLY_ADMINISTERED


def test_derived_one_stays_the_same_from_release_to_release() -> None:
    # It is in the port security of clouds and switches.
    assert from_address(SOURCES[0]) == "06:6d:c0:a8:0c:63"
    assert from_address(SOURCES[1]) == "06:6d:3f:b4:8a:4d"


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_no_two_ipv4_addresses_share_one(first: ipaddress.IPv4Address, second: ipaddress.IPv4Address) -> None:
    macs = {from_address(ipaddress.ip_interface(address)) for address in (first, second)}
    assert len(macs) == len({first, second})


def test_derived_one_needs_an_address() -> None:
    with refused(INVALID_CONFIGURATION, "'address'", "source address"):
        choose("address", [], zeros, set())


def test_given_one_is_taken_unless_the_node_has_it() -> None:
    assert choose("02:00:00:00:00:07", SOURCES, zeros, {"02:00:00:00:00:08"}) == "02:00:00:00:00:07"
    with refused(INVALID_CONFIGURATION, "02:00:00:00:00:07", "node"):
        choose("02:00:00:00:00:07", SOURCES, zeros, {"02:00:00:00:00:07"})


@pytest.mark.parametrize("policy", ["kernel", "address"])
def test_address_of_the_node_is_no_obstacle_to_a_chosen_one(policy: str) -> None:
    assert choose(policy, SOURCES, zeros, {"52:54:00:00:00:10"})
