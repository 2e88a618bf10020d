"""Sockets of a namespace that tell, and choose, to which of its addresses a packet came."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from .namespace import Namespace

Endpoint = tuple[str, int]
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ANSWER_SECONDS = 3.0  # more than a busy machine takes, less than a test may hang
# <linux/in.h>, <linux/in6.h>
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50


def version_of(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


@dataclass(frozen=True)
class Packet:
    """What a raw socket has received; ancillary data that send an answer from the same address."""

    message: bytes
    source: str
    target: str
    ancillary: list[tuple[int, int, bytes]]


def await_packet(
    sock: socket.socket, version: int, wanted: Callable[[bytes], bool], timeout: float
) -> Packet | None:
    """The first packet of a kind at a raw socket, without its IP header; None if none comes in time."""
    deadline = time.monotonic() + timeout
    while readable(sock, deadline - time.monotonic()):
        data, ancillary, _, peer = sock.recvmsg(65536, 128)
        # A raw socket of IPv4 hands out the IP header too.
        message = data[(data[0] & 0xF) * 4 :] if version == 4 else data
        if len(message) >= 8 and wanted(message):
            return Packet(message, peer[0], target_of(version, ancillary), ancillary)
    return None


def raw_socket(namespace: Namespace, version: int, protocol: int) -> socket.socket:
    """One that gets every packet of an IP protocol."""
    return with_packet_info(namespace, version, socket.SOCK_RAW, protocol)


def with_packet_info(namespace: Namespace, version: int, kind: int, protocol: int = 0) -> socket.socket:
    """One whose ancillary data tell where a packet came to; given back, they answer from there."""
    sock = namespace.socket(FAMILIES[version], kind, protocol)
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    return sock


def target_of(version: int, ancillary: list[tuple[int, int, bytes]]) -> str:
    """The address that a packet came to."""
    for level, kind, data in ancillary:
        if version == 4 and (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if version == 6 and (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    raise AssertionError(f"no packet information in {ancillary}")


def bind(sock: socket.socket, own: Endpoint) -> None:
    """Bind, unless neither address nor port matter."""
    if own != ("", 0):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(own)


def readable(sock: socket.socket, timeout: float) -> bool:
    """Whether something arrives in time."""
    return bool(select.select([sock], [], [], max(0.0, timeout))[0])
