"""Looks at each attachment for drift, one at a time, and reports or repairs what it finds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from ..attach.inspection import Inspection
from ..attach.roster import Roster
from ..protocol.errors import TRY_AGAIN_LATER, CniError
from . import journal
from .caretaker import CaretakerSettings
from .caretaker_counters import CaretakerCounters

# What is looked at in one go before others have their turn.
_SLICE_SECONDS = 0.25
_SOON_SECONDS = 1.0
_RETRY_SECONDS = 5.0
# Of one attachment; a pod that may change its own network can make any number.
_MOST_TOLD = 20
_LONGEST = 300


class Inspector:
    """Knows when each attachment is due, and what was different when it was last looked at."""

    def __init__(self, settings: CaretakerSettings, roster: Roster, counters: CaretakerCounters) -> None:
        self._mode = settings.drift
        self._every = settings.drift_every
        self._roster = roster
        self._counters = counters
        self._inspection = Inspection(roster, settings.run_dir)
        self._due: dict[str, float] = {}
        self._known: dict[str, frozenset[str]] = {}

    def renew(self) -> None:
        """The roster has changed."""
        if self._mode == "off":
            return
        there = self._roster.attachments.keys()
        for key in self._due.keys() - there:
            del self._due[key]
            self._known.pop(key, None)
        self._inspection.forget_others(set(there))
        for key in there - self._due.keys():
            self._due[key] = time.monotonic() + random.uniform(0, self._every)
        self._counters.show("drifted", len(self._known))

    def look_soon(self, master: str) -> None:
        """A NIC has changed, and what sits on it perhaps with it."""
        soon = time.monotonic() + _SOON_SECONDS
        for key in self._due:
            if self._roster.attachments[key].master == master:
                self._due[key] = min(self._due[key], soon)

    def work(self, is_over: Callable[[], bool]) -> None:
        """Look at those that are due, for a moment."""
        began = time.monotonic()
        for key in sorted((key for key, due in self._due.items() if due <= began), key=self._due.__getitem__):
            now = time.monotonic()
            if is_over() or now - began > _SLICE_SECONDS:
                return
            self._due[key] = now + self._every
            try:
                self._look_at(key)
            except CniError as error:
                if error.code == TRY_AGAIN_LATER:
                    self._due[key] = now + _RETRY_SECONDS
                    continue
                self._tell(key, (f"it cannot be looked at: {error}",))

    def _look_at(self, key: str) -> None:
        self._counters.count("checks")
        found = self._inspection.differences(key)
        if found and self._mode == "repair":
            found = self._mend(key, found)
        if found is not None:
            self._tell(key, found)

    def _mend(self, key: str, found: tuple[str, ...]) -> tuple[str, ...] | None:
        try:
            left = self._inspection.mend(key)
        except CniError as error:
            if error.code == TRY_AGAIN_LATER:
                raise
            self._counters.count("mending_failed")
            return (*found, f"repair: {error}")
        mended = [one for one in found if one not in (left or ())]
        if left is not None and mended:
            self._counters.count("mended", len(mended))
            self._log("warning", "drift repaired", key, mended)
        return left

    def _tell(self, key: str, found: tuple[str, ...]) -> None:
        """Log what is new; what stays is in the gauge."""
        bounded = frozenset(one[:_LONGEST] for one in sorted(found)[:_MOST_TOLD])
        before = self._known.pop(key, frozenset())
        if bounded:
            self._known[key] = bounded
        if new := bounded - before:
            self._log("warning", "drift", key, sorted(new))
        elif before and not bounded:
            self._log("info", "drift is over", key, [])
        self._counters.show("drifted", len(self._known))

    def _log(self, level: str, message: str, key: str, differences: list[str]) -> None:
        one = self._roster.attachments.get(key)
        fields = (
            {"differences": [text[:_LONGEST] for text in differences[:_MOST_TOLD]]} if differences else {}
        )
        journal.tell(level, message, attachment=key, pod=one.pod if one else "", **fields)
