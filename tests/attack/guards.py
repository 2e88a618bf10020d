"""What protects the egress pod, piece by piece, and the proof that it is this piece that does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from lab import Namespace

TABLE = "inet macvlan_egress"
# How long a stopped attack is waited for, and one that nothing stops any more.
SILENCE_SECONDS, PATIENCE_SECONDS = 0.1, 3.0

# Whether something arrives within some seconds.
Attempt = Callable[[float], bool]


class Guard(Protocol):
    """One protecting piece."""

    @property
    def exists(self) -> bool:
        """Whether the pod has it at all."""

    def refused(self) -> int | None:
        """How many packets it has refused, None if it does not count."""

    def lifted(self) -> ExitStack:
        """Take it away until the stack is closed."""


class Chain:
    """A filter chain of the plugin's table: without it, what it drops passes."""

    def __init__(self, pod: Namespace, name: str) -> None:
        self._pod = pod
        self._name = name

    def __repr__(self) -> str:
        return f"chain {self._name}"

    @property
    def exists(self) -> bool:
        return any(f"chain {self._name} {{" in line for line in _listing(self._pod).splitlines())

    def refused(self) -> int:
        text = self._pod.run("nft", "-j", "list", "chain", *TABLE.split(), self._name)
        rules = [one["rule"]["expr"] for one in json.loads(text)["nftables"] if "rule" in one]
        return sum(
            part["counter"]["packets"]
            for rule in rules
            if not any("accept" in part for part in rule)
            for part in rule
            if "counter" in part
        )

    def lifted(self) -> ExitStack:
        stack = _put_back(self._pod)
        self._pod.run(
            "nft", f"chain {TABLE} {self._name} {{ policy accept; }}; flush chain {TABLE} {self._name}"
        )
        return stack


class Rule:
    """One rule of a chain, found by words of it."""

    def __init__(self, pod: Namespace, chain: str, words: str) -> None:
        self._pod = pod
        self._chain = chain
        self._words = words

    def __repr__(self) -> str:
        return f"rule {self._words!r} of chain {self._chain}"

    @property
    def exists(self) -> bool:
        return bool(self._handles())

    def refused(self) -> None:
        return None

    def lifted(self) -> ExitStack:
        stack = _put_back(self._pod)
        for handle in self._handles():
            self._pod.run("nft", f"delete rule {TABLE} {self._chain} handle {handle}")
        return stack

    def _handles(self) -> list[str]:
        listing = self._pod.run("nft", "-a", "list", "chain", *TABLE.split(), self._chain)
        return [line.rpartition("handle ")[2] for line in listing.splitlines() if self._words in line]


class Line:
    """That no line of the destinations takes a port; lifted, a line takes it."""

    def __init__(self, pod: Namespace, protocol: str, port: int, chain: str) -> None:
        self._pod = pod
        self._element = f"{protocol} . {port} : goto {chain}"
        self._map = "lines6" if chain.endswith("6") else "lines4"

    exists = True

    def refused(self) -> None:
        return None

    def lifted(self) -> ExitStack:
        stack = _put_back(self._pod)
        self._pod.run("nft", f"add element {TABLE} {self._map} {{ {self._element} }}")
        return stack


class Settings:
    """Settings below /proc/sys, with the values that would let the attack pass."""

    def __init__(self, namespace: Namespace, values: dict[str, object]) -> None:
        self._namespace = namespace
        self._values = values

    def __repr__(self) -> str:
        return f"settings {', '.join(self._values)}"

    exists = True

    def refused(self) -> None:
        return None

    def lifted(self) -> ExitStack:
        stack = ExitStack()
        for key, value in self._values.items():
            stack.callback(self._namespace.sysctl, key, self._namespace.sysctl(key))
            self._namespace.sysctl(key, value)
        return stack


class Command:
    """Something that nobody has told the pod by ip(8), and what takes it back."""

    def __init__(self, namespace: Namespace, lift: str, restore: str) -> None:
        self._namespace = namespace
        self._lift = lift
        self._restore = restore

    def __repr__(self) -> str:
        return f"no `ip {self._lift}`"

    exists = True

    def refused(self) -> None:
        return None

    def lifted(self) -> ExitStack:
        stack = ExitStack()
        self._namespace.ip(self._lift)
        stack.callback(self._namespace.ip, self._restore)
        return stack


def assert_stopped(attempt: Attempt, *guards: Guard) -> None:
    """The attack fails; it fails as long as any one of the guards is left; it succeeds without all of them.

    A guard that counts must have counted what it stopped. One that the pod does not have is left out.
    """
    present = [guard for guard in guards if guard.exists]
    assert present, f"the pod has none of {guards}"
    if len(present) > 1:
        assert not attempt(SILENCE_SECONDS), "the attack succeeds"
    for guard in present:
        with _without(*(other for other in present if other is not guard)):
            before = guard.refused()
            assert not attempt(SILENCE_SECONDS), f"the attack succeeds in spite of {guard}"
            if before is not None:
                assert (guard.refused() or 0) > before, f"it was not {guard} that stopped it"
    with _without(*present):
        assert attempt(PATIENCE_SECONDS), "it fails even without all that should have stopped it"


@contextmanager
def _without(*guards: Guard) -> Iterator[None]:
    with ExitStack() as stack:
        for guard in guards:
            stack.enter_context(guard.lifted())
        yield


def _listing(pod: Namespace) -> str:
    return pod.run("nft", "-s", "list", "table", *TABLE.split())


def _put_back(pod: Namespace) -> ExitStack:
    before = _listing(pod)
    stack = ExitStack()
    stack.callback(pod.run, "nft", "-f", "-", stdin=f"table {TABLE}\ndelete table {TABLE}\n{before}")
    return stack
