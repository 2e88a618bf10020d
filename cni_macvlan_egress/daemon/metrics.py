"""What the daemon counts and finds, as Prometheus reads it (exposition format 0.0.4)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from .. import __version__
from .counters import BUCKETS, Counters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "macvlan_egress"


@dataclass
class Metrics:
    """Everything there is to show.

    Attributes:
        counters: of the workers; None where no daemon runs.
        workers: how many there are now.
        died, overdue: how many had to be replaced, because they ended by themselves or had a call without end.
    """

    state_dir: str
    run_dir: str
    counters: Counters | None = None
    workers: int = 0
    died: int = 0
    overdue: int = 0

    def text(self) -> str:
        """All of it."""
        return "\n".join((*self._lines(), ""))

    def _lines(self) -> Iterator[str]:
        yield from _gauge("up", "Whether the daemon runs.", int(self.counters is not None))
        yield from _gauge("build_info", "The version.", 1, f'{{version="{__version__}"}}')
        yield from _gauge("attachments", "Attachments of the node.", attachments(self.state_dir))
        yield from self._policies()
        if self.counters is not None:
            yield from self._calls(self.counters)
            yield from self._workers(self.counters)

    def _policies(self) -> Iterator[str]:
        from ..attach.policy_state import PolicyState

        enforced = PolicyState(self.run_dir).load()
        yield from _gauge(
            "policy_state_known", "Whether the policies in force are known.", int(enforced is not None)
        )
        if enforced is not None:
            yield from _gauge("policies", "Namespaces with a policy in force.", len(enforced.namespaces))
            yield from _gauge(
                "policy_interfaces",
                "Interfaces that are held to a policy.",
                len(enforced.mains) + len(enforced.guards),
            )

    def _calls(self, counters: Counters) -> Iterator[str]:
        yield from _head("calls_total", "CNI calls by verb and error code, 0 for success.", "counter")
        for (verb, code), count in sorted(counters.calls().items()):
            yield f'{_PREFIX}_calls_total{{verb="{verb}",code="{code}"}} {count}'
        yield from _head("call_seconds", "How long calls took in the daemon.", "histogram")
        for verb, counts, seconds in counters.durations():
            total = 0
            for bound, count in zip(map(str, (*BUCKETS, "+Inf")), counts, strict=True):
                total += count
                yield f'{_PREFIX}_call_seconds_bucket{{verb="{verb}",le="{bound}"}} {total}'
            yield f'{_PREFIX}_call_seconds_sum{{verb="{verb}"}} {seconds:.6f}'
            yield f'{_PREFIX}_call_seconds_count{{verb="{verb}"}} {total}'

    def _workers(self, counters: Counters) -> Iterator[str]:
        ages = counters.ages()
        yield from _gauge("calls_in_progress", "Calls that are being served.", len(ages))
        yield from _gauge(
            "oldest_call_seconds", "Since when the oldest of them is.", round(max(ages, default=0), 3)
        )
        yield from _gauge("workers", "Processes that serve calls.", self.workers)
        yield from _head("workers_replaced_total", "Workers that had to be replaced, by reason.", "counter")
        for reason, count in (("died", self.died), ("overdue", self.overdue)):
            yield f'{_PREFIX}_workers_replaced_total{{reason="{reason}"}} {count}'


def attachments(state_dir: str) -> int:
    """How many attachments have a state file."""
    try:
        with os.scandir(f"{state_dir}/attachments") as entries:
            return sum(one.name.endswith(".json") and not one.name.startswith(".") for one in entries)
    except OSError:
        return 0


def _head(name: str, words: str, kind: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}_{name} {words}"
    yield f"# TYPE {_PREFIX}_{name} {kind}"


def _gauge(name: str, words: str, value: float, labels: str = "") -> Iterator[str]:
    yield from _head(name, words, "gauge")
    yield f"{_PREFIX}_{name}{labels} {value}"
