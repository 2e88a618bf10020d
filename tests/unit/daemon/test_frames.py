"""The frames between launcher and daemon."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_macvlan_egress.daemon import frames

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def request(
    environment: bytes, stdin: bytes, *, version: int = frames.VERSION, magic: bytes = frames.MAGIC
) -> bytes:
    return frames.HEAD.pack(magic, version, 0, len(environment), len(stdin)) + environment + stdin


def test_request_is_read_as_it_was_sent(pair: Pair) -> None:
    here, there = pair
    stdin = bytes(range(256)) * 4096
    sender = threading.Thread(
        target=there.sendall, args=(request(b"A=1\0B=\xff\0A=2\0=x\0C\0D=a=b\n\0", stdin),)
    )
    sender.start()
    assert frames.receive(here, 10.0) == ({"A": "1", "B": "\udcff", "": "x", "D": "a=b\n"}, stdin)
    sender.join()


@given(st.lists(st.binary(min_size=1).filter(lambda item: b"\0" not in item)))
def test_environment_is_what_the_kernel_would_say(items: list[bytes]) -> None:
    expected: dict[bytes, bytes] = {}
    for item in items:
        name, equals, value = item.partition(b"=")
        if equals:
            expected.setdefault(name, value)
    found = frames.parse_environment(b"".join(item + b"\0" for item in items))
    assert {
        name.encode("utf-8", "surrogateescape"): value.encode("utf-8", "surrogateescape")
        for name, value in found.items()
    } == expected


@pytest.mark.parametrize(
    ("first", "second"), [(frames.ENVIRONMENT_MAX + 1, 0), (0, frames.STDIN_MAX + 1), (2**32 - 1, 2**32 - 1)]
)
def test_lengths_beyond_the_bounds_are_refused_unread(pair: Pair, first: int, second: int) -> None:
    pair[1].sendall(frames.HEAD.pack(frames.MAGIC, frames.VERSION, 0, first, second))
    with pytest.raises(frames.BadFrameError, match="bytes"):
        frames.receive(pair[0], 10.0)


def test_what_follows_a_request_is_refused(pair: Pair) -> None:
    pair[1].sendall(request(b"", b"") + b"x")
    with pytest.raises(frames.BadFrameError, match="1 bytes follow"):
        frames.receive(pair[0], 10.0)


def test_other_protocols_are_told_from_other_versions(pair: Pair) -> None:
    pair[1].sendall(request(b"", b"", version=7))
    with pytest.raises(frames.OtherVersionError) as caught:
        frames.receive(pair[0], 10.0)
    assert caught.value.version == 7
    pair[1].sendall(request(b"", b"", version=7, magic=b"GET "))
    with pytest.raises(frames.BadFrameError, match="GET"):
        frames.receive(pair[0], 10.0)


@pytest.mark.parametrize("size", [0, 3, 15, 16, 20])
def test_caller_that_goes_early_is_noticed(pair: Pair, size: int) -> None:
    pair[1].sendall(request(b"A=1\0", b"{}")[:size])
    pair[1].close()
    with pytest.raises(ConnectionResetError):
        frames.receive(pair[0], 10.0)


def test_silence_and_drips_end_in_time(pair: Pair) -> None:
    here, there = pair
    with pytest.raises((BlockingIOError, TimeoutError)):
        frames.receive(here, 0.05)
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.01):
            there.sendall(b"M")

    there.sendall(frames.HEAD.pack(frames.MAGIC, frames.VERSION, 0, 0, frames.STDIN_MAX))
    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with pytest.raises(TimeoutError):
            frames.receive(here, 0.2)
    finally:
        over.set()
        thread.join()


def test_answer_holds_any_text() -> None:
    data = frames.answer(1, "ä\udcff", "", version=9)
    assert frames.HEAD.unpack_from(data) == (frames.MAGIC, 9, 1, 3, 0)
    assert data[frames.HEAD.size :] == b"\xc3\xa4\xff"
