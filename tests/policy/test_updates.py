"""Policies that change under running pods: at once, for every packet, and with no packet in between."""

from __future__ import annotations

import ipaddress
import itertools
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from lab import Lan, Namespace, Node, Pod, source
from lab.sockets import ANSWER_SECONDS

from .documents import EVERYTHING, Policies, allow, deny
from .sink import ALLOWED, DENIED, FREE, Sink

OWN = "192.168.12.99"
EGRESS = source("192.168.12.99/24", "192.168.12.1")
OTHERS = {ALLOWED, FREE}
UPDATES = 60
_SEQUENCE = struct.Struct("!I")


@pytest.fixture
def sink(lan: Lan, outside: Namespace) -> Sink:
    return Sink(lan, outside)


def test_sync_reaches_running_pods(node: Node, policies: Policies, sink: Sink) -> None:
    plain, egress, other = (node.pod() for _ in range(3))
    other.args = other.args.replace("=shop;", "=bank;")
    policies.add(plain).ok()
    policies.add(egress, EGRESS, conflictTimeoutMs=20).ok()
    policies.add(other).ok()
    for rules, expected in (
        ([deny(f"{DENIED}/32")], OTHERS),
        ([allow(f"{ALLOWED}/32"), *map(deny, EVERYTHING)], {ALLOWED}),
        ([*map(deny, EVERYTHING)], set()),
        ([allow(f"{ALLOWED}/32", ("TCP", 4000)), *map(deny, EVERYTHING)], set()),
        ([allow(f"{ALLOWED}/32", ("UDP", 4000)), *map(deny, EVERYTHING)], {ALLOWED}),
        ([], {DENIED, *OTHERS}),
        ([deny(f"{DENIED}/32")], OTHERS),
    ):
        policies.write(*rules)
        report = policies.sync()
        assert report.changes
        assert not report.problems
        assert policies.sync().changes == ()
        for pod in (plain, egress):
            assert sink.reached(pod) == expected
            node.check(pod).ok()
        assert sink.reached(other) == {DENIED, *OTHERS}
    policies.remove()
    policies.sync()
    assert policies.table() == []
    for pod in (plain, egress):
        assert sink.reached(pod) == {DENIED, *OTHERS}
        node.delete(pod).ok()


@pytest.mark.parametrize("own", ["", OWN], ids=["main", "macvlan"])
def test_established_flow_ends_with_the_next_packet(
    node: Node, outside: Namespace, policies: Policies, sink: Sink, own: str
) -> None:
    policies.write(deny("198.51.100.0/24"))
    pod = node.pod()
    policies.add(pod, EGRESS, conflictTimeoutMs=20).ok()
    with ExitStack() as stack:
        server = stack.enter_context(closing(outside.socket(socket.AF_INET)))
        client = stack.enter_context(closing(pod.socket(socket.AF_INET)))
        server.bind((DENIED, 0))
        server.listen()
        if own:
            client.bind((own, 0))
        client.settimeout(ANSWER_SECONDS)
        client.connect(server.getsockname())
        connection, _ = server.accept()
        stack.enter_context(closing(connection))
        connection.settimeout(ANSWER_SECONDS)
        client.sendall(b"before")
        assert connection.recv(64) == b"before"
        policies.write(deny(f"{DENIED}/32"))
        policies.sync()
        client.sendall(b"after")
        assert sink.reached(pod, source=own, last=FREE) == OTHERS
        assert not select.select([connection], [], [], 0.3)[0], "neither the packet nor its repetition"
        policies.write(deny("198.51.100.0/24"))
        policies.sync()
        assert connection.recv(64) == b"after", "TCP repeats it, so that it is the policy that kept it"


class Traffic:
    """Numbered datagrams to ALLOWED and DENIED, as fast as they are taken without loss."""

    def __init__(self, pod: Pod, outside: Namespace, own: str) -> None:
        self.sent = 0
        self.heard: dict[str, set[int]] = {ALLOWED: set(), DENIED: set()}
        self._over = threading.Event()
        self._mouth = pod.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ears = {}
        for address in self.heard:
            ear = self._ears[address] = outside.socket(socket.AF_INET, socket.SOCK_DGRAM)
            ear.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
            ear.bind((address, 0))
            ear.setblocking(False)
        if own:
            self._mouth.bind((own, 0))
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._mouth.close()
        for ear in self._ears.values():
            ear.close()

    def stop(self) -> None:
        """Send no more, and hear what is under way."""
        self._over.set()
        self._thread.join()
        deadline = time.monotonic() + ANSWER_SECONDS
        while len(self.heard[ALLOWED]) < self.sent and time.monotonic() < deadline:
            self.listen()
            time.sleep(0.01)

    def listen(self) -> None:
        """Take what has arrived."""
        for address, ear in self._ears.items():
            while True:
                try:
                    self.heard[address].add(_SEQUENCE.unpack(ear.recv(64))[0])
                except BlockingIOError:
                    break

    def _send(self) -> None:
        targets = [ear.getsockname() for ear in self._ears.values()]
        for number in itertools.count():
            if self._over.is_set():
                self.sent = number
                return
            for target in targets:
                self._mouth.sendto(_SEQUENCE.pack(number), target)
            if not number % 8:
                time.sleep(0.0005)  # no queue on the way may overflow


def unrelated_rules() -> Iterator[list[dict[str, object]]]:
    """Rules before, between and behind those that matter, fewer and more, all about other addresses."""
    networks = [str(one) for one in ipaddress.ip_network("198.18.0.0/16").subnets(new_prefix=26)]
    for number in itertools.count():
        some = networks[number % 7 : 5 + number * 13 % 300]
        rules = [(allow, deny)[index % 2](one) for index, one in enumerate(some)]
        ported = [deny("198.51.100.7/32", ("UDP", 1000 + number))] if number % 3 == 0 else []
        cut = number % max(1, len(rules))
        yield [*rules[:cut], deny(f"{DENIED}/32"), *ported, *rules[cut:], allow(f"{ALLOWED}/32")]


@pytest.mark.parametrize("own", ["", OWN], ids=["main", "macvlan"])
def test_no_packet_is_lost_and_none_passes_while_the_policy_changes(
    lan: Lan, node: Node, outside: Namespace, policies: Policies, sink: Sink, own: str
) -> None:
    changes = unrelated_rules()
    policies.write(*next(changes))
    pod = node.pod()
    policies.add(pod, EGRESS, conflictTimeoutMs=20).ok()
    assert sink.reached(pod, source=own, last=FREE) == OTHERS  # neighbours are known from here on
    for address in (ALLOWED, DENIED):
        lan.ip(f"neighbour replace {address} lladdr {outside.mac()} dev out0")
    with Traffic(pod, outside, own) as traffic:
        for number in range(UPDATES):
            policies.write(*next(changes))
            assert policies.sync().changes, number
            traffic.listen()
        traffic.stop()
    assert traffic.sent > UPDATES
    assert traffic.heard[DENIED] == set()
    lost = set(range(traffic.sent)) - traffic.heard[ALLOWED]
    assert not lost, f"{len(lost)} of {traffic.sent}"


@pytest.mark.parametrize("own", ["", OWN], ids=["main", "macvlan"])
def test_pods_that_come_and_go_do_not_disturb_another(
    lan: Lan, node: Node, outside: Namespace, policies: Policies, sink: Sink, own: str
) -> None:
    policies.write(deny(f"{DENIED}/32"), allow(f"{ALLOWED}/32"))
    pod, guests = node.pod(), [node.pod() for _ in range(4)]
    policies.add(pod, EGRESS, conflictTimeoutMs=20).ok()
    assert sink.reached(pod, source=own, last=FREE) == OTHERS
    for address in (ALLOWED, DENIED):
        lan.ip(f"neighbour replace {address} lladdr {outside.mac()} dev out0")
    with Traffic(pod, outside, own) as traffic:
        for _ in range(2):
            for number, guest in enumerate(guests):
                asked = source(f"192.168.12.{200 + number}/24") if number % 2 else None
                policies.add(guest, asked, conflictDetection="off").ok()
                traffic.listen()
            for guest in guests:
                node.delete(guest).ok()
                traffic.listen()
        traffic.stop()
    assert traffic.heard[DENIED] == set()
    assert set(range(traffic.sent)) == traffic.heard[ALLOWED]
