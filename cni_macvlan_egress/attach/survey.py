"""What there is of every attachment on this node now: its record, whether it is as ADD left it, its counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..decide.drift import shortened
from ..decide.ruleset import LINE_CHAIN
from ..kernel.netns import Sandbox
from ..kernel.nftables import Nftables
from ..protocol.errors import CniError
from .attachments import sandbox_of
from .check import drift_of
from .records import Record, Records

State = Literal["attached", "drifted", "interrupted", "gone", "unknown"]


@dataclass(frozen=True, slots=True)
class Counter:
    """What one rule has seen; for a line of the destinations these are the first packets of flows."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """One attachment.

    Attributes:
        state: `interrupted` by a kill, `gone` with its namespace, `unknown` if it could not be looked at.
        differences: from what ADD made, as CHECK lists them; for `unknown`, why.
        lines: counters by number and family of the destination line.
        traffic: counters of all forwarded (`out`, `back`) and of all refused packets, by the rules' comments.
    """

    record: Record
    state: State
    differences: tuple[str, ...] = ()
    lines: dict[tuple[int, int], Counter] | None = None
    traffic: dict[str, Counter] | None = None


def survey(records: Records) -> tuple[list[Found], list[str]]:
    """Look at every attachment; also returns the state files that cannot be understood. Nothing is changed."""
    peeked = list(records.peek())
    found = list(_look(record for _, record in peeked if record is not None))
    return found, [path for path, record in peeked if record is None]


def _look(records: Iterable[Record]) -> Iterator[Found]:
    for record in records:
        sandbox = sandbox_of(record)
        if sandbox is None:
            yield Found(record, "gone")
            continue
        with sandbox:
            try:
                yield _look_at(record, sandbox)
            except CniError as error:
                yield Found(record, "unknown", (str(error),))


def _look_at(record: Record, sandbox: Sandbox) -> Found:
    if record.phase != "ready" or record.plan is None:
        return Found(record, "interrupted")
    differences = tuple(shortened(drift_of(record.plan, sandbox)))
    state: State = "drifted" if differences else "attached"
    if not record.plan.ruleset:
        return Found(record, state, differences)
    lines, traffic = _counters(sandbox.run(_rules))
    return Found(record, state, differences, lines, traffic)


def _rules() -> list[dict[str, Any]]:
    with Nftables() as nftables:
        return [one["rule"] for one in nftables.objects() if "rule" in one]


def _counters(
    rules: list[dict[str, Any]],
) -> tuple[dict[tuple[int, int], Counter], dict[str, Counter]]:
    lines: dict[tuple[int, int], Counter] = {}
    traffic: dict[str, Counter] = {}
    for rule in rules:
        counter = next((part["counter"] for part in rule["expr"] if "counter" in part), None)
        if counter is None:
            continue
        seen = Counter(counter["packets"], counter["bytes"])
        if line := LINE_CHAIN.fullmatch(rule["chain"]):
            lines[int(line[1]), 6 if line[2] == "ip6" else 4] = seen
        elif comment := rule.get("comment"):
            before = traffic.get(comment, Counter(0, 0))
            traffic[comment] = Counter(before.packets + seen.packets, before.bytes + seen.bytes)
    return lines, traffic
