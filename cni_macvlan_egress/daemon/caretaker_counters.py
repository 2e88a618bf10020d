"""What the caretaker counts and finds, in memory that it shares with the supervisor and that outlives it."""

from __future__ import annotations

import mmap
import threading
import time

TASKS = ("attachments", "names", "policies")
COUNTERS = (
    "announcements", "announcements_failed", "names_changed", "names_unchanged", "names_failed", "checks",
    "mended", "mending_failed", "syncs", "syncs_failed", "conflist_restored", "stepped_back", "errors",
)  # fmt: skip
# What is true only as long as somebody looks.
GAUGES = (
    "names_followed",
    "drifted",
    "contested",
    "masters_unusable",
    "policies_followed",
    "policy_problems",
)
_CELLS = (*COUNTERS, *GAUGES, *TASKS)
_AT = {name: index for index, name in enumerate(_CELLS)}
_CELL = 8  # bytes


class CaretakerCounters:
    """Cells by name."""

    def __init__(self) -> None:
        self._cells = memoryview(mmap.mmap(-1, len(_CELLS) * _CELL)).cast("d")
        self._lock = threading.Lock()

    def fresh(self) -> None:
        """A new caretaker: nobody has looked at anything yet, and nobody holds the lock."""
        self._lock = threading.Lock()
        for name in (*GAUGES, *TASKS):
            self._cells[_AT[name]] = 0.0

    def count(self, name: str, number: int = 1) -> None:
        """One more, or some."""
        with self._lock:
            self._cells[_AT[name]] += number

    def show(self, name: str, value: float) -> None:
        """Set a gauge."""
        self._cells[_AT[name]] = value

    def beat(self, task: str) -> None:
        """A task goes on."""
        self._cells[_AT[task]] = time.monotonic()

    def rest(self, task: str) -> None:
        """A task has ended and is not to be waited for."""
        self._cells[_AT[task]] = 0.0

    def value(self, name: str) -> int:
        """A counter or gauge."""
        return int(self._cells[_AT[name]])

    def silence(self) -> float:
        """For how long the slowest of the tasks has not been heard of, in seconds."""
        now = time.monotonic()
        return max((now - beat for name in TASKS if (beat := self._cells[_AT[name]])), default=0.0)
