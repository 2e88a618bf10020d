"""`macvlan-egress policy sync --follow`: stays, and syncs whenever documents, names or the table change."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

from ..attach import policies
from ..attach.policing import Policing, Report
from ..attach.policy_state import PolicyState
from ..log import Log
from ..model.configuration import Configuration
from ..protocol.errors import CniError
from ..sources.policy_directory import fingerprint
from ..sources.policy_kubernetes import Document, Snapshot, Watch

_POLL_SECONDS = 1.0
# A table that somebody has changed is found within this time.
_VERIFY_SECONDS = 30.0
_RETRY_SECONDS = 5.0


class _Documents:
    """The API server's documents as the watch last told them."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._documents: tuple[Document, ...] | None = None

    def take(self, snapshot: Snapshot) -> None:
        """Called by the watch's threads."""
        if snapshot.complete:
            self._documents = snapshot.documents
            self._wake.set()

    def wait(self, seconds: float) -> bool:
        """Whether they have changed within that time."""
        changed = self._wake.wait(seconds)
        self._wake.clear()
        return changed

    def stop(self) -> None:
        """End a wait."""
        self._wake.set()

    @property
    def current(self) -> tuple[Document, ...] | None:
        """The documents, None before the first complete list."""
        return self._documents


def follow(configuration: Configuration, tell: Callable[[Report], object]) -> None:
    """Sync now and whenever something changes, until SIGTERM or SIGINT."""
    documents = _Documents()
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()
        documents.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    kubernetes = configuration.policy is not None and configuration.policy.kubernetes
    with ExitStack() as stack:
        if kubernetes:
            stack.enter_context(Watch(configuration.kubeconfig, documents.take))
            while documents.current is None and not ended.is_set():
                documents.wait(_POLL_SECONDS)
        _loop(configuration, documents if kubernetes else None, ended, tell)


def _loop(
    configuration: Configuration,
    documents: _Documents | None,
    ended: threading.Event,
    tell: Callable[[Report], object],
) -> None:
    policing = Policing(configuration, Log(configuration.log_file, configuration.log_level))
    state = PolicyState(configuration.run_dir)
    directory = configuration.policy.source_directory if configuration.policy else None
    told: tuple[str, ...] | None = None
    while not ended.is_set():
        seen = _fingerprint(directory)
        try:
            report = policing.sync(documents.current if documents else None)
            if report.changes or report.problems != told:
                tell(report)
            told, due = report.problems, min(time.time() + _VERIFY_SECONDS, policies.next_expiry(state))
        except CniError as error:
            sys.stderr.write(f"macvlan-egress policy: {error}\n")
            due = time.time() + _RETRY_SECONDS
        while not ended.is_set() and time.time() < due and _fingerprint(directory) == seen:
            left = max(0.0, min(_POLL_SECONDS, due - time.time()))
            if documents.wait(left) if documents else ended.wait(left):
                break


def _fingerprint(directory: str | None) -> str:
    try:
        return fingerprint(directory) if directory else ""
    except CniError:
        return "unreadable"
