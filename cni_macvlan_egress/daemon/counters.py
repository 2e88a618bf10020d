"""What the workers count, in memory that they share with the supervisor: nothing is sent, nothing is lost.

Each worker has a slot of its own. A slot outlives its worker, so that counters never run backwards.
"""

from __future__ import annotations

import mmap
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator

from ..protocol.environment import REQUIRED
from ..protocol.errors import TABLE

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OTHER = "other"
VERBS = (*REQUIRED, OTHER)
SUCCESS, UNKNOWN = 0, -1
CODES = (SUCCESS, *sorted(TABLE), UNKNOWN)
_VERB = {name: index for index, name in enumerate(VERBS)}
_CODE = {code: index for index, code in enumerate(CODES)}
_CELL = 8  # bytes


class Counters:
    """The slots of all workers.

    Args:
        slots: how many workers.
        threads: how many calls each may serve at a time.
    """

    def __init__(self, slots: int, threads: int) -> None:
        self._calls = len(VERBS) * len(CODES)
        self._buckets = len(VERBS) * (len(BUCKETS) + 1)
        integers, floats = self._calls + self._buckets, len(VERBS) + threads
        self._threads = threads
        whole = memoryview(mmap.mmap(-1, slots * (integers + floats) * _CELL))
        middle = slots * integers * _CELL
        numbers, seconds = whole[:middle].cast("Q"), whole[middle:].cast("d")
        self.slots = [
            Slot(numbers[at * integers :][:integers], seconds[at * floats :][:floats]) for at in range(slots)
        ]

    def calls(self) -> dict[tuple[str, int], int]:
        """How many calls there were, by verb and code."""
        found = {}
        for verb, first in zip(VERBS, range(0, self._calls, len(CODES)), strict=True):
            for at, code in enumerate(CODES, first):
                if total := sum(slot.numbers[at] for slot in self.slots):
                    found[verb, code] = total
        return found

    def durations(self) -> Iterator[tuple[str, list[int], float]]:
        """Verb, calls by bucket (the last one: longer than all) and seconds altogether."""
        size = len(BUCKETS) + 1
        for index, verb in enumerate(VERBS):
            first = self._calls + index * size
            counts = [sum(slot.numbers[at] for slot in self.slots) for at in range(first, first + size)]
            if any(counts):
                yield verb, counts, sum(slot.seconds[index] for slot in self.slots)

    def ages(self) -> list[float]:
        """How long the calls that are being served have been so, in seconds."""
        return [age for slot in self.slots for age in slot.ages()]


class Slot:
    """What one worker counts, from several threads."""

    def __init__(self, numbers: memoryview[int], seconds: memoryview[float]) -> None:
        self.numbers = numbers
        self.seconds = seconds
        self._lock = threading.Lock()

    def fresh(self) -> None:
        """A new worker: whatever the one before was serving, it does not any more."""
        self._lock = threading.Lock()
        for at in range(len(VERBS), len(self.seconds)):
            self.seconds[at] = 0.0

    def begin(self, thread: int) -> float:
        """Note that a thread serves a call now; returns the time, for end()."""
        now = time.monotonic()
        self.seconds[len(VERBS) + thread] = now
        return now

    def end(self, thread: int, began: float, verb: str, code: int) -> None:
        """Count the call that a thread has served."""
        lasted = time.monotonic() - began
        row = _VERB.get(verb, len(VERBS) - 1)
        call = row * len(CODES) + _CODE.get(code, len(CODES) - 1)
        bucket = len(VERBS) * len(CODES) + row * (len(BUCKETS) + 1) + bisect_left(BUCKETS, lasted)
        with self._lock:
            self.numbers[call] += 1
            self.numbers[bucket] += 1
            self.seconds[row] += lasted
        self.idle(thread)

    def idle(self, thread: int) -> None:
        """A thread serves nothing."""
        self.seconds[len(VERBS) + thread] = 0.0

    def ages(self) -> list[float]:
        """How long this worker's calls have been served."""
        now = time.monotonic()
        return [now - began for began in self.seconds[len(VERBS) :] if began]
