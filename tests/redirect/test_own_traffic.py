"""What the pod itself sends and is sent: as before under `routes: destinations`, and by the LAN under `default`."""

from __future__ import annotations

import errno
import itertools

import pytest
from lab import Lan, Namespace, Node, Pod, unchanged
from lab.network import OUTSIDE4, OUTSIDE6, PODS4, PODS6
from lab.service import Service
from lab.traffic import NOBODY, exchange, ping

from .asking import EGRESS4, EGRESS6, OFF, egress, of_the_macvlan, own, redirect, senders

OTHER = {4: "203.0.113.26", 6: "2001:db8:113::26"}
LINES = (f"80 tcp {OUTSIDE4} 8080", f"80 tcp {OUTSIDE6} 8080", f"5000-5010 udp {OUTSIDE4}")
DNS = "10.96.0.10"
REFUSALS = (errno.EHOSTUNREACH, errno.EACCES, errno.EPERM)
CLUSTER = {"clusterNetworks": [PODS4, PODS6, "10.96.0.0/12"]}

beside_every_main_plugin = pytest.mark.parametrize("pod", ["calico", "bridge", "ptp"], indirect=True)


@pytest.fixture
def pod(node: Node, request: pytest.FixtureRequest) -> Pod:
    return node.pod(getattr(request, "param", "calico"))


@pytest.fixture
def neighbour(node: Node, pod: Pod) -> Pod:
    """Another pod of the node, with the same main CNI."""
    return node.pod(pod.main)


@beside_every_main_plugin
@pytest.mark.parametrize("whole", [(), (OUTSIDE4, OUTSIDE6)], ids=["ports", "everything"])
def test_what_the_pod_sends_elsewhere_leaves_by_eth0(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, neighbour: Pod, whole: tuple[str, ...]
) -> None:
    Service(node, DNS, [53], protocol="udp").lead_to(neighbour.address)
    node.add(pod, redirect(*LINES, *whole), conf=OFF).ok()
    with lan.capture() as wire:
        for version, address in OTHER.items():
            assert exchange("tcp", pod, (address, 80), outside, 80).source == own(pod, version)
            assert exchange("udp", pod, (address, 53), outside, 53).source == own(pod, version)
            assert ping(pod, address, outside).source == own(pod, version)
            assert exchange("tcp", pod, (own(neighbour, version), 80), neighbour, 80).source == own(
                pod, version
            )
        assert exchange("udp", pod, (DNS, 53), neighbour, 53).source == pod.address
        assert exchange("tcp", pod, ("192.168.12.10", 6443), node, 6443).source == pod.address
        assert not wire.frames(lambda f: f.src == pod.mac("macvlan0") and f.proto in (1, 6, 17, 58))


@beside_every_main_plugin
def test_health_checks_reach_the_pod(node: Node, pod: Pod, neighbour: Pod) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    for version in (4, 6):
        for asker in (node, neighbour):
            visit = exchange("tcp", asker, (own(pod, version), 8081), pod, 8081)
            assert visit.target == own(pod, version)
            assert ping(asker, own(pod, version), pod).target == own(pod, version)


def test_routes_of_the_pod_stay_but_for_the_destinations(node: Node, pod: Pod, neighbour: Pod) -> None:
    targets = (*OTHER.values(), "192.168.12.10", "192.168.12.50", DNS, own(neighbour, 4), own(neighbour, 6))
    before = {target: pod.route_get(target) for target in targets}
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    assert {target: pod.route_get(target) for target in targets} == before
    for destination in (OUTSIDE4, OUTSIDE6):
        assert pod.route_get(destination)["dev"] == "macvlan0"
        assert pod.route_get(destination)["prefsrc"] == egress(destination)


@beside_every_main_plugin
def test_own_traffic_to_a_destination_uses_the_egress_source(
    node: Node, lan: Lan, outside: Namespace, pod: Pod
) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    with lan.capture() as wire:
        for protocol, destination, port in (
            ("tcp", OUTSIDE4, 8080),
            ("tcp", OUTSIDE6, 8080),
            ("udp", OUTSIDE4, 5010),
        ):
            visit = exchange(protocol, pod, (destination, port), outside, port)
            assert visit.source == egress(destination)
        assert senders(wire, OUTSIDE4, OUTSIDE6) == of_the_macvlan(pod, EGRESS4, EGRESS6)


def test_own_traffic_to_a_port_that_is_no_destination_is_refused_at_once(
    node: Node, lan: Lan, outside: Namespace, pod: Pod
) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    with lan.capture() as wire:
        for destination, protocol, port in itertools.product(
            (OUTSIDE4, OUTSIDE6), ("tcp", "udp"), (80, 22, 8081)
        ):
            try:
                visit = exchange(protocol, pod, (destination, port), outside, port)
            except OSError as error:
                assert error.errno in REFUSALS
            else:
                pytest.fail(f"{protocol} to port {port} was not refused: {visit}")
        assert not wire.frames(lambda f: f.destination in (OUTSIDE4, OUTSIDE6))


def test_own_echo_to_a_destination_of_ports_only_is_refused(
    node: Node, lan: Lan, outside: Namespace, pod: Pod
) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    with lan.capture() as wire:
        for destination in (OUTSIDE4, OUTSIDE6):
            try:
                assert ping(pod, destination, outside, timeout=0.3) == NOBODY
            except OSError as error:
                assert error.errno in REFUSALS
        assert not wire.frames(lambda f: f.destination in (OUTSIDE4, OUTSIDE6))


def test_own_traffic_to_a_whole_destination_may_use_any_port(
    node: Node, outside: Namespace, pod: Pod
) -> None:
    node.add(pod, redirect(OUTSIDE4, OUTSIDE6), conf=OFF).ok()
    for destination in (OUTSIDE4, OUTSIDE6):
        for protocol in ("tcp", "udp", "sctp"):
            assert exchange(protocol, pod, (destination, 4711), outside, 4711).source == egress(destination)
        assert ping(pod, destination, outside).source == egress(destination)


@pytest.mark.parametrize(
    ("main", "where", "routes"),
    [
        ("calico", "all", "destinations"),
        ("calico", "eth0", "default"),
        ("calico", "default", "default"),
        ("bridge", "eth0", "destinations"),
        ("bridge", "all", "default"),
        ("ptp", "default", "destinations"),
        ("ptp", "all", "default"),
    ],
)
def test_strict_reverse_path_filter_set_beforehand_hinders_nothing(
    node: Node, outside: Namespace, main: str, where: str, routes: str
) -> None:
    pod, neighbour = node.pod(main), node.pod(main)
    pod.sysctl(f"net/ipv4/conf/{where}/rp_filter", 1)
    asked = redirect(*LINES, routes=routes)
    with unchanged(pod, node):
        node.add(pod, asked, conf={**OFF, **CLUSTER}).ok()
        for asker in (neighbour, node):
            for version in (4, 6):
                visit = exchange("tcp", asker, (own(pod, version), 80), outside, 8080)
                assert visit.source == egress(own(pod, version))
            assert exchange("udp", asker, (pod.address, 5001), outside, 5001).source == EGRESS4
            assert exchange("tcp", asker, (pod.address, 8081), pod, 8081).target == pod.address
        assert exchange("tcp", pod, (OUTSIDE4, 8080), outside, 8080).source == EGRESS4
        node.check(pod).ok()
        node.delete(pod).ok()


@beside_every_main_plugin
def test_default_routes_redirect_and_keep_the_cluster_on_eth0(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, neighbour: Pod
) -> None:
    Service(node, DNS, [53], protocol="udp").lead_to(neighbour.address)
    with unchanged(pod, node):
        node.add(pod, redirect(*LINES, OUTSIDE4, routes="default"), conf={**OFF, **CLUSTER}).ok()
        with lan.capture() as wire:
            for asker in (neighbour, node):
                assert exchange("tcp", asker, (pod.address, 80), outside, 8080).source == EGRESS4
                assert exchange("tcp", asker, (pod.address6, 80), outside, 8080).source == EGRESS6
            assert senders(wire, OUTSIDE4, OUTSIDE6) == of_the_macvlan(pod, EGRESS4, EGRESS6)
        for version, address in OTHER.items():
            assert exchange("tcp", pod, (address, 443), outside, 443).source == egress(address)
            assert exchange("tcp", pod, (own(neighbour, version), 80), neighbour, 80).source == own(
                pod, version
            )
        assert exchange("udp", pod, (DNS, 53), neighbour, 53).source == pod.address
        assert exchange("tcp", pod, ("192.168.12.10", 6443), node, 6443).source == pod.address
        node.check(pod).ok()
        node.delete(pod).ok()


@beside_every_main_plugin
@pytest.mark.parametrize("strict", [False, True], ids=["loose", "strict"])
def test_default_routes_serve_clients_beyond_the_cluster_networks(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, strict: bool
) -> None:
    """A client by way of the node gets its answer back by the node, though its network is on the LAN."""
    client = lan.host("192.168.12.60", "fd00:12::60")
    client.ip(f"route add {PODS4} via 192.168.12.10", f"route add {PODS6} via fd00:12::10")
    pod.sysctl("net/ipv4/conf/eth0/rp_filter", int(strict))
    node.add(pod, redirect(*LINES, routes="default"), conf={**OFF, **CLUSTER}).ok()
    with lan.capture() as wire:
        for version in (4, 6):
            visit = exchange("tcp", client, (own(pod, version), 80), outside, 8080)
            assert visit.source == egress(own(pod, version))
        answers = wire.frames(lambda f: f.destination in ("192.168.12.60", "fd00:12::60") and f.proto == 6)
        assert {frame.src for frame in answers} == {node.mac()}
