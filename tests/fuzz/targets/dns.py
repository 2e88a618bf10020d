"""What a name server answers, over UDP and TCP.

An input is a list of packets as TCP carries them, each after its length. The first two bytes of a packet are what is to
be changed in the question's ID: zero stands for the right one. A question for NAME of the type 0xfefe stands for
whatever was asked, and so does that type in a record.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from random import Random
from types import SimpleNamespace
from typing import Self

import dns.exception
import dns.query

from cni_macvlan_egress.model.policy import Answer
from cni_macvlan_egress.sources import resolver

from ..mutations import octets
from ..target import Target

NAME = "api.example.com"
_CLUSTER = (ip_network("10.244.0.0/16"), ip_network("fd00:244::/32"))
_KNOWN = Answer(("192.0.2.1", "2001:db8::1"), 1.0)
_NOW, _LONGEST = 1_000_000.0, 1800.0
_A, _CNAME, _SOA, _AAAA, _OPT = 1, 5, 6, 28, 41
_ANY = b"\xfe\xfe"
_WIRE_NAME = b"\3api\7example\3com\0"


def packets(data: bytes) -> list[bytes]:
    """The packets of an input."""
    found = []
    while len(data) >= 2:
        (length,) = struct.unpack("!H", data[:2])
        found.append(data[2 : 2 + length])
        data = data[2 + length :]
    return found


def joined(found: list[bytes]) -> bytes:
    """An input of packets."""
    return b"".join(struct.pack("!H", len(one)) + one for one in found)


class _Server:
    """Answers with the packets one after the other, over UDP and TCP alike; then it keeps silent.

    Questions for A and for AAAA come from two threads at once, so that each kind has all packets to itself.
    """

    def __init__(self, answers: list[bytes]) -> None:
        self._left = {kind: list(answers) for kind in (_A, _AAAA)}

    def next(self, query: bytes) -> bytes | None:
        end = _end_of_name(query, 12)
        kind = query[end : end + 2]
        left = self._left[int.from_bytes(kind, "big")]
        if not left:
            return None
        packet = left.pop(0)
        if len(packet) < 2:
            return packet
        mark = int.from_bytes(packet[:2], "big") ^ int.from_bytes(query[:2], "big")
        rest = packet[2:].replace(_WIRE_NAME + _ANY, query[12 : end + 2], 1).replace(_ANY, kind)
        return mark.to_bytes(2, "big") + rest


def _end_of_name(query: bytes, place: int) -> int:
    while query[place]:
        place += 1 + query[place]
    return place + 1


class _Socket:
    """A socket to that server; whoever waits for what does not come has waited long enough."""

    def __init__(self, server: _Server, kind: int) -> None:
        self.server, self.kind, self.query, self.stream = server, kind, b"", b""
        self.waiting: list[bytes] = []
        self.family, self.type = socket.AF_INET, kind

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def setblocking(self, _blocking: bool) -> None:
        pass

    def connect(self, _peer: object) -> None:
        pass

    def connect_ex(self, _peer: object) -> int:
        return 0

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 53

    def close(self) -> None:
        pass

    def sendto(self, data: bytes, _peer: object) -> int:
        self.query = data
        return len(data)

    def send(self, data: bytes) -> int:
        if not self.query:
            self.query = data[2:]
            packet = self.server.next(self.query)
            if packet is not None:
                self.stream = struct.pack("!H", len(packet)) + packet
        return len(data)

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        packet = self.server.next(self.query)
        if packet is None:
            raise dns.exception.Timeout
        return packet[:size], ("127.0.0.1", 53)

    def recv(self, size: int) -> bytes:
        part, self.stream = self.stream[:size], self.stream[size:]
        return part


def examine(data: bytes, _seen: Callable[[], list[str]]) -> None:
    server = _Server(packets(data))
    with _spoken_to(server) as failed:
        answers = resolver.Resolver(servers=[("127.0.0.1", 53)], timeout=2.0, attempts=1).ask(
            [NAME], {NAME: _KNOWN}, _NOW, _CLUSTER, deadline=4.0
        )
    assert not failed, failed[0]
    answer = answers[NAME]
    assert _NOW < answer.expires <= _NOW + _LONGEST, answer
    assert len(answer.addresses) <= resolver.MOST_ADDRESSES
    assert answer.error.isprintable(), ascii(answer.error)
    assert len(answer.error) < 4000, "the error is a novel"
    for one in map(ip_address, answer.addresses):
        assert not (one.is_loopback or one.is_multicast or one.is_link_local or one.is_unspecified), one
        assert not any(one in network for network in _CLUSTER), one
    assert list(answer.addresses) == sorted(
        answer.addresses, key=lambda one: (ip_address(one).version, int(ip_address(one)))
    )
    kept = resolver.render(answers)
    assert kept


@contextmanager
def _spoken_to(server: _Server) -> Iterator[list[BaseException]]:
    """Have the resolver talk to a server, and tell what ends its threads."""
    failed: list[BaseException] = []

    def make(_family: int, kind: int, *_: object, **__: object) -> _Socket:
        return _Socket(server, kind)

    before = resolver.socket, dns.query.socket_factory, threading.excepthook
    resolver.socket = SimpleNamespace(socket=make, SOCK_DGRAM=socket.SOCK_DGRAM)  # type: ignore[assignment]
    dns.query.socket_factory = make
    threading.excepthook = lambda told: failed.append(told.exc_value or RuntimeError())
    try:
        yield failed
    finally:
        resolver.socket, dns.query.socket_factory, threading.excepthook = before


# -- making answers


def message(random: Random) -> bytes:
    """An answer, good or nearly so."""
    counts = [1, random.choice((0, 1, 1, 2, 3, 20)), random.choice((0, 0, 1)), random.choice((0, 0, 1))]
    question = _WIRE_NAME + _ANY + b"\0\1"
    body, written = b"", 12 + len(question)
    owner = b"\xc0\x0c"
    for section, count in enumerate(counts[1:]):
        for _ in range(count):
            record, owner = _record(random, section, owner, written + len(body))
            body += record
    for place in range(4):
        if random.random() < 0.03:
            counts[place] = random.choice((0, 1, 2, 65535))
    flags = random.choice(
        (0x8180, 0x8180, 0x8180, 0x8580, 0x8183, 0x8182, 0x8181, 0x8380, 0x8100, 0x0100, 0x8185, 0xA180)
    )
    return struct.pack("!6H", random.choice((0,) * 12 + (1,)), flags, *counts) + question + body


def _record(random: Random, section: int, owner: bytes, at: int) -> tuple[bytes, bytes]:
    """A resource record, and whose record the next one may be."""
    kind = (
        random.choice((_A, _AAAA, 0xFEFE, 0xFEFE, _CNAME, _CNAME, 16, 257))
        if section == 0
        else random.choice((_SOA, _OPT, 2))
    )
    name = random.choice((owner,) * 8 + (b"\xc0\x0c", _name(random, at)))
    target = owner
    if kind in (_A, 0xFEFE) and random.random() < 0.6:
        data = random.choice(
            (
                b"\xcb\0\x71\x19",
                b"\x7f\0\0\1",
                b"\x0a\xf4\0\7",
                b"\xff\xff\xff\xff",
                b"\0\0\0\0",
                random.randbytes(4),
            )
        )
    elif kind in (_AAAA, 0xFEFE):
        data = random.choice(
            (
                bytes(15) + b"\1",
                b"\x20\1\r\xb8" + random.randbytes(12),
                bytes(10) + b"\xff\xff" + random.randbytes(4),
            )
        )
    elif kind == _CNAME:
        data = _name(random, at + len(name) + 10)
        target = struct.pack("!H", 0xC000 | min(0x3FFF, at + len(name) + 10))
    elif kind == _SOA:
        ttl = random.choice((0, 60, 0x7FFFFFFF, 0xFFFFFFFF))
        data = b"\xc0\x0c\xc0\x0c" + struct.pack("!5I", 1, 2, 3, 4, ttl)
    elif kind == _OPT:
        name, data = b"\0", random.choice((b"", b"\0\x0f\0\2\0\0", random.randbytes(6)))
    else:
        data = random.randbytes(random.randint(0, 12))
    length = random.choice((len(data),) * 20 + (0, len(data) + 1, 65535))
    ttl = random.choice((0, 1, 60, 300, 86400, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    return name + struct.pack("!HHIH", kind, random.choice((1,) * 20 + (3, 255)), ttl, length) + data, target


def _name(random: Random, at: int) -> bytes:
    """A name on the wire, some of which lead nowhere."""
    label = random.choice((b"\3www", b"\1a", b"\x3f" + b"x" * 63, b"\2\0\1", b"\4\xff\xfe\xfd\xfc", b"\1."))
    return random.choice(
        (
            b"\xc0\x0c", label + b"\xc0\x0c", label + b"\0", label * 3 + b"\0", label * 120 + b"\0", label * 130,
            struct.pack("!H", 0xC000 | (at & 0x3FFF)), struct.pack("!H", 0xC000 | ((at + 2) & 0x3FFF)), b"\xff\xff",
            b"\x40a",
            b"\x80a\0", b"\0", _WIRE_NAME,
        )
    )  # fmt: skip


def mutate(data: bytes, random: Random) -> bytes:
    found = packets(data)
    if not found or random.random() < 0.25:
        found.insert(random.randint(0, len(found)), message(random))
        return joined(found[:8])
    place = random.randrange(len(found))
    match random.randrange(5):
        case 0:
            found[place] = message(random)
        case 1:
            found.insert(place, found[place])
        case 2:
            del found[place]
        case _:
            found[place] = octets.changed(found[place], random)[:65535]
    return joined(found[:8])


TARGET = Target("dns", examine, mutate, packages=("dns",))
