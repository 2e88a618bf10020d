"""What the daemon counts and finds, as Prometheus reads it (exposition format 0.0.4)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from .. import __version__
from ..protocol.errors import CniError
from .caretaker_process import CaretakerProcess
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
        caretaker: None where there is none.
    """

    state_dir: str
    run_dir: str
    counters: Counters | None = None
    workers: int = 0
    died: int = 0
    overdue: int = 0
    caretaker: CaretakerProcess | None = None

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
        if self.caretaker is not None:
            yield from _care(self.caretaker)

    def _policies(self) -> Iterator[str]:
        from ..attach.policies import kept_answers
        from ..attach.policy_state import PolicyState

        state = PolicyState(self.run_dir)
        try:
            enforced = state.load()
        except CniError:  # whoever asks must not end the daemon
            enforced = None
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
        answers = kept_answers(state).values()
        yield from _gauge("policy_names", "Names in policies whose addresses are known.", len(answers))
        yield from _gauge(
            "policy_names_failing",
            "Those with trouble when they were last asked for.",
            sum(bool(one.error) for one in answers),
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


def _care(caretaker: CaretakerProcess) -> Iterator[str]:
    value = caretaker.counters.value
    yield from _gauge("caretaker_up", "Whether the process for background work runs.", int(caretaker.is_up))
    yield from _counter(
        "caretaker_replaced_total",
        "How often it had to be replaced, by reason.",
        "reason",
        {"died": caretaker.died, "overdue": caretaker.overdue},
    )
    yield from _counter("caretaker_errors_total", "Faults in it.", "", {"": value("errors")})
    yield from _counter(
        "announcements_total", "Repeated announcements of attachments.", "", {"": value("announcements")}
    )
    yield from _counter(
        "announcements_failed_total", "Those that failed.", "", {"": value("announcements_failed")}
    )
    yield from _gauge("dns_names", "Names among destinations.", value("names_followed"))
    yield from _counter(
        "dns_refreshes_total",
        "How often such a name was asked for again, by result.",
        "result",
        {result: value(f"names_{result}") for result in ("changed", "unchanged", "failed")},
    )
    yield from _gauge("drifted", "Attachments that differ from what ADD made.", value("drifted"))
    yield from _gauge(
        "contested", "Attachments with an address that another host of the LAN holds too.", value("contested")
    )
    yield from _counter(
        "stepped_back_total", "Addresses taken off for such a host.", "", {"": value("stepped_back")}
    )
    yield from _counter("drift_checks_total", "Looks at an attachment for drift.", "", {"": value("checks")})
    yield from _counter(
        "drift_repairs_total",
        "Differences that were mended, and attempts that failed.",
        "result",
        {"mended": value("mended"), "failed": value("mending_failed")},
    )
    yield from _gauge(
        "masters_unusable",
        "NICs with attachments that are gone, down or without carrier.",
        value("masters_unusable"),
    )
    yield from _counter(
        "conflist_restored_total",
        "How often the plugin's entry was put back into the node's conflist.",
        "",
        {"": value("conflist_restored")},
    )
    yield from _gauge("policies_followed", "Whether policies are followed.", value("policies_followed"))
    yield from _counter(
        "policy_syncs_total",
        "How often policies were compared with what is in force, by result.",
        "result",
        {"ok": value("syncs"), "failed": value("syncs_failed")},
    )
    yield from _gauge(
        "policy_problems", "What an admin should look at, as of the last time.", value("policy_problems")
    )


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


def _counter(name: str, words: str, label: str, values: dict[str, int]) -> Iterator[str]:
    yield from _head(name, words, "counter")
    for what, value in values.items():
        yield f"{_PREFIX}_{name}" + (f'{{{label}="{what}"}}' if label else "") + f" {value}"


def _gauge(name: str, words: str, value: float, labels: str = "") -> Iterator[str]:
    yield from _head(name, words, "gauge")
    yield f"{_PREFIX}_{name}{labels} {value}"
