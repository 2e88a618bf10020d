"""Tables of the kernel that are full: connection tracking in the pod, and neighbours.

The neighbour tables' limits are the machine's, and so are the tables: filling them would take entries from all
namespaces, those of the machine's own network among them. tests/own_kernel does it on a kernel of its own; what is
shown here is how few entries the plugin is to blame for.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lab import Lan, Namespace, Node, source
from lab.network import OUTSIDE4

from . import full_table

EGRESS4 = "192.168.12.99"
QUICK = {"conflictTimeoutMs": 20}
REDIRECT = source(f"{EGRESS4}/24", destination=OUTSIDE4)
DUAL = source(
    f"{EGRESS4}/24,fd00:12::99/64", "192.168.12.1,fd00:12::1", destination=f"{OUTSIDE4}\n2001:db8:113::25"
)
PORT = 8080
SECONDS = 5.0


@contextmanager
def flow(client: Namespace, address: str, server: Namespace) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with server.socket(socket.AF_INET) as ear, client.socket(socket.AF_INET) as sock:
        ear.bind(("", PORT))
        ear.listen()
        for one in (ear, sock):
            one.settimeout(SECONDS)
        sock.connect((address, PORT))
        connection, _ = ear.accept()
        with connection:
            connection.settimeout(SECONDS)
            yield sock, connection


def exchange(one: socket.socket, other: socket.socket) -> None:
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(b"words")
        assert receiver.recv(5) == b"words"


def test_full_connection_tracking_keeps_new_flows_out_and_old_ones_going(
    node: Node, lan: Lan, outside: Namespace
) -> None:
    """And ADD, CHECK and DEL do not need an entry."""
    pod, client = node.pod(), node.pod()
    attacker = lan.host("192.168.12.66")
    node.add(pod, REDIRECT, conf=QUICK).ok()
    before = node.snapshot()
    with flow(client, pod.address, outside) as (near, far):
        exchange(near, far)
        full_table.fill(pod)
        assert full_table.count(pod) >= full_table.limit()
        exchange(near, far)
        assert client.reach(outside, pod.address, timeout=1.0) is None
        assert attacker.reach(pod, EGRESS4, timeout=1.0) is None
        attacker.ip(f"route add {pod.address} via {EGRESS4}")
        assert attacker.reach(pod, pod.address, timeout=1.0) is None
        node.check(pod).ok()
        node.delete(pod).ok()
        node.add(pod, REDIRECT, conf=QUICK).ok()
        node.check(pod).ok()
    assert node.snapshot()["nftables"] == before["nftables"]
    pod.run("conntrack", "--flush")
    assert client.reach(outside, pod.address) == EGRESS4


def asked(namespace: Namespace, nic: str, family: int) -> list[dict[str, Any]]:
    """Neighbours that had to be found out; multicast and broadcast need nobody's answer."""
    found = namespace.show(f"-{family} neighbour show dev {nic} nud all")
    return [one for one in found if one["state"] != ["NOARP"]]


@pytest.mark.parametrize("family", [4, 6])
def test_calls_and_announcements_need_no_neighbour_entry(node: Node, family: int) -> None:
    """Probes, announcements and their answers are frames of their own, past the neighbour tables."""
    pod = node.pod()
    before = [one["dst"] for one in asked(node, "eth0", family)]
    node.add(pod, DUAL, conf=QUICK).ok()
    node.check(pod).ok()
    node.status().ok()
    assert asked(pod, "macvlan0", family) == []
    assert [one["dst"] for one in asked(node, "eth0", family)] == before
    node.delete(pod).ok()


def test_redirect_needs_one_neighbour_entry_however_many_destinations(node: Node, outside: Namespace) -> None:
    pod, client = node.pod(), node.pod()
    more = [f"203.0.113.{number}" for number in range(30, 40)]
    outside.ip(*(f"address add {one}/24 dev eth0" for one in more))
    lines = [f"{8000 + number} tcp {one} {PORT}" for number, one in enumerate(more)]
    node.add(pod, source(f"{EGRESS4}/24", destination="\n".join(lines)), conf=QUICK).ok()
    for number in range(len(more)):
        with outside.socket(socket.AF_INET) as ear, client.socket(socket.AF_INET) as sock:
            ear.bind(("", PORT))
            ear.listen()
            sock.settimeout(SECONDS)
            sock.connect((pod.address, 8000 + number))
    assert [one["dst"] for one in asked(pod, "macvlan0", 4)] == ["192.168.12.1"]
