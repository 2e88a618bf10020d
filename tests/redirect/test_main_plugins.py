"""The whole life of a redirect beside every kind of main CNI, for each family and both together."""

from __future__ import annotations

import pytest
from lab import Lan, Namespace, Node, Pod, unchanged
from lab.network import OUTSIDE4, OUTSIDE6
from lab.traffic import exchange, ping

from .asking import EGRESS4, EGRESS6, OFF, egress, of_the_macvlan, own, redirect, senders

LINES = {
    4: (f"80 tcp {OUTSIDE4} 8080", f"5000-5010 udp {OUTSIDE4}", f"7000 sctp {OUTSIDE4} 7001", OUTSIDE4),
    6: (f"80 tcp {OUTSIDE6} 8080", f"5000-5010 udp {OUTSIDE6}", f"7000 sctp {OUTSIDE6} 7001", OUTSIDE6),
}
SERVERS = {4: OUTSIDE4, 6: OUTSIDE6}


@pytest.mark.parametrize("families", [(4,), (6,), (4, 6)], ids=["ipv4", "ipv6", "dual"])
@pytest.mark.parametrize("main", ["calico", "bridge", "ptp"])
def test_server_sees_the_egress_source(
    node: Node, lan: Lan, outside: Namespace, main: str, families: tuple[int, ...]
) -> None:
    pod, client = node.pod(main), node.pod(main)
    servers = [SERVERS[family] for family in families]
    asked = redirect(*(line for family in families for line in LINES[family]), families=families)
    with unchanged(pod, node):
        node.add(pod, asked).ok()
        with lan.capture() as wire:
            for address in (own(pod, family) for family in families):
                for protocol, local, remote in (
                    ("tcp", 80, 8080),
                    ("udp", 5007, 5007),
                    ("sctp", 7000, 7001),
                    ("tcp", 22, 22),
                ):
                    visit = exchange(protocol, client, (address, local), outside, remote)
                    assert visit.source == egress(address), (protocol, local)
                assert ping(client, address, outside).source == egress(address)
            assert senders(wire, *servers) == of_the_macvlan(pod, *map(egress, servers))
        node.check(pod).ok()
        node.delete(pod).ok()


@pytest.mark.parametrize("main", ["calico", "bridge", "ptp"])
def test_main_interface_of_one_family_only(node: Node, outside: Namespace, main: str) -> None:
    pod, client = (node.pod(main, ipv6=False) for _ in range(2))
    node.add(pod, redirect(f"80 tcp {OUTSIDE4}", families=(4,)), conf=OFF).ok()
    assert exchange("tcp", client, (pod.address, 80), outside, 80).source == EGRESS4
    node.check(pod).ok()


@pytest.mark.parametrize(("served", "line"), [(4, f"80 tcp {OUTSIDE4}"), (6, f"80 tcp {OUTSIDE6}")])
def test_line_of_one_family_leaves_the_other_to_the_pod(
    node: Node, outside: Namespace, pod: Pod, client: Pod, served: int, line: str
) -> None:
    node.add(pod, redirect(line), conf=OFF).ok()
    other = 10 - served
    visit = exchange("tcp", client, (own(pod, served), 80), outside, 80)
    assert visit.source in (EGRESS4, EGRESS6)
    visit = exchange("tcp", client, (own(pod, other), 80), pod, 80)
    assert (visit.source, visit.target) == (own(client, other), own(pod, other))


def test_client_of_another_node_is_served(node: Node, lan: Lan, outside: Namespace, pod: Pod) -> None:
    other = lan.host("192.168.12.60", "fd00:12::60")
    other.ip("route add 10.244.0.0/16 via 192.168.12.10", "route add fd00:244::/32 via fd00:12::10")
    node.add(pod, redirect(f"80 tcp {OUTSIDE4}", f"80 tcp {OUTSIDE6}")).ok()
    for address in (pod.address, pod.address6):
        assert exchange("tcp", other, (address, 80), outside, 80).source == egress(address)


def test_source_without_prefix_and_gateway_outside_it(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod
) -> None:
    lan.ip("address add 192.168.77.1/32 dev br0", f"route add {EGRESS4}/32 dev br0")
    asked = redirect(f"80 tcp {OUTSIDE4} 8080", families=(4,))
    asked |= {"macvlan-egress/source": EGRESS4, "macvlan-egress/gateway": "192.168.77.1"}
    node.add(pod, asked).ok()
    assert exchange("tcp", client, (pod.address, 80), outside, 8080).source == EGRESS4


def test_destination_on_the_lan_is_reached_without_the_router(
    node: Node, lan: Lan, pod: Pod, client: Pod
) -> None:
    host = lan.host("192.168.12.50", "fd00:12::50")
    node.add(pod, redirect("80 tcp 192.168.12.50", "80 tcp fd00:12::50")).ok()
    with lan.capture(host) as wire:
        for address in (pod.address, pod.address6):
            assert exchange("tcp", client, (address, 80), host, 80).source == egress(address)
        sent = wire.frames(lambda f: f.proto == 6 and f.source in (EGRESS4, EGRESS6))
    assert {(frame.src, frame.dst) for frame in sent} == {(pod.mac("macvlan0"), host.mac())}


def test_pod_needs_no_privilege_and_no_process(node: Node, outside: Namespace, pod: Pod, client: Pod) -> None:
    """Nothing runs in the namespace: all of it is the kernel's work."""
    node.add(pod, redirect(f"80 tcp {OUTSIDE4}"), conf=OFF).ok()
    assert node.run("ip", "netns", "pids", pod.name) == ""
    assert exchange("tcp", client, (pod.address, 80), outside, 80).source == EGRESS4
