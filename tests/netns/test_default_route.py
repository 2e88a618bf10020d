"""`routes: default`: the pod's traffic leaves by the LAN, the cluster's stays on eth0."""

from __future__ import annotations

import pytest
from lab import Lan, Namespace, Node, Pod, source, unchanged
from lab.network import OUTSIDE4, OUTSIDE6, PODS4, PODS6

ASKED = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1", routes="default")
CONF = {"clusterNetworks": [PODS4, PODS6, "10.96.0.0/12"]}


@pytest.fixture(params=["calico", "bridge", "ptp"])
def pod(node: Node, request: pytest.FixtureRequest) -> Pod:
    pod = node.pod(request.param)
    node.add(pod, ASKED, conf=CONF).ok()
    return pod


def test_unbound_traffic_leaves_by_the_lan(pod: Pod, outside: Namespace) -> None:
    assert pod.reach(outside, OUTSIDE4) == "192.168.12.99"
    assert pod.reach(outside, OUTSIDE6) == "fd00:12::99"


def test_lan_hosts_are_reached_directly(pod: Pod, lan: Lan) -> None:
    host = lan.host("192.168.12.50", "fd00:12::50")
    with lan.capture(host) as wire:
        assert pod.reach(host, "192.168.12.50") == "192.168.12.99"
        assert pod.reach(host, "fd00:12::50") == "fd00:12::99"
        frames = wire.frames(lambda f: f.destination in ("192.168.12.50", "fd00:12::50") and f.proto == 6)
    assert {frame.src for frame in frames} == {pod.mac("macvlan0")}


def test_cluster_and_node_are_reached_by_eth0(pod: Pod, node: Node) -> None:
    neighbour = node.pod(pod.main)
    assert pod.reach(neighbour, neighbour.address) == pod.address
    assert pod.reach(neighbour, neighbour.address6) == pod.address6
    assert pod.reach(node, "192.168.12.10") == pod.address
    assert pod.reach(node, "fd00:12::10") == pod.address6
    assert pod.route_get("10.96.0.10")["dev"] == "eth0"


def test_replies_leave_by_the_interface_that_was_asked(pod: Pod, node: Node, outside: Namespace) -> None:
    assert outside.reach(pod, pod.address) == OUTSIDE4
    assert outside.reach(pod, "192.168.12.99") == OUTSIDE4
    assert outside.reach(pod, pod.address6) == OUTSIDE6
    assert node.reach(pod, pod.address) is not None


def test_check_is_content_and_delete_brings_the_old_default_route_back(
    node: Node, outside: Namespace
) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod, ASKED, conf=CONF).ok()
        node.check(pod).ok()
        node.delete(pod).ok()
    assert pod.reach(outside, OUTSIDE4) == pod.address


def test_default_route_needs_a_gateway(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod, source("192.168.12.99/24", "", routes="default")).refused(106, "gateway")


def test_configuration_can_say_default_for_every_pod(node: Node, outside: Namespace) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf={**CONF, "routes": "default"}).ok()
    assert pod.reach(outside, OUTSIDE4) == "192.168.12.99"
    assert pod.reach(outside, OUTSIDE6) == pod.address6
