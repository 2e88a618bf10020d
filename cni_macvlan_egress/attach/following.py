"""Keeps a node's egress policies in force: syncs now, and whenever documents, names or the table change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from ..log import Log
from ..model.configuration import Configuration
from ..protocol.errors import CniError
from ..sources.policy_directory import fingerprint
from ..sources.policy_kubernetes import Document
from ..sources.policy_watch import Snapshot, Watch
from . import policies
from .policing import Policing, Report
from .policy_state import PolicyState

_POLL_SECONDS = 1.0
# A table that somebody has changed is found within this time.
_VERIFY_SECONDS = 30.0
_RETRY_SECONDS = 5.0


class _Documents:
    """The API server's documents as the watch last told them."""

    def __init__(self, changed: threading.Event) -> None:
        self._changed = changed
        # None before the first complete list.
        self.current: tuple[Document, ...] | None = None

    def take(self, snapshot: Snapshot) -> None:
        """Called by the watch's threads."""
        if snapshot.complete:
            self.current = snapshot.documents
            self._changed.set()


class Follower:
    """Follows the policies of one configuration.

    Args:
        tell: hears of every sync.
        fail: hears why one could not be made.
        goes_on: asked about once a second; the end if it says no.
    """

    def __init__(
        self,
        configuration: Configuration,
        tell: Callable[[Report], object],
        fail: Callable[[CniError], object],
        goes_on: Callable[[], bool],
    ) -> None:
        self._configuration = configuration
        self._tell = tell
        self._fail = fail
        self._goes_on = goes_on
        self._wake = threading.Event()
        self._documents: _Documents | None = None

    def wake(self) -> None:
        """Have it ask at once whether it is to go on; for other threads, not for signal handlers."""
        self._wake.set()

    def run(self) -> None:
        """Follow until it is to end."""
        settings = self._configuration.policy
        with ExitStack() as stack:
            if settings is not None and settings.kubernetes:
                self._documents = _Documents(self._wake)
                stack.enter_context(Watch(self._configuration.kubeconfig, self._documents.take))
                while self._documents.current is None and self._goes_on():
                    self._wait(_POLL_SECONDS)
            self._loop()

    def _loop(self) -> None:
        configuration = self._configuration
        policing = Policing(configuration, Log(configuration.log_file, configuration.log_level))
        state = PolicyState(configuration.run_dir)
        directory = configuration.policy.source_directory if configuration.policy else None
        while self._goes_on():
            seen = _fingerprint(directory)
            try:
                report = policing.sync(self._documents.current if self._documents else None)
                self._tell(report)
                wait = min(_VERIFY_SECONDS, policies.next_expiry(state) - time.time())
            except CniError as error:
                self._fail(error)
                wait = _RETRY_SECONDS
            # Not by the wall clock: set back by a day, it would let nobody look at the table for a day.
            due = time.monotonic() + wait
            while self._goes_on() and time.monotonic() < due and _fingerprint(directory) == seen:
                if self._wait(max(0.0, min(_POLL_SECONDS, due - time.monotonic()))):
                    break

    def _wait(self, seconds: float) -> bool:
        """Whether somebody has woken it within that time."""
        woken = self._wake.wait(seconds)
        self._wake.clear()
        return woken


def _fingerprint(directory: str | None) -> str:
    try:
        return fingerprint(directory) if directory else ""
    except CniError:
        return "unreadable"
