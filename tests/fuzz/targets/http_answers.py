"""An API server that gives to each connection the next of some answers, whatever they are; no TLS and no network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any, Self

from cni_macvlan_egress.sources import https, kubernetes, policy_kubernetes, tls
from cni_macvlan_egress.sources.kubeconfig import Access

from ..mutations import octets, words
from ..mutations.documents import Vocabulary, changed_text

BETWEEN = b"\n=====\n"
# At the end of an answer: its body goes on and on.
ENDLESS = b"@ENDLESS@"
_MOST_READ = 48 << 20
ACCESS = Access(
    "/etc/kubeconfig", "'server' in /etc/kubeconfig", "192.0.2.1", 6443, "", "192.0.2.1", None, "token"
)
_LENGTH = re.compile(rb"(?im)^content-length:[^\n]*\n")
_HEADERS = (
    "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2", "200", "100", "301", "401", "403", "404", "410", "429", "500",
    "503", "204",
    "304", "Content-Length:", "Transfer-Encoding:", "chunked", "identity", "gzip", "Connection:", "close", "Location:",
    "Content-Type:", "application/json", "-1", "0", "+5", "0x10", "\r\n", "\r\n\r\n", "\n", " ", "\t", ";a=b",
    "ffffffffffffffff",
    "-2", "_1", "1_0",
)  # fmt: skip


def answer(body: bytes, *headers: str, status: int = 200) -> bytes:
    """An answer as a server gives it."""
    lines = [f"HTTP/1.1 {status} Text", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(body: bytes, size: int = 1000) -> bytes:
    """The same in chunks."""
    parts = [body[place : place + size] for place in range(0, len(body), size)]
    chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


class _Connection:
    """Looks to the plugin like a connection over TLS, and brings what it is to bring."""

    def __init__(self, data: bytes) -> None:
        self._data = data.removesuffix(ENDLESS)
        self._is_endless = data.endswith(ENDLESS)
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0, seconds

    def setsockopt(self, *_: object) -> None:
        pass

    def do_handshake(self) -> None:
        pass

    def close(self) -> None:
        pass

    def send(self, data: bytes) -> int:
        return len(data)

    def recv_into(self, buffer: memoryview) -> int:
        if not self._data and self._is_endless:
            self._read += len(buffer)
            assert self._read <= _MOST_READ, "an answer is read on and on"
            buffer[:] = bytes(len(buffer))
            return len(buffer)
        part, self._data = self._data[: len(buffer)], self._data[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


@contextmanager
def serving(data: bytes) -> Iterator[list[bytes]]:
    """Answer with the parts of an input in their order; the list holds those that are left."""
    left = data.split(BETWEEN)

    def connect(_question: https.Question) -> _Connection:
        if not left:
            raise ConnectionRefusedError(111, "Connection refused")
        return _Connection(left.pop(0))

    def secure(plain: _Connection, **_: object) -> _Connection:
        return plain

    replaced: list[tuple[Any, str, object]] = [
        (https.Question, "_connect", connect),
        (tls, "context", lambda _access: SimpleNamespace(wrap_socket=secure)),
        (kubernetes, "from_file", lambda _path: ACCESS),
        (policy_kubernetes, "from_file", lambda _path: ACCESS),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in replaced]
    for place, name, stand_in in replaced:
        setattr(place, name, stand_in)
    try:
        yield left
    finally:
        for place, name, original in before:
            setattr(place, name, original)


def mutated(data: bytes, random: Random, vocabulary: Vocabulary) -> bytes:
    """Other answers: mostly well-formed ones that say something else."""
    found = data.split(BETWEEN)
    place = random.randrange(len(found))
    match random.randrange(12):
        case 0:
            found.insert(place, found[place])
        case 1:
            del found[place]
        case 2:
            other = random.randrange(len(found))
            found[place], found[other] = found[other], found[place]
        case 3:
            found[place] = octets.changed(found[place], random)
            if random.random() < 0.05:
                found[place] += ENDLESS
        case 4 | 5:
            head, end, body = found[place].partition(b"\r\n\r\n")
            found[place] = (
                words.changed(head.decode("latin-1"), random, _HEADERS).encode("latin-1", "replace")
                + end
                + body
            )
        case _:
            found[place] = _other_body(found[place], random, vocabulary)
    return BETWEEN.join(found[:12])


def _other_body(one: bytes, random: Random, vocabulary: Vocabulary) -> bytes:
    head, _, body = one.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        body = b"".join(re.findall(rb"\r\n([^\r]*)", b"\r\n" + body)[1::2])
    lines = body.split(b"\n") if _is_stream(body) else [body]
    place = random.randrange(len(lines))
    text = changed_text(lines[place].decode("utf-8", "replace"), random, vocabulary)
    lines[place] = text.encode("utf-8", "surrogatepass")
    if len(lines) > 1 and random.random() < 0.3:
        lines.insert(random.randrange(len(lines)), lines[place])
    body = b"\n".join(lines)
    if b"chunked" in head.lower():
        return chunked(body, random.choice((1, 7, 1000)) if len(body) < 200 else 1000)
    new_length = f"Content-Length: {len(body)}\r\n".encode()
    return _LENGTH.sub(new_length, head + b"\r\n") + b"\r\n" + body


def _is_stream(body: bytes) -> bool:
    """Whether it has a JSON text a line."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return b"\n" in body
    return False
