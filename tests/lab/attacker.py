"""What an attacker does that no socket lets him do, and how to see whether he gets anywhere.

Packets are forged byte by byte and sent as frames, past the attacker's own stack. Every forged packet carries a token,
so that it can be told from all else wherever it turns up.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Self, TypeVar

from .capture import (
    ARP_REPLY,
    ARP_REQUEST,
    BUFFER_BYTES,
    ETH_P_ALL,
    ETH_P_ARP,
    ETH_P_IP,
    ETH_P_IPV6,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    SO_RCVBUFFORCE,
)
from .namespace import SO_BINDTODEVICE, Namespace, within

T = TypeVar("T")
ICMP, TCP, UDP, ICMPV6 = socket.IPPROTO_ICMP, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMPV6
BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
# Flags of a TCP segment, RFC 9293, section 3.1
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
# ICMP (RFC 792) and ICMPv6 (RFC 4443, RFC 4861) types
UNREACHABLE, ICMP_REDIRECT, ECHO = 3, 5, 8
UNREACHABLE6, ECHO6, ROUTER_ADVERTISEMENT, REDIRECT6 = 1, 128, 134, 137
_FIRST_ND = 133
_ND_HOPS = 255  # RFC 4861, section 6.1.2: what comes from the link itself
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_CAPABILITY_VERSION_3 = 0x20080522
# What the kernel answers to a process whose packet has no way, or is rejected by a rule.
_REFUSALS = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM)
_libc = ctypes.CDLL(None, use_errno=True)


def token() -> bytes:
    """Something that no other packet has in it."""
    return b"<" + secrets.token_hex(8).encode() + b">"


def address_family(address: str) -> socket.AddressFamily:
    """AF_INET or AF_INET6."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


# -- packets


def udp(source: str, destination: str, ports: tuple[int, int], payload: bytes, *, hops: int = 64) -> bytes:
    """A datagram from one port to another."""
    body = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    return _packet(source, destination, UDP, _summed(source, destination, UDP, body, 6), hops)


def tcp(
    source: str,
    destination: str,
    ports: tuple[int, int],
    flags: int,
    *,
    sequence: int = 0,
    acknowledged: int = 0,
    payload: bytes = b"",
) -> bytes:
    """A segment."""
    body = struct.pack("!HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0) + payload
    return _packet(source, destination, TCP, _summed(source, destination, TCP, body, 16))


def icmp(source: str, destination: str, kind: int, code: int, rest: bytes, payload: bytes) -> bytes:
    """A message of ICMP or ICMPv6; `rest` are the four bytes of its header after the checksum."""
    body = struct.pack("!BBH", kind, code, 0) + rest + payload
    if ":" in source:
        hops = _ND_HOPS if kind >= _FIRST_ND else 64
        return _packet(source, destination, ICMPV6, _summed(source, destination, ICMPV6, body, 2), hops)
    return _packet(source, destination, ICMP, body[:2] + struct.pack("!H", _checksum(body)) + body[4:])


def echo(source: str, destination: str, payload: bytes) -> bytes:
    """An echo request with an identifier of its own."""
    kind = ECHO6 if ":" in source else ECHO
    return icmp(source, destination, kind, 0, secrets.token_bytes(2) + b"\0\1", payload)


def unreachable(source: str, destination: str, quoted: bytes) -> bytes:
    """An error that says: no such port there, about a packet that is quoted."""
    kind, code = (UNREACHABLE6, 4) if ":" in source else (UNREACHABLE, 3)
    return icmp(source, destination, kind, code, bytes(4), quoted)


def redirect(source: str, destination: str, better: str, quoted: bytes, *, quoting: bool = True) -> bytes:
    """A router's advice to send packets like a quoted one to a better gateway from now on.

    Args:
        quoting: whether the packet is really in it, which IPv6 does not insist on.
    """
    target = ipaddress.ip_address(better).packed
    if ":" not in source:
        return icmp(source, destination, ICMP_REDIRECT, 1, target, quoted)
    about = quoted[24:40]  # the destination of the quoted packet
    option = struct.pack("!BBHI", 4, (8 + len(quoted) + 7) // 8, 0, 0) + quoted + bytes(-len(quoted) % 8)
    return icmp(source, destination, REDIRECT6, 0, bytes(4), target + about + (option if quoting else b""))


def router_advertisement(source: str, prefix: str) -> bytes:
    """A router that offers itself as the way to everywhere, with a prefix to make addresses from."""
    network = ipaddress.IPv6Network(prefix)
    on_link_and_autonomous = 0xC0
    option = struct.pack("!BBBBIII", 3, 4, network.prefixlen, on_link_and_autonomous, 3600, 3600, 0)
    hops_and_lifetime = struct.pack("!BBH", 64, 0, 1800)
    body = bytes(8) + option + network.network_address.packed
    return icmp(source, "ff02::1", ROUTER_ADVERTISEMENT, 0, hops_and_lifetime, body)


def _packet(source: str, destination: str, protocol: int, body: bytes, hops: int = 64) -> bytes:
    own, other = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, hops) + own + other + body
    identifier = int.from_bytes(secrets.token_bytes(2))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), identifier, 0, hops, protocol, 0) + own + other
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + body


def _summed(source: str, destination: str, protocol: int, body: bytes, offset: int) -> bytes:
    """A body with its checksum, which covers the addresses as well, at an offset."""
    pseudo = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    pseudo += struct.pack("!IHBB", len(body), 0, 0, protocol)
    checksum = _checksum(pseudo + body) or 0xFFFF
    return body[:offset] + struct.pack("!H", checksum) + body[offset + 2 :]


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2]) for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# -- sending and hearing


class _Open:
    """Sockets that are closed when a block ends."""

    def __init__(self, *sockets: socket.socket) -> None:
        self._sockets = sockets
        for one in sockets:
            one.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for one in self._sockets:
            one.close()

    def _hear(self, is_it: Callable[[bytes], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select(self._sockets, [], [], left)
            for one in ready:
                try:
                    while True:
                        if is_it(one.recv(65536)):
                            return True
                except BlockingIOError:
                    continue
        return False


class Tap(_Open):
    """A NIC at which any frame can be sent and everything that arrives is heard."""

    def __init__(self, namespace: Namespace, nic: str = "eth0") -> None:
        self.mac = namespace.mac(nic)
        self._nic = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._nic.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._nic.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._nic.bind((nic, ETH_P_ALL))
        super().__init__(self._nic)

    def send(self, packet: bytes, mac: str) -> None:
        """Send an IP packet to a MAC address, whatever the addresses in it are."""
        ethertype = ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP
        self._send(packet, mac, ethertype)

    def hears(self, wanted: bytes | Callable[[bytes], bool], seconds: float) -> bool:
        """Whether a frame with a token in it, or one of a kind, arrives in time or has arrived since last asked."""
        is_it = wanted if callable(wanted) else lambda frame: wanted in frame
        return self._hear(is_it, seconds)

    def announce(self, address: str) -> None:
        """Say on the link that an address is here, as arping(8) does with -A."""
        self._send_arp(ARP_REPLY, address, self.mac, address)

    def answers_arp(self, address: str, asker: str, seconds: float) -> bool:
        """Whether somebody on the link answers an ARP request for an address."""
        self._send_arp(ARP_REQUEST, asker, "00:00:00:00:00:00", address)
        target = ipaddress.ip_address(address).packed
        return self.hears(
            lambda frame: (
                frame[12:14] == struct.pack("!H", ETH_P_ARP)
                and frame[20:22] == struct.pack("!H", ARP_REPLY)
                and frame[28:32] == target
            ),
            seconds,
        )

    def answers_solicitation(
        self, address: str, asker: str, seconds: float, whom: tuple[str, str] | None = None
    ) -> bool:
        """Whether somebody on the link answers a neighbour solicitation for an address.

        Args:
            whom: MAC and IP address of the one who is asked; all who might have the address without it.
        """
        target = ipaddress.IPv6Address(address).packed
        # RFC 4291, section 2.7.1, and RFC 2464, section 7: the solicited-node group and its MAC address
        group = ipaddress.IPv6Address(ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13] + target[13:])
        mac, destination = whom or ("33:33:ff:" + target[13:].hex(":"), str(group))
        where_to_answer = b"\1\1" + _bytes(self.mac)
        question = icmp(asker, destination, NEIGHBOUR_SOLICITATION, 0, bytes(4), target + where_to_answer)
        self.send(question, mac)
        return self.hears(
            lambda frame: (
                frame[20:21] == bytes([ICMPV6])
                and frame[54:55] == bytes([NEIGHBOUR_ADVERTISEMENT])
                and frame[62:78] == target
            ),
            seconds,
        )

    def _send_arp(self, operation: int, sender: str, target_mac: str, target: str) -> None:
        body = struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, operation)
        body += _bytes(self.mac) + ipaddress.ip_address(sender).packed
        body += _bytes(target_mac) + ipaddress.ip_address(target).packed
        self._send(body, BROADCAST_MAC, ETH_P_ARP)

    def _send(self, body: bytes, mac: str, ethertype: int) -> None:
        self._nic.send(_bytes(mac) + _bytes(self.mac) + struct.pack("!H", ethertype) + body)


class Deliveries(_Open):
    """All that a namespace's stack takes in, whatever port it is for: what got past the input hook."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(
            *(
                namespace.socket(family, socket.SOCK_RAW, protocol)
                for family, protocols in (
                    (socket.AF_INET, (UDP, TCP, ICMP)),
                    (socket.AF_INET6, (UDP, TCP, ICMPV6)),
                )
                for protocol in protocols
            )
        )

    def bring(self, token: bytes, seconds: float) -> bool:
        """Whether a packet with a token in it has been taken in, or is in time."""
        return self._hear(lambda packet: token in packet, seconds)


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


# -- a process, with and without privileges


@dataclass(frozen=True)
class Process:
    """A process that tries to reach somebody by the means that sockets give it.

    Attributes:
        namespace: where it runs.
        source: the address it binds to.
        device: the interface it binds to.
        privileged: whether it has root's capabilities; without any it is a container that has dropped them all.
    """

    namespace: Namespace
    source: str = ""
    device: str = ""
    privileged: bool = True

    def connects(
        self, victim: Namespace, address: str, seconds: float, port: int = 0, listening: int = 0
    ) -> bool:
        """Whether a TCP connection comes about to a listener of the victim.

        Args:
            port: where to connect to, the listener's own if none is given.
            listening: the listener's port if that is another.
        """
        family = address_family(address)
        with (
            closing(victim.socket(family)) as server,
            closing(self.open_socket(family, socket.SOCK_STREAM)) as client,
        ):
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("", listening or port))
            server.listen()
            client.setblocking(False)
            self._try(lambda: client.connect((address, port or server.getsockname()[1])))
            ready, _, _ = select.select([server], [], [], seconds)
            if ready:
                server.accept()[0].close()
            return bool(ready)

    def sends(self, victim: Namespace, address: str, seconds: float, port: int = 0) -> bool:
        """Whether a UDP datagram is taken in by the victim."""
        family, sent = address_family(address), token()
        with Deliveries(victim) as deliveries, closing(self.open_socket(family)) as client:
            self._try(lambda: client.sendto(sent, (address, port or _some_port())))
            return deliveries.bring(sent, seconds)

    def pings(self, victim: Namespace, address: str, seconds: float) -> bool:
        """Whether an ICMP echo request is taken in by the victim."""
        family, sent = address_family(address), token()
        protocol, kind = (ICMPV6, ECHO6) if family == socket.AF_INET6 else (ICMP, ECHO)
        self.namespace.sysctl("net/ipv4/ping_group_range", "0 0")
        with (
            Deliveries(victim) as deliveries,
            closing(self.open_socket(family, protocol=protocol)) as client,
        ):
            self._try(lambda: client.sendto(struct.pack("!BBHHH", kind, 0, 0, 0, 1) + sent, (address, 0)))
            return deliveries.bring(sent, seconds)

    def emits(
        self, sent: bytes, to: tuple[str, int], ancillary: Sequence[tuple[int, int, bytes]] = ()
    ) -> None:
        """Send a datagram, whatever becomes of it."""
        with closing(self.open_socket(address_family(to[0]))) as client:
            self._try(lambda: client.sendmsg([sent], ancillary, 0, to))

    def open_socket(self, family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> socket.socket:
        """One of this process, bound as it is."""

        def make() -> socket.socket:
            one = socket.socket(family, kind, protocol)
            if family == socket.AF_INET:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if self.device:
                one.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, self.device.encode())
            if self.source:
                one.bind((self.source, 0))
            return one

        return self.run(make)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            self.run(act)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise

    def run(self, function: Callable[[], T]) -> T:
        """Call a function as this process."""

        def act() -> T:
            if not self.privileged:
                _drop_capabilities()
            return function()

        return within(self.namespace.path, act)


def _some_port() -> int:
    return 20_000 + secrets.randbelow(10_000)


def _drop_capabilities() -> None:
    """Of the calling thread only (capset(2))."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, bytes(24)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "capset")
