"""Packets that pretend: replies nobody asked for, parts of other people's flows, sources that cannot be."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pytest
from lab import Namespace
from lab.attacker import (
    ACK,
    FIN,
    PSH,
    RST,
    SYN,
    Deliveries,
    Tap,
    address_family,
    echo,
    tcp,
    token,
    udp,
    unreachable,
)

from .guards import Chain, Settings, assert_stopped
from .scene import FAMILIES, HOST, NAMED, SERVER_PORT, SOURCE, TCP_PORT, UDP_PORT, Scene

# From a destination of the pod, of flows that do not exist.
UNASKED: dict[str, Callable[[str, str, bytes], bytes]] = {
    "answer": lambda frm, to, sent: udp(frm, to, (UDP_PORT, 40_000), sent),
    "handshake": lambda frm, to, sent: tcp(frm, to, (SERVER_PORT, 40_001), SYN | ACK, payload=sent),
    "segment": lambda frm, to, sent: tcp(frm, to, (SERVER_PORT, 40_002), ACK | PSH, payload=sent),
    "reset": lambda frm, to, sent: tcp(frm, to, (SERVER_PORT, 40_003), RST | ACK, payload=sent),
    "ping": echo,
    "error": lambda frm, to, sent: unreachable(frm, to, udp(to, frm, (40_004, UDP_PORT), sent)),
    "error about others": lambda frm, to, sent: unreachable(
        frm, to, udp(HOST[6 if ":" in to else 4], frm, (40_005, 9), sent)
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", UNASKED)
def test_destination_that_was_not_asked_gets_no_word_in(scene: Scene, kind: str, family: int) -> None:
    with Deliveries(scene.pod) as deliveries:

        def attack(seconds: float) -> bool:
            sent = token()
            scene.tap.send(UNASKED[kind](NAMED[family], SOURCE[family], sent), scene.mac)
            return deliveries.bring(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "input"))


@pytest.mark.parametrize("family", FAMILIES)
def test_answer_to_the_main_interface_is_not_taken_from_the_lan(scene: Scene, family: int) -> None:
    """The pod asks somebody in the cluster, say for a name; somebody on the LAN answers first."""
    asked, asker = scene.neighbour_address[family], scene.pod_address[family]
    with closing(scene.pod.socket(address_family(asked), socket.SOCK_DGRAM)) as client:
        client.bind((asker, 0))
        client.setblocking(False)

        def attack(seconds: float) -> bool:
            sent = token()
            client.sendto(b"who is it?", (asked, 5353))
            with Deliveries(scene.pod) as deliveries:
                scene.tap.send(udp(asked, asker, (5353, client.getsockname()[1]), sent), scene.mac)
                return deliveries.bring(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "arriving"))


@pytest.mark.parametrize("family", FAMILIES)
def test_nobody_on_the_lan_speaks_for_a_client_of_a_line(scene: Scene, family: int) -> None:
    client, pod = scene.neighbour_address[family], scene.pod_address[family]
    with (
        closing(scene.neighbour.socket(address_family(client), socket.SOCK_DGRAM)) as flow,
        Tap(scene.outside) as server,
    ):
        flow.bind((client, 0))

        def attack(seconds: float) -> bool:
            sent, real = token(), token()
            flow.sendto(real, (pod, UDP_PORT))
            assert server.hears(real, 3), "the client's own flow does not work"
            scene.tap.send(udp(client, pod, (flow.getsockname()[1], UDP_PORT), sent), scene.mac)
            return server.hears(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "arriving"), Chain(scene.pod, "forward"))


@dataclass
class Connection:
    """A client's connection through a line.

    Attributes:
        port: the client's, as the server sees it.
        sequence: the server's first sequence number.
    """

    client: socket.socket
    server: socket.socket
    port: int
    sequence: int


@contextmanager
def connection(scene: Scene, family: int) -> Iterator[Connection]:
    listener = scene.outside.socket(address_family(NAMED[family]))
    client = scene.neighbour.socket(address_family(NAMED[family]))
    header = 14 + {4: 20, 6: 40}[family]
    answers: list[int] = []

    def answer(frame: bytes) -> bool:
        if frame[header : header + 2] == struct.pack("!H", TCP_PORT) and frame[header + 13] == SYN | ACK:
            answers.append(struct.unpack("!I", frame[header + 4 : header + 8])[0])
        return bool(answers)

    with closing(listener), closing(client), Tap(scene.neighbour) as at_client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((NAMED[family], SERVER_PORT))
        listener.listen()
        listener.settimeout(3)
        client.settimeout(3)
        client.connect((scene.pod_address[family], TCP_PORT))
        server, (peer, port, *_) = listener.accept()
        with closing(server):
            server.settimeout(3)
            assert peer == SOURCE[family]
            assert at_client.hears(answer, 3)
            yield Connection(client, server, port, answers[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_segment_beyond_the_window_reaches_no_client(scene: Scene, family: int) -> None:
    """Connection tracking knows the windows of both sides; a liberal one would let everything through."""
    with connection(scene, family) as flow, Tap(scene.neighbour) as at_client:

        def attack(seconds: float) -> bool:
            sent = token()
            ports, beyond = (SERVER_PORT, flow.port), (flow.sequence + (1 << 30)) % (1 << 32)
            forged = tcp(NAMED[family], SOURCE[family], ports, ACK | PSH, sequence=beyond, payload=sent)
            scene.tap.send(forged, scene.mac)
            return at_client.hears(sent, seconds)

        liberal: dict[str, object] = {"net/netfilter/nf_conntrack_tcp_be_liberal": 1}
        assert_stopped(attack, Settings(scene.pod, liberal))


@pytest.mark.parametrize("flags", [RST, RST | ACK, SYN, SYN | ACK, ACK, FIN | ACK])
@pytest.mark.parametrize("family", FAMILIES)
def test_connection_outlives_forged_segments(scene: Scene, family: int, flags: int) -> None:
    with connection(scene, family) as flow:
        flow.client.sendall(b"before")
        assert flow.server.recv(99) == b"before"
        for offset in (1 << 30, 1 << 31, 3 << 30):
            ports, beside = (SERVER_PORT, flow.port), (flow.sequence + offset) % (1 << 32)
            forged = tcp(NAMED[family], SOURCE[family], ports, flags, sequence=beside)
            scene.tap.send(forged, scene.mac)
        flow.client.sendall(b"after")
        assert flow.server.recv(99) == b"after"
        flow.server.sendall(b"back")
        assert flow.client.recv(99) == b"back"


IMPOSSIBLE = {4: ("localhost", "own", "main", "neighbour", "node"), 6: ("own", "main", "neighbour", "node")}


@pytest.mark.parametrize(
    ("family", "claimed"), [(family, claimed) for family in FAMILIES for claimed in IMPOSSIBLE[family]]
)
def test_source_that_cannot_come_from_the_lan_does_not_help(scene: Scene, family: int, claimed: str) -> None:
    address = {
        "localhost": {4: "127.0.0.1"},
        "own": SOURCE,
        "main": scene.pod_address,
        "neighbour": scene.neighbour_address,
        "node": scene.node_address,
    }[claimed][family]
    kernels_own = Settings(
        scene.pod, {f"net/ipv4/conf/macvlan0/{name}": 1 for name in ("accept_local", "route_localnet")}
    )
    with Deliveries(scene.pod) as deliveries:

        def attack(seconds: float) -> bool:
            sent = token()
            scene.tap.send(udp(address, SOURCE[family], (5000, 5001), sent), scene.mac)
            return deliveries.bring(sent, seconds)

        martian = family == 4 and claimed in ("localhost", "own", "main")
        assert_stopped(attack, Chain(scene.pod, "input"), *([kernels_own] if martian else []))


@pytest.mark.parametrize("family", FAMILIES)
def test_source_from_the_cluster_does_not_get_into_it(scene: Scene, family: int) -> None:
    victim: Namespace = scene.neighbour
    with Tap(victim) as at_victim:

        def attack(seconds: float) -> bool:
            sent = token()
            forged = udp(scene.node_address[family], scene.neighbour_address[family], (5000, 5001), sent)
            scene.tap.send(forged, scene.mac)
            return at_victim.hears(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "arriving"), Chain(scene.pod, "forward"))


def test_loopback_of_ipv6_is_no_source(scene: Scene) -> None:
    """The kernel has no setting that would take it from a NIC, so that the attack cannot be shown to succeed."""
    with Deliveries(scene.pod) as deliveries, Chain(scene.pod, "input").lifted():
        for source in ("::1", "ff02::1"):
            sent = token()
            scene.tap.send(udp(source, SOURCE[6], (5000, 5001), sent), scene.mac)
            assert not deliveries.bring(sent, 0.1)
        scene.tap.send(udp(HOST[6], SOURCE[6], (5000, 5001), sent), scene.mac)
        assert deliveries.bring(sent, 3)
