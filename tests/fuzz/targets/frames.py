"""What connects to the daemon sends: a frame, which may hold any call."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from random import Random
from struct import Struct
from threading import Semaphore

from cni_macvlan_egress.daemon import frames, worker

from ..mutations import octets
from ..mutations.documents import changed_text
from ..target import Target
from . import answers, call

_HEAD = Struct("=4sHHII")
_SECONDS = 2.0


def framed(variables: dict[str, str], stdin: bytes, version: int = frames.VERSION) -> bytes:
    """A request, as the launcher sends it."""
    block = "".join(f"{name}={value}\0" for name, value in variables.items()).encode(
        "utf-8", "surrogateescape"
    )
    return _HEAD.pack(frames.MAGIC, version, 0, len(block), len(stdin)) + block + stdin


def parts(data: bytes) -> tuple[dict[str, str], bytes] | None:
    """Variables and stdin of a good request; None for any other."""
    if len(data) < _HEAD.size:
        return None
    magic, version, _, first, second = _HEAD.unpack_from(data)
    if (magic, version, _HEAD.size + first + second) != (frames.MAGIC, frames.VERSION, len(data)):
        return None
    return frames.parse_environment(data[_HEAD.size :][:first]), data[_HEAD.size + first :]


def examine(data: bytes, seen: Callable[[], list[str]]) -> None:
    told: list[tuple[str, int]] = []
    answer = _served(data, told)
    good = parts(data)
    if good is not None and answer:
        variables, stdin = good
        magic, version, status, first, second = _HEAD.unpack_from(answer)
        assert (magic, version, len(answer)) == (frames.MAGIC, frames.VERSION, _HEAD.size + first + second)
        output, words = answer[_HEAD.size :][:first].decode(), answer[_HEAD.size + first :].decode()
        answers.check(variables, stdin, (status, output, words), seen())
        assert frames.answer(status, output, words) == answer
        assert len(told) == 1
        return
    assert not seen(), seen()
    if good is None and answer:  # one of another version is told so
        _, version, status, first, _ = _HEAD.unpack_from(answer)
        assert version != frames.VERSION
        assert data[4:6] == answer[4:6]
        assert status == 1
        assert json.loads(answer[_HEAD.size :][:first])["code"] == 11


def _served(data: bytes, told: list[tuple[str, int]]) -> bytes:
    """What a worker answers."""
    mine, its = socket.socketpair()
    with mine, its:
        mine.settimeout(_SECONDS)
        mine.sendall(data)
        if parts(data) is None:  # else it would look as if the caller had gone
            mine.shutdown(socket.SHUT_WR)
        # As the worker's own loop: whoever speaks another language needs no answer.
        try:
            worker._serve(its, Semaphore(), lambda verb, code: told.append((verb, code)))
        except (OSError, frames.BadFrameError):
            return b""
        its.shutdown(socket.SHUT_RDWR)
        return b"".join(iter(lambda: mine.recv(1 << 16), b""))


def mutate(data: bytes, random: Random) -> bytes:
    good = parts(data)
    if good is None or random.random() < 0.2:
        return octets.changed(data, random)
    variables, stdin = good
    if random.random() < 0.4:
        variables = call.variables_changed(variables, random)
    else:
        text = changed_text(stdin.decode("utf-8", "replace"), random, call.VOCABULARY)
        stdin = text.encode("utf-8", "surrogatepass")
    return framed(variables, stdin, version=random.choice((1,) * 20 + (0, 2, 65535)))


TARGET = Target("frames", examine, mutate, writes=True)
