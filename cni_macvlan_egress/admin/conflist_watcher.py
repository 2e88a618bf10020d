"""Keeps our entry in the conflist while the main CNI writes it anew, without fighting about it.

Used by `install --watch`, and by whoever else has a process that stays: follow() needs an Installation, a descriptor
that ends it, and somebody who listens.
"""

from __future__ import annotations

import os
import pwd
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from ..model.conflist_patience import Patience
from ..protocol.errors import DECODING_FAILURE, IO_FAILURE, NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from .conflist_change import Change, path_in
from .conflist_events import DirectoryEvents, Witness
from .conflist_installation import Installation, Wish

Kind = Literal["installed", "restored", "present", "waiting", "contested", "withdrawn", "failed"]

# What no event tells: other nodes' changes on a shared file system, files behind links.
_RECHECK_SECONDS = 30.0
_POLL_SECONDS = 1.0
_RETRY_SECONDS = 10.0
_WRITING_SECONDS = 1.0
_WRITES_KEPT = 1000
_CURE = "let only one program manage the file, or add the entry to the template that the other one writes"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that whoever runs the watch may want to know.

    Attributes:
        kind: installed: the entry was put in; restored: it was put back; present: it is there; waiting: there is
            no conflist yet; contested: somebody keeps removing it; withdrawn: it was uninstalled; failed.
        path: the file; the directory if it is about no file.
        text: a sentence for people.
        wait: seconds until the next try, of contested ones.
    """

    kind: Kind
    path: str
    text: str
    wait: float = 0.0


def follow(
    installation: Installation,
    wish: Wish,
    stop: int,
    report: Callable[[Event], object],
    patience: Patience | None = None,
) -> None:
    """Keep the entry in place until a descriptor is readable.

    Args:
        wish: the entry to install at first; what is there later is left as it is.
        stop: a descriptor; readable, or closed at its other end: it is time to end.
        report: hears what happens; the same thing only once.
    """
    with ExitStack() as stack:
        watcher = _Watcher(installation, wish, report, patience or Patience(), stack)
        while not watcher.wait(stop):
            watcher.look()


class _Watcher:
    def __init__(
        self,
        installation: Installation,
        wish: Wish,
        report: Callable[[Event], object],
        patience: Patience,
        stack: ExitStack,
    ) -> None:
        self._installation = installation
        self._wish: Wish = wish
        self._report = report
        self._patience = patience
        self._due = self._doubtful = self._looked = 0.0
        self._installed = self._in_place = False
        self._told: Event | None = None
        self._writes: deque[tuple[float, str]] = deque(maxlen=_WRITES_KEPT)
        self._witness = Witness(installation.directory)
        stack.callback(self._witness.close)
        self._events = self._open_events(stack)
        self.look()

    def wait(self, stop: int) -> bool:
        """Sleep until something has happened, or is due; True if it is time to end."""
        poller = select.poll()
        poller.register(stop, select.POLLIN)
        for fd in [*self._witness.descriptors, *([self._events.fileno()] if self._events else [])]:
            poller.register(fd, select.POLLIN)
        timeout = _RECHECK_SECONDS if self._events else _POLL_SECONDS
        due = [one for one in (self._doubtful, 0.0 if self._in_place else self._due) if one > self._looked]
        if due:
            timeout = max(0.0, min(timeout, min(due) - time.monotonic()))
        ready = [fd for fd, _ in poller.poll(timeout * 1000)]
        self._witness.look()
        if self._events:
            self._writes.extend((time.monotonic(), name) for name in self._events.written())
            self._rearm(self._events)
        return stop in ready

    def look(self) -> None:
        """Compare what is with what should be, and mend it if it is time to."""
        self._looked = time.monotonic()
        try:
            while self._mend():
                pass
            self._doubtful = 0.0
        except CniError as error:
            if error.code == DECODING_FAILURE and self._is_being_written():
                return
            kind: Kind = "waiting" if error.code == NOT_AVAILABLE else "failed"
            if error.code in (IO_FAILURE, TRY_AGAIN_LATER):  # no event tells when these are over
                self._due = time.monotonic() + _RETRY_SECONDS
            self._tell(Event(kind, self._installation.directory, error.msg))

    def _is_being_written(self) -> bool:
        """Whether to give whoever writes a file in place the time to come to its end."""
        now = time.monotonic()
        if not self._doubtful:
            self._doubtful = now + _WRITING_SECONDS
        return now < self._doubtful

    def _mend(self) -> bool:
        """One step; True if something was written, so that it has to be looked at once more."""
        if self._has_been_withdrawn():
            return False
        changes = self._installation.plan(self._wish)
        if not changes:
            self._settle()
            return False
        now = time.monotonic()
        if self._in_place and any(change.touches_file for change in changes):
            self._in_place, self._due = False, self._patience.lost(now)
            if self._patience.contested:
                self._tell(self._contested(changes[0], self._due - now))
        if not self._in_place and now < self._due:
            return False
        self._restore()
        return True

    def _has_been_withdrawn(self) -> bool:
        if not self._installed or not self._installation.withdrawn():
            return False
        self._in_place, self._due = False, 0.0
        text = "it was uninstalled; nothing is put back"
        self._tell(Event("withdrawn", self._installation.directory, text))
        return True

    def _restore(self) -> None:
        kind: Kind = "restored" if self._installed else "installed"
        for change in self._installation.apply(self._wish, standing=self._installed):
            if change.touches_file:
                self._told = None  # each time counts, also if the one before was told in the same words
                self._tell(Event(kind, change.path, change.deed))
        self._put_in_place()
        if self._events:
            self._events.written()  # these were our own; what others have written since is found by looking

    def _settle(self) -> None:
        self._put_in_place()
        if self._told is None or self._told.kind not in ("installed", "restored", "present"):
            target = self._installation.target()
            path = (
                path_in(self._installation.directory, target.file) if target else self._installation.directory
            )
            self._tell(Event("present", path, "the entry is in place"))

    def _put_in_place(self) -> None:
        self._in_place, self._due = True, 0.0
        if not self._installed:
            self._installed, self._wish = True, _as_it_is(self._wish)

    def _contested(self, change: Change, wait: float) -> Event:
        since = self._patience.since
        seconds = max(1.0, time.monotonic() - since)
        files = {os.path.basename(change.path), os.path.basename(change.like)}
        writes = 1 + sum(when > since and name in files for when, name in self._writes)
        cure = "set cni.exclusive=false in Cilium" if "cilium-cni" in (change.before or "") else _CURE
        text = (
            f"somebody keeps writing it without the entry: {max(writes, self._patience.losses)} times in "
            f"{seconds:.0f} s, by {self._culprit(change, files)}; it is put back in {wait:.0f} s; {cure}"
        )
        return Event("contested", change.path, text, wait)

    def _culprit(self, change: Change, files: set[str]) -> str:
        process = next((found for name in sorted(files) if (found := self._witness.writer(name))), None)
        try:
            status = os.stat(change.path)
        except OSError:  # it is gone again
            return str(process or "somebody who removes it")
        when = time.strftime("%H:%M:%S", time.localtime(status.st_mtime))
        return f"{process or 'a program'} as {_user(status.st_uid)}, last at {when}"

    def _rearm(self, events: DirectoryEvents) -> None:
        try:
            if events.rearm():
                self._witness.rearm(self._installation.directory)
        except OSError as error:
            text = f"cannot watch the directory: {error.strerror}; it is looked at every {_RECHECK_SECONDS:.0f} s"
            self._tell(Event("failed", self._installation.directory, text))

    def _open_events(self, stack: ExitStack) -> DirectoryEvents | None:
        try:
            events = DirectoryEvents(self._installation.directory)
        except OSError as error:
            text = f"no inotify: {error.strerror}; the directory is looked at every {_POLL_SECONDS:.0f} s instead"
            self._report(Event("failed", self._installation.directory, text))
            return None
        stack.callback(events.close)
        return events

    def _tell(self, event: Event) -> None:
        if event != self._told:
            self._told = event
            self._report(event)


def _as_it_is(wish: Wish) -> Wish:
    """Once installed, the entry that is there, or was, is the one to keep: an admin may have edited it."""
    return lambda present: wish(None) if present is None else present


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
