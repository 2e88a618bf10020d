"""DNS names: all addresses, from the node's resolver, in time, or an error that can be tried again."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cni_macvlan_egress.protocol.errors import TRY_AGAIN_LATER
from cni_macvlan_egress.sources.names import resolve

from ..refusals import refused

Answer = Callable[[str, int], list[str]]


class Resolver:
    """In the place of getaddrinfo(3).

    Attributes:
        answers: addresses by name, or what to raise or call instead.
        asked: host, family and kind of socket of every question.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[str] | BaseException | Callable[[], list[str]]] = {}
        self.asked: list[tuple[str, int, int]] = []

    def __call__(self, host: str, port: object, family: int = 0, kind: int = 0) -> list[Any]:
        assert port is None
        self.asked.append((host, family, kind))
        answer = self.answers[host]
        if isinstance(answer, BaseException):
            raise answer
        texts = answer() if callable(answer) else answer
        return [_row(text) for text in texts if family in (socket.AF_UNSPEC, _family(text))]


def _family(text: str) -> int:
    return socket.AF_INET6 if ":" in text else socket.AF_INET


def _row(text: str) -> tuple[int, int, int, str, tuple[Any, ...]]:
    address = (text, 0, 0, 2) if ":" in text else (text, 0)
    return _family(text), socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """Something that a resolver waits for until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def texts(found: dict[str, Any]) -> dict[str, list[str]]:
    return {name: list(map(str, addresses)) for name, addresses in found.items()}


def test_all_addresses_are_returned_in_order(resolver: Resolver) -> None:
    resolver.answers["a.com."] = ["2001:db8::2", "203.0.113.100", "203.0.113.9", "2001:db8::1"]
    found = resolve(["a.com"], {4, 6})
    assert texts(found) == {"a.com": ["203.0.113.9", "203.0.113.100", "2001:db8::1", "2001:db8::2"]}
    assert all(isinstance(one, ipaddress.IPv4Address | ipaddress.IPv6Address) for one in found["a.com"])


def test_address_that_is_named_twice_counts_once(resolver: Resolver) -> None:
    resolver.answers["a.com."] = ["203.0.113.9", "203.0.113.9", "2001:db8::1", "2001:db8:0::1"]
    assert texts(resolve(["a.com"], {4, 6})) == {"a.com": ["203.0.113.9", "2001:db8::1"]}


def test_scope_of_an_address_is_left_out(resolver: Resolver) -> None:
    resolver.answers["a.com."] = ["fe80::1%eth0", "fe80::1%2", "2001:db8::1"]
    assert texts(resolve(["a.com"], {6})) == {"a.com": ["2001:db8::1", "fe80::1"]}


@pytest.mark.parametrize(
    ("families", "asked"), [({4}, socket.AF_INET), ({6}, socket.AF_INET6), ({4, 6}, socket.AF_UNSPEC)]
)
def test_only_families_that_are_wanted_are_asked_for(
    resolver: Resolver, families: set[int], asked: int
) -> None:
    resolver.answers["a.com."] = ["203.0.113.9", "2001:db8::1"]
    found = resolve(["a.com"], families)
    assert resolver.asked == [("a.com.", asked, socket.SOCK_STREAM)]
    assert {one.version for one in found["a.com"]} == families


def test_search_domains_are_kept_out_by_the_last_dot(resolver: Resolver) -> None:
    resolver.answers["db.example.com."] = ["203.0.113.9"]
    resolve(["db.example.com"], {4})
    assert [host for host, _, _ in resolver.asked] == ["db.example.com."]


def test_no_names_ask_nothing(resolver: Resolver) -> None:
    assert resolve([], {4, 6}) == {}
    assert resolver.asked == []


def test_names_are_asked_for_side_by_side(resolver: Resolver) -> None:
    """None of the first ones would ever return if they were asked for one after another."""
    names = [f"n{number}.com" for number in range(8)]
    together = threading.Barrier(len(names))

    def answer() -> list[str]:
        together.wait(5)
        return ["203.0.113.9"]

    for name in names:
        resolver.answers[name + "."] = answer
    assert list(resolve(names, {4})) == names


def test_more_names_than_are_asked_at_once_are_all_resolved(resolver: Resolver) -> None:
    names = [f"n{number}.com" for number in range(100)]
    for number, name in enumerate(names):
        resolver.answers[name + "."] = [f"203.0.113.{number + 1}"]
    assert texts(resolve(names, {4})) == {
        name: [f"203.0.113.{number + 1}"] for number, name in enumerate(names)
    }


def test_number_of_questions_at_once_is_bounded(resolver: Resolver) -> None:
    names = [f"n{number}.com" for number in range(60)]
    running, most, lock = set(), [0], threading.Lock()

    def answer() -> list[str]:
        with lock:
            running.add(threading.get_ident())
            most[0] = max(most[0], len(running))
        threading.Event().wait(0.005)
        with lock:
            running.discard(threading.get_ident())
        return ["203.0.113.9"]

    for name in names:
        resolver.answers[name + "."] = answer
    resolve(names, {4})
    assert most[0] <= 16


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ["Name or service not known"]),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), ["Temporary failure"]),
        (OSError(24, "Too many open files"), ["Too many open files"]),
        (UnicodeError("label empty or too long"), ["label empty or too long"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_failure_names_the_name_and_the_resolvers_reason(
    resolver: Resolver, error: BaseException, words: list[str]
) -> None:
    resolver.answers = {"a.com.": ["203.0.113.9"], "b.com.": error}
    with refused(TRY_AGAIN_LATER, "b.com", "/etc/resolv.conf", *words):
        resolve(["a.com", "b.com"], {4, 6})


def test_first_of_several_failures_is_told(resolver: Resolver) -> None:
    for name in ("a", "b"):
        resolver.answers[f"{name}.com."] = socket.gaierror(-2, f"no {name}")
    with refused(TRY_AGAIN_LATER, "a.com", "no a"):
        resolve(["a.com", "b.com"], {4})


def test_resolver_that_hangs_is_not_waited_for(resolver: Resolver, hanging: threading.Event) -> None:
    def answer() -> list[str]:
        hanging.wait()
        return ["203.0.113.9"]

    resolver.answers = {"a.com.": ["203.0.113.9"], "b.com.": answer}
    with refused(TRY_AGAIN_LATER, "b.com", "no answer in 0.1 s"):
        resolve(["a.com", "b.com"], {4}, deadline_seconds=0.1)
    assert not hanging.is_set()


def test_hanging_question_keeps_no_process(resolver: Resolver, hanging: threading.Event) -> None:
    def answer() -> list[str]:
        hanging.wait()
        return []

    resolver.answers["a.com."] = answer
    before = set(threading.enumerate())
    with refused(TRY_AGAIN_LATER, "a.com"):
        resolve(["a.com"], {4}, deadline_seconds=0.05)
    left = set(threading.enumerate()) - before
    assert left
    assert all(thread.daemon for thread in left)


def test_deadline_is_one_for_all_names(resolver: Resolver) -> None:
    """However many there are, and although each is answered in time: the runtime waits for the whole ADD."""
    names = [f"n{number}.com" for number in range(48)]

    def answer() -> list[str]:
        threading.Event().wait(0.06)
        return ["203.0.113.9"]

    for name in names:
        resolver.answers[name + "."] = answer
    with refused(TRY_AGAIN_LATER, "no answer in 0.1 s"):
        resolve(names, {4}, deadline_seconds=0.1)
    assert len(resolver.asked) <= 32


def test_no_more_are_asked_once_one_hangs(resolver: Resolver, hanging: threading.Event) -> None:
    names = [f"n{number}.com" for number in range(40)]

    def answer() -> list[str]:
        hanging.wait()
        return []

    for name in names:
        resolver.answers[name + "."] = answer
    with refused(TRY_AGAIN_LATER, "n0.com"):
        resolve(names, {4}, deadline_seconds=0.05)
    assert len(resolver.asked) <= 16


def test_no_more_threads(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    def crowded(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver.answers["a.example.com."] = ["192.0.2.1"]
    monkeypatch.setattr(threading.Thread, "start", crowded)
    with refused(TRY_AGAIN_LATER, "a.example.com", "no more threads can be had", "pids.max"):
        resolve(["a.example.com"], (4,))
