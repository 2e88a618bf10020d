"""Egress policies from the Kubernetes API: those of one namespace, or all of them. policy_watch.py follows changes.

Documents go out as the server has them, checked for being of the kind and having a name and namespace, and for
nothing else; only `status` and `metadata.managedFields` are left out, which say nothing of the policy and can be
many times its size. A kind that the server does not know (its CRD is not installed) has no documents; any other
answer but a good one is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

from ..model.complaints import show
from ..model.policy import ENP_KIND, FIREWALL_KIND
from ..protocol.errors import INVALID_CONFIGURATION, CniError
from .https import Deadline, Question, Refused, Server, TooLarge
from .kubeconfig import Access, from_file, from_service_account, in_cluster
from .kubernetes import check_namespace

Document = dict[str, Any]
Key = tuple[str, str]  # namespace and name

# A pod's start waits for fetch(), an admin or a script for fetch_all().
FETCH_SECONDS, FETCH_ALL_SECONDS = 5.0, 30.0
# etcd refuses objects over 1.5 MiB, which JSON may make some times larger; a page too large is asked for in parts.
MAX_PAGE_BYTES = 8 * 1024 * 1024
MAX_LIST_BYTES = 64 * 1024 * 1024
PAGE_OBJECTS = 250
LIST_TRIES = 3  # of a list that expires while it is read

ABSENT, GONE = 404, 410


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


def _fetch(kubeconfig: str | None, namespace: str, seconds: float) -> list[Document]:
    server, deadline = Server(access_of(kubeconfig)), Deadline(seconds)
    found: list[Document] = []
    absent = 0
    for resource in RESOURCES:
        try:
            documents, _ = listed(server, resource, namespace, deadline)
        except Refused as error:
            if error.status != ABSENT:
                raise
            absent += 1
        else:
            found += [documents[key] for key in sorted(documents)]
    if absent == len(RESOURCES):
        confirm_api(server, deadline)
    return found


def access_of(kubeconfig: str | None) -> Access:
    if kubeconfig is not None:
        return from_file(kubeconfig)
    if not in_cluster(os.environ):
        raise CniError(
            INVALID_CONFIGURATION,
            "policy.kubernetes: no API server is known: set 'kubeconfig'; only in a pod with a service account is it "
            "not needed",
        )
    return from_service_account(os.environ)


def listed(
    server: Server, resource: Resource, namespace: str, deadline: Deadline
) -> tuple[dict[Key, Document], str]:
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
) -> tuple[dict[Key, Document], str]:
    answers = refusals(resource, server.access)
    whose = f"namespace {namespace}" if namespace else "all namespaces"
    documents: dict[Key, Document] = {}
    version, token, limit, size = "", "", PAGE_OBJECTS, 0
    while True:
        more = f"&continue={quote(token, safe='')}" if token else ""
        path = f"{path_of(resource, namespace)}?limit={limit}{more}"
        question = Question(server, f"the {resource.plural} of {whose}", path, answers)
        try:
            body = question.ask(deadline, MAX_PAGE_BYTES)
        except TooLarge:
            if limit == 1:
                raise
            limit = max(1, limit // 8)
            continue
        except Refused as error:
            if token and error.status == GONE:
                raise _Expired(error.status, error.msg, error.details) from None
            raise
        size += len(body)
        if size > MAX_LIST_BYTES:
            raise question.error(
                f"they are larger than {MAX_LIST_BYTES >> 20} MiB in all", "no cluster needs that much policy"
            )
        answer = _answer(question, body, f"{resource.kind}List", resource.api_version)
        for item in answer["items"]:
            key, document = document_of(question, resource, item, namespace)
            documents[key] = document
        version, token = version or version_of(answer), answer["metadata"].get("continue") or ""
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
    if not version_of(answer) or _opaque(answer["metadata"].get("continue", "")) is None:
        raise question.garbage(kind, "its metadata has no resourceVersion, or 'continue' is no string", body)
    if not isinstance(answer["items"], list):
        raise question.garbage(kind, "its items are no list", body)
    return answer


def document_of(question: Question, resource: Resource, item: object, namespace: str) -> tuple[Key, Document]:
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


def version_of(thing: Mapping[str, Any]) -> str:
    """The resourceVersion of a list or object; "" if it has none."""
    metadata = thing.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return _opaque(version) or ""


def _opaque(word: object) -> str | None:
    """What the server is told again as it said it; None if it cannot stand in a path."""
    return word if isinstance(word, str) and word.isascii() else None


def path_of(resource: Resource, namespace: str) -> str:
    below = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{resource.api_version}{below}/{resource.plural}"


def refusals(resource: Resource, access: Access) -> dict[int, tuple[str, str]]:
    return {
        403: (
            f"it does not let the plugin list and watch {resource.plural}",
            f"give the user of {access.origin} the verbs 'get', 'list' and 'watch' on {resource.plural!r} in API group "
            f"{resource.group!r} by a ClusterRole and a ClusterRoleBinding, as conf/rbac-policy.yaml has them",
        ),
        404: ("it does not know them", f"install the CRD, or correct {access.named_by} if it is installed"),
        410: ("the version to go on from expired", "the list is read anew by itself"),
    }


def confirm_api(server: Server, deadline: Deadline) -> None:
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
