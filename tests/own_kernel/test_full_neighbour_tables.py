"""Neighbour tables that are full: calls need no entry, nothing gets in, and all is well when there is room."""

from __future__ import annotations

import os

import pytest
from lab import Lan, Namespace, Node, source

from .crowd import crowded, refuses

ADDRESSES = "192.168.12.99/24,fd00:12::99/64"
GATEWAYS = "192.168.12.1,fd00:12::1"
OUTSIDE4, OUTSIDE6 = "203.0.113.25", "2001:db8:113::25"
WISH = source(ADDRESSES, GATEWAYS, destination=f"{OUTSIDE4}\n{OUTSIDE6}")
ADDRESS_CONFLICT = 104

pytestmark = pytest.mark.skipif(
    "MACVLAN_EGRESS_OWN_KERNEL" not in os.environ, reason="fills tables of the whole machine: bin/test-kernel"
)


def test_calls_need_no_entry(node: Node, lan: Lan) -> None:
    pod, late, stranger = node.pod(), node.pod(), lan.host("192.168.12.66")
    holder = lan.host("192.168.12.77")
    before = node.snapshot(), pod.snapshot()
    with crowded(stranger):
        assert refuses(pod, "10.98.0.1")
        node.add(pod, WISH).ok()
        node.check(pod).ok()
        node.status().ok()
        node.add(late, source("192.168.12.77/24")).refused(ADDRESS_CONFLICT, holder.mac())
        node.delete(pod).ok()
        assert refuses(pod, "10.98.0.1"), "the tables were not full all the time"
    assert (node.snapshot(), pod.snapshot()) == before


def test_nothing_gets_in_and_all_is_well_when_there_is_room(node: Node, lan: Lan, outside: Namespace) -> None:
    pod, client, stranger = node.pod(), node.pod(), lan.host("192.168.12.66")
    attacker = lan.host("192.168.12.67")
    node.add(pod, WISH).ok()
    assert client.reach(outside, pod.address) == "192.168.12.99"
    assert attacker.reach(pod, "192.168.12.99", timeout=1.0) is None
    with crowded(stranger):
        assert attacker.reach(pod, "192.168.12.99", timeout=1.0) is None
        node.check(pod).ok()
    assert client.reach(outside, pod.address, timeout=10.0) == "192.168.12.99"
    node.check(pod).ok()
