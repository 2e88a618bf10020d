"""rtnetlink on a plain socket: messages and attributes packed and unpacked. Knows no interface and no plan.

A library that knows every message of every family costs an exec more to import than all else it does.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from struct import Struct
from types import TracebackType
from typing import Self

# linux/netlink.h
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12
_TYPE_MASK = 0x3FFF  # less NLA_F_NESTED and NLA_F_NET_BYTEORDER
NESTED = 0x8000
_BUFFER = 1 << 16  # the kernel fills 32 KiB a datagram at most; more than 128 KiB would be an mmap each time
_DUMPS = 10

_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
_U32 = Struct("=I")
_I32 = Struct("=i")

Attributes = dict[int, bytes]


class NetlinkError(OSError):
    """The kernel's refusal, with its own words if it has any."""

    def __init__(self, number: int, words: str) -> None:
        super().__init__(number, os.strerror(number))
        self.words = words


class Rtnetlink:
    """A socket in the namespace of the thread that opens it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._sequence = 0
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            with suppress(OSError):  # a kernel before 4.12 or 4.20 tells and filters less
                self._socket.setsockopt(_SOL_NETLINK, option, 1)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """Ask for one thing and wait until it is done; returns the bodies of what came back.

        Raises:
            NetlinkError: the kernel refused.
        """
        answers, _ = self._exchange(kind, body, flags | _NLM_F_ACK)
        return answers

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All there is of a kind, as bodies of messages.

        Raises:
            NetlinkError: the kernel refused.
        """
        for _ in range(_DUMPS):
            answers, interrupted = self._exchange(kind, body, _NLM_F_DUMP)
            if not interrupted:  # else something changed meanwhile and the list may have holes
                break
        return answers

    def _exchange(self, kind: int, body: bytes, flags: int) -> tuple[list[bytes], bool]:
        self._sequence += 1
        length = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(length, kind, flags | _NLM_F_REQUEST, self._sequence, 0) + body)
        answers: list[bytes] = []
        interrupted = False
        while True:
            data = self._socket.recv(_BUFFER)
            position = 0
            while position < len(data):
                length, got, marks, sequence, _ = _HEADER.unpack_from(data, position)
                message = data[position + _HEADER.size : position + length]
                position += length + 3 & ~3
                if sequence != self._sequence:
                    continue
                interrupted |= bool(marks & _NLM_F_DUMP_INTR)
                if got in (_NLMSG_ERROR, _NLMSG_DONE):
                    _check(message, got, marks)
                    return answers, interrupted
                answers.append(message)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) & 3)


def text(value: str) -> bytes:
    """A string as attributes hold it."""
    return value.encode("utf-8", "surrogateescape") + b"\0"


def u32(value: int) -> bytes:
    """An unsigned number of 32 bits."""
    return _U32.pack(value)


def attributes(body: bytes, start: int = 0) -> Attributes:
    """The attributes from a place of a body on, by kind."""
    found: Attributes = {}
    end = len(body)
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(body, start)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = body[start + 4 : start + length]
        start += length + 3 & ~3
    return found


def read_u32(value: bytes | None, default: int = 0) -> int:
    """An attribute's number."""
    return int(_U32.unpack(value)[0]) if value else default


def read_text(value: bytes | None) -> str:
    """An attribute's string."""
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape") if value else ""


def _check(message: bytes, kind: int, marks: int) -> None:
    if len(message) < 4:
        return
    number = -_I32.unpack_from(message)[0]
    if number <= 0:
        return
    words = ""
    if marks & _NLM_F_ACK_TLVS:
        start = 4
        if kind == _NLMSG_ERROR:
            start += _HEADER.size if marks & _NLM_F_CAPPED else _HEADER.unpack_from(message, 4)[0]
        words = read_text(attributes(message, start).get(_NLMSGERR_ATTR_MSG))
    raise NetlinkError(number, words)
