"""The supervisor's view of the caretaker: a process that is started again when it ends, or is no longer heard of."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from . import caretaker, children, journal
from .caretaker_counters import CaretakerCounters

# The longest that one of its tasks may be at one piece of work, name servers and locks included.
_OVERDUE_SECONDS = 120.0
_FIRST_RESTART_SECONDS, _LONGEST_RESTART_SECONDS = 1.0, 60.0
# One that has lived so long was well.
_WELL_SECONDS = 300.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.01


@dataclass
class CaretakerProcess:
    """At most one process.

    Attributes:
        fork: makes a child that does what it is given; returns its PID.
        died, overdue: how often it had to be replaced, because it ended by itself or was not heard of.
    """

    settings: caretaker.CaretakerSettings
    fork: Callable[[Callable[[], None]], int]
    counters: CaretakerCounters = field(default_factory=CaretakerCounters)
    pid: int = 0
    died: int = 0
    overdue: int = 0
    _born: float = 0.0
    _due: float = 0.0
    _pause: float = _FIRST_RESTART_SECONDS
    _killed: bool = False

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return bool(self.pid)

    def look_after(self) -> None:
        """Start it if it is time to, and kill it if it hangs."""
        now = time.monotonic()
        if not self.pid:
            if now >= self._due:
                self._start(now)
        elif self.counters.silence() > _OVERDUE_SECONDS and not self._killed:
            journal.tell("error", "the caretaker does not go on and is replaced", caretaker=self.pid)
            self.overdue += 1
            self._killed = True
            self._signal(signal.SIGKILL)

    def has_ended(self, pid: int, status: int) -> bool:
        """Whether a child that has ended is this one."""
        if pid != self.pid:
            return False
        now = time.monotonic()
        if not self._killed:
            self.died += 1
            code = os.waitstatus_to_exitcode(status)
            journal.tell("error", "the caretaker has ended", caretaker=pid, status=code)
        if now - self._born > _WELL_SECONDS:
            self._pause = _FIRST_RESTART_SECONDS
        self._due = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_RESTART_SECONDS)
        self.pid = 0
        self.counters.fresh()  # what it knew is not known any more
        return True

    def stop(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def end(self) -> None:
        """Wait until it has ended, and have it end if that takes long."""
        until = time.monotonic() + _STOP_SECONDS
        while self.pid:
            if time.monotonic() >= until:
                self._signal(signal.SIGKILL)
            try:
                pid, _ = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid = self.pid
            if pid:
                self.pid = 0
            else:
                time.sleep(_POLL_SECONDS)

    def _start(self, now: float) -> None:
        self.counters.fresh()
        self.pid = self.fork(lambda: caretaker.run(self.settings, self.counters))
        self._born, self._killed = now, False

    def _signal(self, number: int) -> None:
        if self.pid:
            children.send(self.pid, number)
