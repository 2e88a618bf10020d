"""The lab itself: what the other tests take for granted."""

from __future__ import annotations

import os

import pytest
from lab import Lab, Lan, Namespace, Node
from lab.network import OUTSIDE4, OUTSIDE6

MAIN_PLUGINS = ("calico", "bridge", "ptp")


@pytest.mark.parametrize("main", MAIN_PLUGINS)
def test_pod_reaches_host_behind_the_router_with_its_own_address(
    node: Node, outside: Namespace, main: str
) -> None:
    pod = node.pod(main)
    assert pod.reach(outside, OUTSIDE4) == pod.address
    assert pod.reach(outside, OUTSIDE6) == pod.address6


@pytest.mark.parametrize("main", MAIN_PLUGINS)
def test_pod_reaches_its_node_and_its_neighbours(node: Node, main: str) -> None:
    pod, neighbour = node.pod(main), node.pod(main)
    assert pod.reach(node, "192.168.12.10") == pod.address
    assert pod.reach(neighbour, neighbour.address) == pod.address
    assert pod.reach(neighbour, neighbour.address6) == pod.address6


def test_capture_shows_macs_and_addresses_of_both_directions(node: Node, lan: Lan) -> None:
    host = lan.host("192.168.12.50")
    with lan.capture() as wire:
        assert node.reach(host, "192.168.12.50") == "192.168.12.10"
        there = wire.wait(lambda f: f.source == "192.168.12.10" and f.proto == 6, "the node's TCP")
        back = wire.wait(lambda f: f.source == "192.168.12.50" and f.proto == 6, "the host's TCP")
    assert (there.src, there.dst, there.destination) == (node.mac(), host.mac(), "192.168.12.50")
    assert (back.src, back.dst) == (host.mac(), node.mac())


def test_nobody_answers_for_a_free_address(node: Node, lan: Lan) -> None:
    assert node.reach(lan, "192.168.12.77", timeout=0.3) is None


def test_snapshot_stays_the_same_until_something_changes(node: Node) -> None:
    pod = node.pod()
    before = pod.snapshot()
    assert pod.snapshot() == before
    pod.ip("rule add from 192.0.2.1 table 99")
    assert pod.snapshot() != before
    pod.ip("rule delete from 192.0.2.1 table 99")
    assert pod.snapshot() == before
    pod.sysctl("net/ipv4/conf/eth0/arp_ignore", 1)
    assert pod.snapshot() != before


@pytest.mark.parametrize("main", MAIN_PLUGINS)
def test_disconnected_pod_leaves_the_node_as_it_was(node: Node, main: str) -> None:
    node.pod(main)  # the bridge stays with its first user
    before = node.snapshot()
    pod = node.pod(main)
    assert node.snapshot() != before
    pod.disconnect()
    assert node.snapshot() == before


def test_closed_lab_leaves_no_namespace(lab: Lab) -> None:
    pod, host = lab.node.pod(), lab.lan.host("192.168.12.50")
    everything = [lab.node, lab.lan, lab.outside, pod, host]
    assert all(namespace.exists for namespace in everything)
    lab.close()
    assert not [namespace.name for namespace in everything if os.path.exists(namespace.path)]
