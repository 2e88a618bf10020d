"""Every change to the egress policies in the Kubernetes API, as it is made. For the daemon: an ADD needs none of it."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote

from ..model.complaints import show
from ..protocol.errors import TRY_AGAIN_LATER, CniError
from .https import Deadline, Interrupt, Question, Refused, Server, TooLarge
from .policy_kubernetes import (
    ABSENT,
    GONE,
    RESOURCES,
    Document,
    Key,
    Resource,
    access_of,
    confirm_api,
    document_of,
    listed,
    path_of,
    refusals,
    version_of,
)

MAX_EVENT_BYTES = 8 * 1024 * 1024  # as of a page
_NO_FAULT_OF_VERSION = (401, 403, 429)
# A watch that was cut off goes on where it was. If the server was away, the list is read anew: it would most often say
# that the version expired, but with an etcd restored from an older backup, nothing at all for a long time.
_RESUME_TRIES = 2


class Snapshot(NamedTuple):
    """All documents as they were at one time.

    Attributes:
        number: grows with every change.
        documents: by kind, namespace and name; not to be changed.
        complete: every kind has been listed, or is known to be absent. Before that, a document that is missing
            may only not have come yet, and nothing may be concluded from it.
    """

    number: int
    documents: tuple[Document, ...]
    complete: bool


class State(NamedTuple):
    """How the watching of one kind is going.

    Attributes:
        installed: whether the server knows the kind; None if that is not known yet.
        connected: changes are being received now.
        resource_version: of the last list or event; "" if there was none.
        documents: how many there are.
        failures: attempts that failed since the last good one.
        error: the last one, also if it is over; "" if there was none.
        error_at, change_at: when that was, and when documents changed, in seconds since the epoch; 0 for never.
    """

    kind: str
    installed: bool | None = None
    connected: bool = False
    resource_version: str = ""
    documents: int = 0
    failures: int = 0
    error: str = ""
    error_at: float = 0.0
    change_at: float = 0.0


class Pace(NamedTuple):
    """How long things may take, in seconds.

    Attributes:
        watch: after this the server ends a watch, up to a fifth later so that nodes do not come all at once.
        grace: so much longer it is waited for that end; then the connection counts as dead.
        answer: for an answer to begin.
        listing: for a whole list.
        steady: a watch that lasted so long was a good one.
        retry, most: to wait after the first failure, doubled with each further one, and at most; less up to a half
            by chance.
        absent: to wait at most before a kind that the server does not know is asked for again.
        forget: documents that were there are kept for so long although the server does not know their kind: while
            it starts it may not know it yet.
    """

    watch: float = 300.0
    grace: float = 15.0
    answer: float = 15.0
    listing: float = 60.0
    steady: float = 5.0
    retry: float = 1.0
    most: float = 30.0
    absent: float = 60.0
    forget: float = 30.0


class Watch:
    """Keeps all documents of all namespaces, and follows their changes in one thread a kind.

    The documents stay while a list is read anew and while the server is away. Credentials are read anew for each
    connection, since tokens are renewed in their files. Every error is retried; `states()` shows it.

    Args:
        kubeconfig: path of a kubeconfig; None for the service account of the pod this runs in.
        changed: gets a snapshot after every change, several close together as one; by one of the threads, one call
            at a time, the numbers growing. It should return soon; if it raises, it is called again later.
        pace: how long things may take.
    """

    def __init__(
        self, kubeconfig: str | None, changed: Callable[[Snapshot], object], pace: Pace | None = None
    ) -> None:
        self._changed = changed
        self._interrupt = Interrupt()
        self._lock = threading.Lock()  # over the numbers and what the followers show
        self._delivery = threading.Lock()  # while a snapshot is handed over; taken before the other
        self._number = self._delivered = 0
        self._followers = [
            _Follower(resource, kubeconfig, pace or Pace(), self._interrupt, self) for resource in RESOURCES
        ]
        self._threads = [
            threading.Thread(target=one.run, name=f"watch-{one.resource.plural}", daemon=True)
            for one in self._followers
        ]

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin; connections are made in the network namespace of the calling thread."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """End connections and threads, for good; may be called by any thread and more than once.

        Args:
            seconds: to wait at most for a `changed` that is still busy. One that calls this does not wait.
        """
        self._interrupt.call()
        if threading.current_thread() in self._threads:
            return
        deadline = Deadline(seconds)
        for thread in self._threads:
            if thread.ident is not None:
                with suppress(TimeoutError):
                    thread.join(deadline.left())

    @property
    def lock(self) -> threading.Lock:
        """Held over every change to a follower."""
        return self._lock

    def snapshot(self) -> Snapshot:
        with self._lock:
            return self._snapshot()

    def states(self) -> tuple[State, ...]:
        """One a kind, in the order of RESOURCES."""
        with self._lock:
            return tuple(one.state() for one in self._followers)

    def bump(self) -> None:
        """Something changed; the lock is held."""
        self._number += 1

    def deliver(self, wait: bool = True) -> None:
        """Hand over what changed, if nobody did so yet; without waiting, only if nobody is just doing that."""
        if not self._delivery.acquire(blocking=wait):
            return
        try:
            with self._lock:
                snapshot = self._snapshot()
            if snapshot.number != self._delivered and not self._interrupt.called:
                self._changed(snapshot)
                self._delivered = snapshot.number
        finally:
            self._delivery.release()

    def _snapshot(self) -> Snapshot:
        documents = [one.documents[key] for one in self._followers for key in sorted(one.documents)]
        return Snapshot(self._number, tuple(documents), all(one.complete for one in self._followers))


class _Follower:
    """Lists and watches one kind, for ever; what others see of it is changed under the lock of its Watch."""

    def __init__(
        self, resource: Resource, kubeconfig: str | None, pace: Pace, interrupt: Interrupt, watch: Watch
    ) -> None:
        self.resource = resource
        self.documents: dict[Key, Document] = {}
        self.complete = False
        self._kubeconfig = kubeconfig
        self._pace = pace
        self._interrupt = interrupt
        self._watch = watch
        self._installed: bool | None = None
        self._connected = False
        self._version = ""
        self._resume = False  # a watch may go on from the version; else the list is read
        self._failures = self._absences = 0
        self._resumed = 0  # failures since the list, or since a watch that lasted
        self._opened: float | None = None
        self._seconds = 0
        self._absent_since: float | None = None
        self._error, self._error_at, self._change_at = "", 0.0, 0.0

    def state(self) -> State:
        return State(
            kind=self.resource.kind,
            installed=self._installed,
            connected=self._connected,
            resource_version=self._version,
            documents=len(self.documents),
            failures=0 if self._connected and self._steady() else self._failures,
            error=self._error,
            error_at=self._error_at,
            change_at=self._change_at,
        )

    def run(self) -> None:
        while not self._interrupt.called:
            try:
                self._round()
            except CniError as error:
                self._failed(str(error))
            except Exception as error:  # of whoever is told of changes, or a fault here: go on
                self._failed(f"{type(error).__name__}: {error}")
            self._interrupt.sleep(self._pause())

    def _round(self) -> None:
        """A list, if there is none to go on from, and one watch; returns when the server ends that."""
        self._opened = None
        self._watch.deliver(wait=False)  # what could not be handed over before
        server = Server(access_of(self._kubeconfig), self._interrupt)
        if not self._resume:
            absent_since, self._absent_since = self._absent_since, None
            try:
                found = listed(server, self.resource, "", Deadline(self._pace.listing))
            except Refused as error:
                if error.status != ABSENT:
                    raise
                self._absent(server, absent_since)
                return
            self._replace(*found)
        question = self._question(server)
        self._follow(question)
        if not self._steady():
            raise question.error("it ends the watch at once", "look at what stands before the API server")
        with self._watch.lock:
            self._failures = self._resumed = 0

    def _replace(self, documents: dict[Key, Document], version: str) -> None:
        """Take a new list for what was known, which stood until now."""
        with self._watch.lock:
            before, after = (
                {key: _substance(one) for key, one in each.items()} for each in (self.documents, documents)
            )
            changed = not self.complete or before != after
            self.documents = documents
            self.complete = self._installed = True
            self._version = version
            self._absences = 0
            self._note(changed)
        self._resume, self._resumed = True, 0
        self._watch.deliver()

    def _absent(self, server: Server, since: float | None) -> None:
        """The server does not know the kind, and had nothing else to say since a time."""
        confirm_api(server, Deadline(self._pace.answer))
        now = time.monotonic()
        self._absent_since = now if since is None else since
        if self.documents and now - self._absent_since < self._pace.forget:
            raise CniError(
                TRY_AGAIN_LATER,
                f"the API server {server.access.url} does not know {self.resource.plural}.{self.resource.group} any "
                f"more; the documents that it had are kept for {self._pace.forget:g} s",
            )
        with self._watch.lock:
            self._installed = False
            self._failures = 0
            self._absences += 1
            changed = not self.complete or bool(self.documents)
            self.documents = {}
            self.complete = True
            self._version = ""
            self._note(changed)
        self._watch.deliver()

    def _question(self, server: Server) -> Question:
        """That of a watch from the version on."""
        self._seconds = max(1, int(self._pace.watch * random.uniform(1.0, 1.2)))
        return Question(
            server,
            f"the changes of all {self.resource.plural}",
            f"{path_of(self.resource, '')}?watch=1&allowWatchBookmarks=true&timeoutSeconds={self._seconds}"
            f"&resourceVersion={quote(self._version, safe='')}",
            refusals(self.resource, server.access),
        )

    def _follow(self, question: Question) -> None:
        """One watch, until the server ends it."""
        try:
            with question.opened(Deadline(self._pace.answer), lasting=True) as response:
                with self._watch.lock:
                    self._connected, self._opened = True, time.monotonic()
                whole = Deadline(self._seconds + self._pace.grace)
                for lines in question.lines(response, whole, MAX_EVENT_BYTES):
                    try:
                        with self._watch.lock:
                            for line in filter(None, lines):
                                self._apply(question, line)
                    finally:  # those before one that is wrong count
                        self._watch.deliver()
        except Refused as error:
            if error.status not in _NO_FAULT_OF_VERSION and error.status < 500:
                self._resume = False
            raise
        except TooLarge:
            self._resume = False
            raise
        finally:
            with self._watch.lock:
                self._connected = False

    def _steady(self) -> bool:
        """Whether the last watch was a good one."""
        return self._opened is not None and time.monotonic() - self._opened >= self._pace.steady

    def _apply(self, question: Question, line: bytes) -> None:
        """One event; whatever is wrong with it, the list is the way out."""
        resume, self._resume = self._resume, False
        expected = "a watch event"
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            raise question.garbage(expected, "it is not JSON", line) from None
        if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
            raise question.garbage(expected, "it has no object", line)
        kind, thing = event.get("type"), event["object"]
        if kind == "ERROR":
            code, message = thing.get("code"), thing.get("message")
            what = (
                "the version to go on from expired"
                if code == GONE
                else f"it ends the watch (status {code!r:.20})"
            )
            raise question.error(
                what, "the list is read anew by itself", message[:300] if isinstance(message, str) else ""
            )
        version = version_of(thing)
        if not version:
            raise question.garbage(expected, "its object has no resourceVersion", line)
        if kind == "BOOKMARK":
            self._version, self._resume = version, resume
            return
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            raise question.garbage(expected, f"its type is {show(kind)}", line)
        key, document = document_of(question, self.resource, thing, "")
        before = self.documents.pop(key, None)
        if kind == "DELETED":
            self._note(before is not None)
        else:
            self.documents[key] = document
            self._note(before is None or _substance(before) != _substance(document))
        self._version, self._resume = version, resume

    def _note(self, changed: bool) -> None:
        if changed:
            self._change_at = time.time()
            self._watch.bump()

    def _failed(self, error: str) -> None:
        if self._interrupt.called:
            return
        with self._watch.lock:
            if self._steady():
                self._failures = self._resumed = 0
            self._failures += 1
            self._resumed += 1
            self._error, self._error_at = error, time.time()
            if self._resumed >= _RESUME_TRIES:
                self._resume = False

    def _pause(self) -> float:
        """Seconds to wait before the next round."""
        times = self._failures or self._absences
        if not times:
            return 0.0
        most = self._pace.most if self._failures else self._pace.absent
        wait = min(most, self._pace.retry * 2.0 ** min(times - 1, 20))
        return wait * random.uniform(0.5, 1.0)


def _substance(document: Document) -> Document:
    """What of a document makes a difference: not its version, its labels and annotations."""
    metadata = document["metadata"]
    return {**document, "metadata": [metadata.get(key) for key in ("namespace", "name", "uid")]}
