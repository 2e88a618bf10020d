"""Follows the egress policies that the node's configuration names, and the configuration itself."""

from __future__ import annotations

from functools import partial

from ..attach.following import Follower
from ..attach.policing import Report
from ..protocol.errors import CniError
from . import journal
from .caretaker import PolicySource, Stop
from .caretaker_counters import CaretakerCounters

_LOOK_SECONDS = 2.0


class Policies:
    """One thread's work."""

    def __init__(self, source: PolicySource, counters: CaretakerCounters, stop: Stop) -> None:
        self._source = source
        self._counters = counters
        self._stop = stop
        self._told = ""
        self._problems: tuple[str, ...] = ()

    def run(self) -> None:
        """Follow them until the end."""
        while not self._stop.is_set():
            self._counters.beat("policies")
            seen = self._source.fingerprint()
            try:
                configuration = self._source.read()
            except CniError as error:
                self._fail(error)
                configuration = None
            self._counters.show("policies_followed", int(configuration is not None))
            if configuration is not None:
                Follower(configuration, self._tell, self._fail, partial(self._goes_on, seen)).run()
            while self._goes_on(seen) and not self._stop.wait(_LOOK_SECONDS):
                pass

    def _goes_on(self, seen: str) -> bool:
        self._counters.beat("policies")
        return not self._stop.is_set() and self._source.fingerprint() == seen

    def _tell(self, report: Report) -> None:
        self._counters.count("syncs")
        self._counters.show("policy_problems", len(report.problems))
        self._told = ""
        if report.changes:
            journal.tell("info", "egress policies have changed", changes=list(report.changes))
        if report.problems != self._problems and report.problems:
            journal.tell("warning", "egress policies need attention", problems=list(report.problems))
        self._problems = report.problems

    def _fail(self, error: CniError) -> None:
        self._counters.count("syncs_failed")
        if str(error) != self._told:
            self._told = str(error)
            journal.tell("error", "egress policies could not be brought into force", reason=str(error))
