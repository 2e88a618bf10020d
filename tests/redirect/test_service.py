"""A Service in front of the egress pod, as kube-proxy makes it: DNAT to the pod's address on the node."""

from __future__ import annotations

import os
import socket

import pytest
from lab import Capture, Lan, Namespace, Node, Pod
from lab.network import OUTSIDE4, OUTSIDE6
from lab.service import Service
from lab.traffic import exchange

from .asking import EGRESS4, EGRESS6, OFF, egress, of_the_macvlan, redirect, senders

SERVICE4, SERVICE6 = "10.96.0.50", "fd00:96::50"
BRIDGE_FILTER = "/proc/sys/net/bridge/bridge-nf-call-iptables"


def inside(pod: Pod) -> Capture:
    """What enters the pod by its main interface."""
    return Capture(pod.socket(socket.AF_PACKET, socket.SOCK_RAW), "eth0")


@pytest.mark.parametrize("masquerade", [False, True], ids=["plain", "masqueraded"])
@pytest.mark.parametrize("main", ["calico", "bridge", "ptp"])
def test_service_leads_outside_under_the_egress_source(
    node: Node, lan: Lan, outside: Namespace, main: str, masquerade: bool
) -> None:
    if main == "bridge" and not masquerade and not os.path.exists(BRIDGE_FILTER):
        pytest.skip("pods of one bridge answer each other behind the Service's back without br_netfilter")
    pod, client = node.pod(main), node.pod(main)
    lines = (f"80 tcp {OUTSIDE4} 8080", f"53 udp {OUTSIDE4}", f"80 tcp {OUTSIDE6} 8080")
    node.add(pod, redirect(*lines), conf=OFF).ok()
    for service, protocol, port, address in (
        (SERVICE4, "tcp", 80, pod.address),
        (SERVICE4, "udp", 53, pod.address),
        (SERVICE6, "tcp", 80, pod.address6),
    ):
        Service(node, service, [port], protocol=protocol, masquerade=masquerade).lead_to(address)
    with lan.capture() as wire, inside(pod) as entrance:
        for asker in (client, node):
            assert exchange("tcp", asker, (SERVICE4, 80), outside, 8080).source == EGRESS4
            assert exchange("udp", asker, (SERVICE4, 53), outside, 53).source == EGRESS4
            assert exchange("tcp", asker, (SERVICE6, 80), outside, 8080).source == EGRESS6
        entered = {f.source for f in entrance.frames(lambda f: f.destination in (pod.address, pod.address6))}
        assert entered.isdisjoint({client.address, client.address6}) == masquerade
        assert senders(wire, OUTSIDE4, OUTSIDE6) == of_the_macvlan(pod, EGRESS4, EGRESS6)


def test_port_of_the_service_may_be_another_than_the_lines(
    node: Node, outside: Namespace, pod: Pod, client: Pod
) -> None:
    node.add(pod, redirect(f"8080 tcp {OUTSIDE4} 5432"), conf=OFF).ok()
    Service(node, SERVICE4, [80, 443], target_port=8080).lead_to(pod.address)
    for port in (80, 443):
        assert exchange("tcp", client, (SERVICE4, port), outside, 5432).source == EGRESS4


def test_egress_pod_may_use_another_egress_pods_service(
    node: Node, outside: Namespace, pod: Pod, client: Pod
) -> None:
    """It is a client as any other, and its own egress address stays out of it."""
    node.add(pod, redirect(f"80 tcp {OUTSIDE4}"), conf=OFF).ok()
    other = redirect("80 tcp 203.0.113.26", families=(4,))
    other["macvlan-egress/source"] = "192.168.12.98/24"
    node.add(client, other, conf=OFF).ok()
    Service(node, SERVICE4, [80]).lead_to(pod.address)
    assert exchange("tcp", client, (SERVICE4, 80), outside, 80).source == EGRESS4
    assert exchange("tcp", pod, (client.address, 80), outside, 80).source == "192.168.12.98"


@pytest.mark.parametrize("version", [4, 6])
def test_services_of_two_egress_pods_keep_their_sources(
    node: Node, outside: Namespace, client: Pod, version: int
) -> None:
    server, prefix, gateway = (
        (OUTSIDE4, "192.168.12.9{}/24", "192.168.12.1")
        if version == 4
        else (OUTSIDE6, "fd00:12::9{}/64", "fd00:12::1")
    )
    for number in (1, 2):
        pod = node.pod()
        asked = redirect(f"80 tcp {server}", families=(version,))
        asked |= {"macvlan-egress/source": prefix.format(number), "macvlan-egress/gateway": gateway}
        node.add(pod, asked, conf=OFF).ok()
        service = f"10.96.0.{number}" if version == 4 else f"fd00:96::{number}"
        Service(node, service, [80]).lead_to(pod.address if version == 4 else pod.address6)
    for number in (1, 2, 1):
        service = f"10.96.0.{number}" if version == 4 else f"fd00:96::{number}"
        visit = exchange("tcp", client, (service, 80), outside, 80)
        assert visit.source == prefix.format(number).split("/")[0]
    assert egress(server) not in (visit.source,)
