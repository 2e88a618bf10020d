"""A pod's veth with a policy at its end on the node, and a sink behind the node that sees what passes."""

from __future__ import annotations

import ipaddress
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from lab import Namespace, within
from lab.attacker import echo, icmp, tcp, udp

from cni_macvlan_egress.kernel.nftables import Nftables

ETH_P_ALL = 3
POD_MAC, POD4, POD6 = "02:00:00:00:00:10", "10.1.0.2", "fd00:1::2"
SINK_MAC = "02:00:00:00:00:20"
BARRIER4 = "10.255.255.254"  # in what every policy spares
SYN = 0x02


@dataclass(frozen=True)
class Probe:
    """A packet to try: protocol is tcp, udp, icmp, or the number of another one."""

    destination: str
    protocol: str
    port: int = 0


class PolicyBench:
    """Three namespaces: the pod, the node, and the sink that all that the node forwards ends in."""

    def __init__(self) -> None:
        prefix = f"cme-{secrets.token_hex(3)}"
        self.pod, self.node, self.sink = (Namespace(f"{prefix}-{role}") for role in ("pod", "node", "sink"))
        self.node.ip(
            f"link add veth0 type veth peer name eth0 address {POD_MAC} netns {self.pod.name}",
            f"link add out0 type veth peer name eth0 address {SINK_MAC} netns {self.sink.name}",
            "link set veth0 up",
            "link set out0 up",
        )
        for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            self.node.sysctl(key, 1)
        for name in ("all", "veth0"):
            self.node.sysctl(f"net/ipv4/conf/{name}/rp_filter", 0)
        self.pod.ip("link set eth0 up", f"address add {POD4}/32 dev eth0", f"address add {POD6}/128 dev eth0")
        self.sink.ip("link set eth0 up")
        self.pod.settle("eth0")
        self.sink.settle("eth0")
        self.node.settle("out0")
        self.node.ip(
            "route add 192.0.2.254 dev out0",
            f"neighbour add 192.0.2.254 lladdr {SINK_MAC} dev out0",
            "route add default via 192.0.2.254",
            f"neighbour add fe80::1 lladdr {SINK_MAC} dev out0",
            "route add default via fe80::1 dev out0",
        )
        self.node_mac = self.node.mac("veth0")

    def close(self) -> None:
        for namespace in (self.pod, self.node, self.sink):
            namespace.remove()

    def install(self, commands: str) -> None:
        """Run nft commands on the node."""

        def work() -> None:
            with Nftables() as nftables:
                nftables.run(commands, "install")

        within(self.node.path, work)

    def passing(self, probes: Sequence[Probe]) -> list[bool]:
        """Send each from the pod, and tell which arrive at the sink."""
        with closing(self.sink.socket(socket.AF_PACKET, socket.SOCK_RAW)) as ear:
            ear.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            ear.bind(("eth0", ETH_P_ALL))
            tokens = [b"<" + secrets.token_hex(6).encode() + b">" for _ in probes]
            last = b"<" + secrets.token_hex(6).encode() + b">"
            self.send([*map(self._packet, probes, tokens), udp(POD4, BARRIER4, (1, 1), last)])
            seen = _hear(ear, last)
        return [token in seen for token in tokens]

    def send(self, packets: Iterable[bytes], source_mac: str = POD_MAC) -> None:
        """Send IP packets as frames from the pod."""
        head = bytes.fromhex((self.node_mac + source_mac).replace(":", ""))
        with closing(self.pod.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
            sender.bind(("eth0", 0))
            for packet in packets:
                sender.send(head + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet)

    def _packet(self, probe: Probe, token: bytes) -> bytes:
        source = POD6 if ":" in probe.destination else POD4
        if probe.protocol == "tcp":
            return tcp(source, probe.destination, (40000, probe.port), SYN, payload=token)
        if probe.protocol == "udp":
            return udp(source, probe.destination, (40000, probe.port), token)
        if probe.protocol == "icmp":
            return echo(source, probe.destination, token)
        return _other(source, probe.destination, int(probe.protocol), probe.port, token)


def _other(source: str, destination: str, protocol: int, port: int, token: bytes) -> bytes:
    """A packet of any protocol; what stands where ports would be is that of SCTP."""
    body = struct.pack("!HHII", 40000, port, 0, 0) + token
    template = icmp(source, destination, 8, 0, bytes(4), b"")
    if ":" in source:
        return template[:4] + struct.pack("!HB", len(body), protocol) + template[7:40] + body
    head = template[:2] + struct.pack("!H", 20 + len(body)) + template[4:9] + bytes((protocol,))
    head += b"\0\0" + template[12:20]
    total = sum(struct.unpack("!10H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + body


def _hear(ear: socket.socket, last: bytes) -> bytes:
    """All that arrives until something does, in one piece."""
    heard = []
    deadline = time.monotonic() + 5
    while select.select([ear], [], [], max(0.0, deadline - time.monotonic()))[0]:
        frame = ear.recv(65536)
        heard.append(frame)
        if last in frame:
            return b"".join(heard)
    raise AssertionError("the last packet, which no policy denies, has not arrived")


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)
