"""Egress policies from the Kubernetes API: those of one namespace, all of them, or all and every change to them.

Documents go out as the server has them, checked for being of the kind and having a name and namespace, and for
nothing else; only `status` and `metadata.managedFields` are left out, which say nothing of the policy and can be
many times its size. A kind that the server does not know (its CRD is not installed) has no documents; any other
answer but a good one is an error. The watching is for the daemon, so that an ADD imports nothing of what it needs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from ..model.complaints import show
from ..model.policy import ENP_KIND, FIREWALL_KIND
from ..protocol.errors import INVALID_CONFIGURATION, TRY_AGAIN_LATER, CniError
from .https import Deadline, Interrupt, Question, Refused, Server, TooLarge
from .kubeconfig import Access, from_file, from_service_account, in_cluster
from .kubernetes import check_namespace

if TYPE_CHECKING:
    import threading

Document = dict[str, Any]
_Key = tuple[str, str]  # namespace and name

# A pod's start waits for fetch(), an admin or a script for fetch_all().
FETCH_SECONDS, FETCH_ALL_SECONDS = 5.0, 30.0
# etcd refuses objects over 1.5 MiB, which JSON may make some times larger; a page too large is asked for in parts.
MAX_PAGE_BYTES = MAX_EVENT_BYTES = 8 * 1024 * 1024
MAX_LIST_BYTES = 64 * 1024 * 1024
PAGE_OBJECTS = 250
LIST_TRIES = 3  # of a list that expires while it is read

_ABSENT, _GONE = 404, 410
_NO_FAULT_OF_VERSION = (401, 403, 429)
# A watch that was cut off goes on where it was. If the server was away, the list is read anew: it would most often say
# that the version expired, but with an etcd restored from an older backup, nothing at all for a long time.
_RESUME_TRIES = 2


class Resource(NamedTuple):
    """A kind of document, and where the API has it."""

    kind: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"


RESOURCES = (
    Resource(ENP_KIND, "network.openshift.io", "v1", "egressnetworkpolicies"),
    Resource(FIREWALL_KIND, "k8s.ovn.org", "v1", "egressfirewalls"),
)


def fetch(namespace: str, kubeconfig: str | None) -> list[Document]:
    """The documents of one namespace, by kind and name.

    Args:
        namespace: K8S_POD_NAMESPACE.
        kubeconfig: path of a kubeconfig; None for the service account of the pod this runs in.

    Raises:
        CniError: TRY_AGAIN_LATER if the server cannot be reached, refuses or answers something else;
            INVALID_ENVIRONMENT, INVALID_CONFIGURATION or IO_FAILURE if it cannot even be asked.
    """
    check_namespace(namespace)
    return _fetch(kubeconfig, namespace, FETCH_SECONDS)


def fetch_all(kubeconfig: str | None) -> list[Document]:
    """The documents of all namespaces, by kind, namespace and name; arguments and errors as for fetch()."""
    return _fetch(kubeconfig, "", FETCH_ALL_SECONDS)


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
        import threading

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
        import threading

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
        self.documents: dict[_Key, Document] = {}
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
        server = Server(_access(self._kubeconfig), self._interrupt)
        if not self._resume:
            absent_since, self._absent_since = self._absent_since, None
            try:
                found = _list(server, self.resource, "", Deadline(self._pace.listing))
            except Refused as error:
                if error.status != _ABSENT:
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

    def _replace(self, documents: dict[_Key, Document], version: str) -> None:
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
        _confirm_api(server, Deadline(self._pace.answer))
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
        import random

        self._seconds = max(1, int(self._pace.watch * random.uniform(1.0, 1.2)))
        return Question(
            server,
            f"the changes of all {self.resource.plural}",
            f"{_path(self.resource, '')}?watch=1&allowWatchBookmarks=true&timeoutSeconds={self._seconds}"
            f"&resourceVersion={quote(self._version, safe='')}",
            _refusals(self.resource, server.access),
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
                if code == _GONE
                else f"it ends the watch (status {code!r:.20})"
            )
            raise question.error(
                what, "the list is read anew by itself", message[:300] if isinstance(message, str) else ""
            )
        version = _version(thing)
        if not version:
            raise question.garbage(expected, "its object has no resourceVersion", line)
        if kind == "BOOKMARK":
            self._version, self._resume = version, resume
            return
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            raise question.garbage(expected, f"its type is {show(kind)}", line)
        key, document = _document(question, self.resource, thing, "")
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
        import random

        times = self._failures or self._absences
        if not times:
            return 0.0
        most = self._pace.most if self._failures else self._pace.absent
        wait = min(most, self._pace.retry * 2.0 ** min(times - 1, 20))
        return wait * random.uniform(0.5, 1.0)


def _fetch(kubeconfig: str | None, namespace: str, seconds: float) -> list[Document]:
    server, deadline = Server(_access(kubeconfig)), Deadline(seconds)
    found: list[Document] = []
    absent = 0
    for resource in RESOURCES:
        try:
            documents, _ = _list(server, resource, namespace, deadline)
        except Refused as error:
            if error.status != _ABSENT:
                raise
            absent += 1
        else:
            found += [documents[key] for key in sorted(documents)]
    if absent == len(RESOURCES):
        _confirm_api(server, deadline)
    return found


def _access(kubeconfig: str | None) -> Access:
    if kubeconfig is not None:
        return from_file(kubeconfig)
    if not in_cluster(os.environ):
        raise CniError(
            INVALID_CONFIGURATION,
            "policy.kubernetes: no API server is known: set 'kubeconfig'; only in a pod with a service account is it "
            "not needed",
        )
    return from_service_account(os.environ)


def _list(
    server: Server, resource: Resource, namespace: str, deadline: Deadline
) -> tuple[dict[_Key, Document], str]:
    """The documents of a namespace, "" for all, and the resourceVersion that they are of.

    Raises:
        CniError: Refused with status 404 if the server does not know the kind.
    """
    for _ in range(LIST_TRIES - 1):
        with suppress(_Expired):
            return _pages(server, resource, namespace, deadline)
    return _pages(server, resource, namespace, deadline)


class _Expired(Refused):
    """A list got too old while it was read page by page."""


def _pages(
    server: Server, resource: Resource, namespace: str, deadline: Deadline
) -> tuple[dict[_Key, Document], str]:
    refusals = _refusals(resource, server.access)
    whose = f"namespace {namespace}" if namespace else "all namespaces"
    documents: dict[_Key, Document] = {}
    version, token, limit, size = "", "", PAGE_OBJECTS, 0
    while True:
        more = f"&continue={quote(token, safe='')}" if token else ""
        path = f"{_path(resource, namespace)}?limit={limit}{more}"
        question = Question(server, f"the {resource.plural} of {whose}", path, refusals)
        try:
            body = question.ask(deadline, MAX_PAGE_BYTES)
        except TooLarge:
            if limit == 1:
                raise
            limit = max(1, limit // 8)
            continue
        except Refused as error:
            if token and error.status == _GONE:
                raise _Expired(error.status, error.msg, error.details) from None
            raise
        size += len(body)
        if size > MAX_LIST_BYTES:
            raise question.error(
                f"they are larger than {MAX_LIST_BYTES >> 20} MiB in all", "no cluster needs that much policy"
            )
        answer = _answer(question, body, f"{resource.kind}List", resource.api_version)
        for item in answer["items"]:
            key, document = _document(question, resource, item, namespace)
            documents[key] = document
        version, token = version or _version(answer), answer["metadata"].get("continue") or ""
        if not token:
            return documents, version


def _answer(question: Question, body: bytes, kind: str, api_version: str) -> dict[str, Any]:
    """A list in a body: with a version, a list of items, and perhaps a token to continue by."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise question.garbage(f"{kind}", "it is not JSON", body) from None
    if not isinstance(answer, dict) or (answer.get("kind"), answer.get("apiVersion")) != (kind, api_version):
        raise question.garbage(kind, f"it is no object of kind {kind} in {api_version}", body)
    if answer.get("items") is None:
        answer["items"] = []
    if not _version(answer) or not isinstance(answer["metadata"].get("continue", ""), str):
        raise question.garbage(kind, "its metadata has no resourceVersion, or 'continue' is no string", body)
    if not isinstance(answer["items"], list):
        raise question.garbage(kind, "its items are no list", body)
    return answer


def _document(question: Question, resource: Resource, item: object, namespace: str) -> tuple[_Key, Document]:
    """What an item of a list or the object of an event is, and what it says."""

    def garbage(what: str) -> CniError:
        return question.garbage(resource.kind, what, json.dumps(item).encode())

    if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict):
        raise garbage("it has no metadata")
    # The items of a list may go without them; an event about something else is none of ours.
    for key, expected in (("kind", resource.kind), ("apiVersion", resource.api_version)):
        if item.get(key, expected) != expected:
            raise garbage(f"its {key} is {show(item[key])}")
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    found = metadata.get("namespace"), metadata.get("name")
    if not all(isinstance(one, str) and one for one in found):
        raise garbage("it has no name or no namespace")
    if namespace and found[0] != namespace:
        raise garbage(f"its namespace is {show(found[0])}")
    rest = {key: value for key, value in item.items() if key != "status"}
    named = {**rest, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    return (str(found[0]), str(found[1])), named


def _substance(document: Document) -> Document:
    """What of a document makes a difference: not its version, its labels and annotations."""
    metadata = document["metadata"]
    return {**document, "metadata": [metadata.get(key) for key in ("namespace", "name", "uid")]}


def _version(thing: Mapping[str, Any]) -> str:
    """The resourceVersion of a list or object; "" if it has none."""
    metadata = thing.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else ""


def _path(resource: Resource, namespace: str) -> str:
    below = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{resource.api_version}{below}/{resource.plural}"


def _refusals(resource: Resource, access: Access) -> dict[int, tuple[str, str]]:
    return {
        403: (
            f"it does not let the plugin list and watch {resource.plural}",
            f"give the user of {access.origin} the verbs 'get', 'list' and 'watch' on {resource.plural!r} in API group "
            f"{resource.group!r} by a ClusterRole and a ClusterRoleBinding, as conf/rbac-policy.yaml has them",
        ),
        404: ("it does not know them", f"install the CRD, or correct {access.named_by} if it is installed"),
        410: ("the version to go on from expired", "the list is read anew by itself"),
    }


def _confirm_api(server: Server, deadline: Deadline) -> None:
    """An error unless this is an API server: others do not know our paths either, and have no say in policies."""
    wrong = f"correct {server.access.named_by}; every API server has it"
    question = Question(server, "the list of API groups", "/apis", {404: ("it is no API server", wrong)})
    try:
        body = question.ask(deadline, MAX_PAGE_BYTES)
    except Refused as error:
        if error.status == 403:  # an API server with few rights for this user
            return
        raise
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.get("kind") != "APIGroupList":
        raise question.garbage("the list", "it is no object of kind APIGroupList", body)
