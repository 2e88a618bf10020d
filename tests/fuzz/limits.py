"""What one input may take: time, and memory beyond what the process had."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager

# Generous, because a machine that is short of time may charge for what others took.
CPU_SECONDS = 20.0
# By the clock, for who waits for what does not come: longer than any deadline of the plugin's.
SECONDS = 150.0
# Of the process at its largest, so that memory it has had before is not counted.
MEMORY_BYTES = 64 << 20
MEMORY_FACTOR = 64


class Endless(BaseException):
    """An input took too long; no `except Exception` may keep it."""


class Greedy(Exception):
    """An input took too much memory."""


@contextmanager
def within_limits(size: int, cpu_seconds: float) -> Iterator[None]:
    """Look at an input of some bytes.

    Raises:
        Endless, Greedy: it took too much.
    """
    before = _peak()
    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, cpu_seconds),
        (signal.ITIMER_REAL, signal.SIGALRM, SECONDS),
    )
    for timer, number, seconds in timers:
        signal.signal(number, _end)
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _, _ in timers:
            signal.setitimer(timer, 0)
    grown = _peak() - before
    if grown > MEMORY_BYTES + MEMORY_FACTOR * size:
        raise Greedy(f"{grown >> 20} MiB for an input of {size} bytes")


def settle() -> None:
    """Take what is there now for granted."""
    gc.collect()
    gc.freeze()


def _peak() -> int:
    """Not getrusage(2)'s, which has that of the program that has started this one as well."""
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def _end(_number: int, _frame: object) -> None:
    raise Endless("an input takes too long")
