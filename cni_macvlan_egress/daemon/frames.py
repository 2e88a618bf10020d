"""What launcher and daemon say to each other: one request and one answer a connection, on a Unix socket.

A frame is a head and two parts. Numbers are in the byte order of the machine that both run on.

    request:  magic, version, 0, length of environment, length of stdin; environment as NAME=VALUE\\0…, stdin
    answer:   magic, version, exit status, length of stdout, length of stderr; stdout, stderr

The head is the same in every version, and an answer is of the request's version: whoever is of another one gets words
that it can print. launcher/macvlan-egress.c is the other side.
"""

from __future__ import annotations

import socket
import time
from struct import Struct

from ..protocol.wire import MAX_STDIN_BYTES

MAGIC = b"MVEG"
VERSION = 1
ENVIRONMENT_MAX = 8 << 20  # more than the kernel lets a process have
# One byte more than the plugin takes, so that it can say that it is too much.
STDIN_MAX = MAX_STDIN_BYTES + 1
HEAD = Struct("=4sHHII")
_TIMEOUT = Struct("@ll")
_CHUNK = 1 << 16


class BadFrameError(Exception):
    """The other side does not speak this protocol."""


class OtherVersionError(BadFrameError):
    """The other side speaks another version of it.

    Attributes:
        version: that one.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version}")
        self.version = version


def receive(connection: socket.socket, seconds: float) -> tuple[dict[str, str], bytes]:
    """The environment and stdin of a request.

    Args:
        connection: a blocking socket.
        seconds: within which it has to be there as a whole, one read more or less.

    Raises:
        BadFrameError: it is none.
        OSError: it did not come, or not in time.
    """
    set_timeout(connection, socket.SO_RCVTIMEO, seconds)
    deadline = time.monotonic() + seconds
    data = bytearray()
    _fill(connection, data, HEAD.size, deadline)
    magic, version, _, first, second = HEAD.unpack_from(data)
    if magic != MAGIC:
        raise BadFrameError(f"magic {magic!r}")
    if version != VERSION:
        raise OtherVersionError(version)
    if first > ENVIRONMENT_MAX or second > STDIN_MAX:
        raise BadFrameError(f"{first} bytes of environment, {second} of stdin")
    middle, end = HEAD.size + first, HEAD.size + first + second
    _fill(connection, data, end, deadline)
    if len(data) != end:
        raise BadFrameError(f"{len(data) - end} bytes follow the request")
    return parse_environment(bytes(data[HEAD.size : middle])), bytes(data[middle:])


def answer(status: int, output: str, words: str, *, version: int = VERSION) -> bytes:
    """The frame that ends a call."""
    stdout, stderr = (text.encode("utf-8", "surrogateescape") for text in (output, words))
    return HEAD.pack(MAGIC, version, status, len(stdout), len(stderr)) + stdout + stderr


def parse_environment(block: bytes) -> dict[str, str]:
    """Variables as the kernel keeps them; the first of a name counts, as with getenv(3)."""
    found: dict[str, str] = {}
    for item in block.decode("utf-8", "surrogateescape").split("\0"):
        name, equals, value = item.partition("=")
        if equals:
            found.setdefault(name, value)
    return found


def set_timeout(connection: socket.socket, option: int, seconds: float) -> None:
    """SO_RCVTIMEO or SO_SNDTIMEO, socket(7): costs no further call at each read, as Python's own timeout does."""
    connection.setsockopt(
        socket.SOL_SOCKET, option, _TIMEOUT.pack(int(seconds), int(seconds % 1 * 1_000_000))
    )


def _fill(connection: socket.socket, data: bytearray, size: int, deadline: float) -> None:
    """Read on until there are so many bytes; the kernel hands out what is there, which is mostly all."""
    while len(data) < size:
        if time.monotonic() >= deadline:
            raise TimeoutError("the request does not come")
        part = connection.recv(max(_CHUNK, size - len(data)))
        if not part:
            raise ConnectionResetError("the caller has gone")
        data += part
