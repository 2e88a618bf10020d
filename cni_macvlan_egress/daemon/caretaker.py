"""The daemon's process for what no call asks for: announcements, names, drift, policies.

It harms no call: it has a low priority, holds locks briefly and one at a time, and if it dies another one goes on from
what the files say. Each task has a thread of its own, so that a silent name server keeps no announcement waiting.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from ..attach.roster import Roster
from ..model.configuration import Configuration
from . import journal
from .caretaker_counters import TASKS, CaretakerCounters

_NICE = 10
_TASK_RESTART_SECONDS = 5.0
_STOP_SECONDS = 3.0


class PolicySource(Protocol):
    """Where the node's configuration is found."""

    def fingerprint(self) -> str:
        """Changes with it."""

    def read(self) -> Configuration | None:
        """The configuration of now, None if it knows no policies.

        Raises:
            CniError: it cannot be used.
        """


class ConflistKeeper(Protocol):
    """Keeps the plugin's entry in the node's conflist."""

    def run(self, stop: int, report: Callable[[str, str], object]) -> None:
        """Do so until a descriptor is readable; report hears kind and words of what happens."""


@dataclass(frozen=True)
class CaretakerSettings:
    """What it is to do.

    Attributes:
        state_dir, run_dir: whose attachments.
        announce_every: seconds between announcements of an attachment; 0: none at all.
        drift: what is done about differences from what ADD made.
        drift_every: seconds within which each attachment is looked at once.
        policies: None if they are not to be followed.
        conflist: None if it is not to be watched.
    """

    state_dir: str
    run_dir: str
    announce_every: float = 60.0
    drift: Literal["report", "repair", "off"] = "report"
    drift_every: float = 300.0
    policies: PolicySource | None = None
    conflist: ConflistKeeper | None = None


class Stop:
    """That the end has come, for threads that wait for a moment and for one that waits for a socket."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # readable from then on

    def set(self) -> None:
        """Say so."""
        self._event.set()
        os.eventfd_write(self.fd, 1)

    def is_set(self) -> bool:
        """Whether it has."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether it has, within that time."""
        return self._event.wait(seconds)


def run(settings: CaretakerSettings, counters: CaretakerCounters) -> None:
    """Take care until SIGTERM."""
    from .caretaker_names import Names
    from .caretaker_policies import Policies
    from .caretaker_rounds import Rounds

    os.nice(_NICE)
    woken = _hear_sigterm()
    counters.fresh()
    stop = Stop()
    roster = Roster(settings.state_dir)
    tasks: dict[str, Callable[[], None]] = {
        "attachments": Rounds(settings, roster, counters, stop).run,
        "names": Names(settings, roster, counters, stop).run,
    }
    if settings.policies is not None:
        tasks["policies"] = Policies(settings.policies, counters, stop).run
    if settings.conflist is not None:
        tasks["conflist"] = partial(_watch_conflist, settings.conflist, counters, stop)
    threads = [
        threading.Thread(target=_keep_running, args=(name, task, counters, stop), name=name, daemon=True)
        for name, task in tasks.items()
    ]
    for thread in threads:
        thread.start()
    while os.read(woken, 1) != bytes((signal.SIGTERM,)):
        pass
    stop.set()
    until = time.monotonic() + _STOP_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _hear_sigterm() -> int:
    """The end of a pipe from which the numbers of signals come."""
    woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(woken, True)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when to stop
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _interrupt)
    return woken


def _interrupt(_number: int, _frame: object) -> None:
    """That there is a handler has the number written to the pipe."""


def _watch_conflist(keeper: ConflistKeeper, counters: CaretakerCounters, stop: Stop) -> None:
    """Not one of those that are listened for: it waits for events for as long as there are none."""

    def report(kind: str, words: str) -> None:
        counters.count("conflist_restored", int(kind == "restored"))
        level = "warning" if kind in ("contested", "failed") else "info"
        journal.tell(level, f"the node's conflist: {words}", kind=kind)

    keeper.run(stop.fd, report)


def _keep_running(name: str, task: Callable[[], None], counters: CaretakerCounters, stop: Stop) -> None:
    """A fault of one task ends neither it nor the others."""
    while not stop.is_set():
        try:
            task()
        except Exception:
            import traceback

            counters.count("errors")
            journal.tell(
                "error", "a task of the caretaker has failed", task=name, traceback=traceback.format_exc()
            )
            with suppress(OSError):
                stop.wait(_TASK_RESTART_SECONDS)
    if name in TASKS:
        counters.rest(name)
