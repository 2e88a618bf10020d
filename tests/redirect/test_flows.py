"""Many flows at once, and a pod that is made anew while they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from lab import Lan, Namespace, Node, Pod
from lab.bulk import crowd
from lab.network import OUTSIDE4, OUTSIDE6
from lab.service import Service
from lab.traffic import NOBODY, Visit, exchange

from .asking import EGRESS4, EGRESS6, egress, own, redirect

FLOWS = 1000
SERVICE4, SERVICE6 = "10.96.0.50", "fd00:96::50"
DEADLINE_SECONDS = 30.0
PATIENCE_SECONDS = 0.9  # less than the second after which a lost SYN is sent again


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("version", [4, 6])
def test_thousand_flows_at_once(
    node: Node, outside: Namespace, pod: Pod, client: Pod, version: int, protocol: str
) -> None:
    server = OUTSIDE4 if version == 4 else OUTSIDE6
    node.add(pod, redirect(f"80 {protocol} {server}")).ok()
    seen = crowd(protocol, client, (own(pod, version), 80), outside, 80, [("", 0)] * FLOWS)
    assert len(set(seen)) == FLOWS
    assert {address for address, _ in seen} == {egress(server)}


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_clients_with_the_same_source_port_do_not_collide(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, protocol: str
) -> None:
    clients = [f"192.168.12.{number}" for number in range(130, 150)]
    host = lan.host(*clients)
    host.ip("route add 10.244.0.0/16 via 192.168.12.10")
    node.add(pod, redirect(f"80 {protocol} {OUTSIDE4}")).ok()
    own_ends = [(address, 40000) for address in clients]
    seen = crowd(protocol, host, (pod.address, 80), outside, 80, own_ends)
    assert len(set(seen)) == len(clients)
    assert {address for address, _ in seen} == {EGRESS4}


def test_flow_of_the_pod_itself_and_one_of_a_client_share_a_port(
    node: Node, outside: Namespace, pod: Pod, client: Pod
) -> None:
    node.add(pod, redirect(f"80 tcp {OUTSIDE4}")).ok()
    for sender, to in ((pod, OUTSIDE4), (client, pod.address), (pod, OUTSIDE4)):
        visit = exchange("tcp", sender, (to, 80), outside, 80, source_port=40000)
        assert visit.source == EGRESS4


@contextmanager
def calling(call: Callable[[], Visit]) -> Iterator[Callable[[int], list[Visit]]]:
    """Call again and again; what is yielded waits for so many more calls and returns those begun meanwhile."""
    visits: list[Visit] = []
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                visits.append(call())
            except OSError:
                visits.append(NOBODY)

    def more(number: int) -> list[Visit]:
        # The one under way was begun before.
        begun = len(visits) + 1
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(visits) < begun + number:
            assert time.monotonic() < deadline, f"only {len(visits) - begun} of {number} calls were made"
            assert thread.is_alive(), "an answer was lost"
            time.sleep(0.005)
        return visits[begun : begun + number]

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield more
    finally:
        stopped.set()
        thread.join()


@pytest.mark.parametrize("version", [4, 6])
def test_pod_made_anew_takes_over_while_a_client_keeps_calling(
    node: Node, lan: Lan, outside: Namespace, version: int
) -> None:
    client, first = node.pod("ptp"), node.pod("ptp")
    server, at = (OUTSIDE4, SERVICE4) if version == 4 else (OUTSIDE6, SERVICE6)
    asked = redirect(f"80 tcp {server}")
    node.add(first, asked).ok()
    service = Service(node, at, [80])
    service.lead_to(own(first, version))
    with (
        lan.capture() as wire,
        calling(lambda: exchange("tcp", client, (at, 80), outside, 80, timeout=PATIENCE_SECONDS)) as more,
    ):
        before = more(20)
        first_mac = first.mac("macvlan0")
        node.delete(first).ok()
        first.disconnect()
        first.remove()
        second = node.pod("ptp")
        node.add(second, asked).ok()
        meanwhile = more(1)
        service.lead_to(own(second, version))
        after = more(20)
        sent = wire.frames(lambda f: f.destination == server and f.proto == 6)
    assert {visit.source for visit in before} == {egress(server)}
    assert {visit.source for visit in after} == {egress(server)}, "calls failed with the new pod in service"
    assert {visit.source for visit in meanwhile} <= {egress(server), ""}
    assert {frame.src for frame in sent} == {first_mac, second.mac("macvlan0")}
    assert {frame.source for frame in sent} == {egress(server)}


def test_same_pod_attached_anew_serves_again(node: Node, outside: Namespace) -> None:
    pod, client = node.pod("ptp"), node.pod("ptp")
    asked = redirect(f"80 tcp {OUTSIDE4}", f"80 tcp {OUTSIDE6}")

    def call() -> Visit:
        return exchange("tcp", client, (pod.address, 80), outside, 80, timeout=PATIENCE_SECONDS)

    with calling(call) as more:
        for _ in range(2):
            node.add(pod, asked).ok()
            assert {visit.source for visit in more(10)} == {EGRESS4}
            node.delete(pod).ok()
            assert {visit.source for visit in more(2)} == {""}
        node.add(pod, asked).ok()
        assert {visit.source for visit in more(10)} == {EGRESS4}
    assert exchange("tcp", client, (pod.address6, 80), outside, 80).source == EGRESS6
