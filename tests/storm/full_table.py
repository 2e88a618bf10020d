"""A namespace's connection tracking table, full to the limit: entries of flows that never were.

The limit, net.netfilter.nf_conntrack_max, is the machine's and cannot be lowered for one namespace, but the entries of
each namespace are counted by themselves. So as many are made as it takes (linux/nfnetlink_conntrack.h); nobody else
loses any.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from contextlib import closing
from pathlib import Path

from lab import Namespace, within

_NETLINK_NETFILTER = 12
_NEW = 1 << 8  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_NESTED = 0x8000
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOINFO, _TIMEOUT = 1, 2, 3, 4, 7
# Seen in both directions, assured, confirmed: what the kernel does not drop to make room.
_SETTLED = 0x2 | 0x4 | 0x8
_TCP_ESTABLISHED = 3
_SECONDS = 3600
_BATCH = 200
_SOURCES = ipaddress.ip_address("198.18.0.1")
_PORTS = range(1024, 61024)


def limit() -> int:
    """How many entries a namespace may have."""
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text(encoding="ascii"))


def count(namespace: Namespace) -> int:
    """How many it has."""
    return int(namespace.sysctl("net/netfilter/nf_conntrack_count"))


def fill(namespace: Namespace) -> int:
    """Make entries until the kernel refuses one; returns how many."""
    with closing(within(namespace.path, _open)) as sock:
        made = 0
        while True:
            numbers = range(made, made + _BATCH)
            sock.send(b"".join(_entry(number) for number in numbers))
            answers = _errors(sock, len(numbers))
            made += answers.count(0)
            refusals = set(answers) - {0}
            if refusals:
                assert refusals == {errno.ENOMEM}, refusals  # as nf_conntrack_alloc() says that it is full
                return made


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((0, 0))
    return sock


def _errors(sock: socket.socket, wanted: int) -> list[int]:
    found: list[int] = []
    while len(found) < wanted:
        data = sock.recv(1 << 16)
        while data:
            length, _, _, _, _, error = struct.unpack_from("=IHHIIi", data)
            found.append(-error)
            data = data[(length + 3) & ~3 :]
    return found


def _entry(number: int) -> bytes:
    source = (_SOURCES + number // len(_PORTS)).packed
    port = _PORTS[number % len(_PORTS)]
    target = bytes([198, 19, 0, 1])
    body = (
        struct.pack("=BBH", socket.AF_INET, 0, 0)
        + _nest(_TUPLE_ORIG, _tuple(source, target, port, 443))
        + _nest(_TUPLE_REPLY, _tuple(target, source, 443, port))
        + _attribute(_STATUS, struct.pack("!I", _SETTLED))
        + _attribute(_TIMEOUT, struct.pack("!I", _SECONDS))
        + _nest(_PROTOINFO, _nest(1, _attribute(1, bytes([_TCP_ESTABLISHED]))))
    )
    return struct.pack("=IHHII", 16 + len(body), _NEW, _REQUEST | _ACK | _CREATE | _EXCL, number, 0) + body


def _tuple(source: bytes, target: bytes, source_port: int, port: int) -> bytes:
    protocol = (
        _attribute(1, bytes([socket.IPPROTO_TCP]))
        + _attribute(2, struct.pack("!H", source_port))
        + _attribute(3, struct.pack("!H", port))
    )
    return _nest(1, _attribute(1, source) + _attribute(2, target)) + _nest(2, protocol)


def _nest(kind: int, content: bytes) -> bytes:
    return _attribute(kind | _NESTED, content)


def _attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)
