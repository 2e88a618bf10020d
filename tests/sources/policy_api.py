"""The egress policies of the API server of the tests: lists in pages and watches as a real one has them, and faults."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from api_server import TOKEN, ApiServer, Request, head

ENP, FIREWALL = "egressnetworkpolicies", "egressfirewalls"
KINDS = {
    ENP: ("EgressNetworkPolicy", "network.openshift.io/v1"),
    FIREWALL: ("EgressFirewall", "k8s.ovn.org/v1"),
}
ROLE = Path(__file__).parents[2] / "conf/rbac-policy.yaml"
TICK = 0.02

Answer = Callable[[ssl.SSLSocket, "Asked"], None]


@dataclass(frozen=True)
class Asked:
    """A request, taken apart.

    Attributes:
        verb: list or watch, as RBAC calls them.
        group, plural: what for.
        namespace: "" for all.
        query: its parameters.
        token: the bearer's.
    """

    verb: str
    group: str
    plural: str
    namespace: str = ""
    query: dict[str, str] = field(default_factory=dict)
    token: str = ""


class PolicyApi:
    """Answers for an ApiServer, who holds the connections.

    Attributes:
        tokens: of those who are let in.
        installed: the plurals that are known.
        role: rules of a ClusterRole; everything else is forbidden.
        page: objects a page at most, whatever the limit.
        asked: what was asked so far.
    """

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        api.answer = self.answer
        self.tokens = {TOKEN}
        self.installed = {ENP, FIREWALL}
        documents = yaml.safe_load_all(ROLE.read_text())
        self.role: list[dict[str, Any]] = next(one for one in documents if one["kind"] == "ClusterRole")[
            "rules"
        ]
        self.page = 1000
        self.asked: list[Asked] = []
        self._instead: dict[tuple[str, str], deque[Answer]] = {}
        self._changed = threading.Condition()
        self._version = 1000
        self._objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._events: list[tuple[int, str, str, dict[str, Any]]] = []  # version, plural, type, object
        self._oldest = 0  # versions before this are compacted away
        self._round = 0  # watches of an earlier round end
        self._lists: dict[str, tuple[list[dict[str, Any]], int]] = {}  # by continue token

    # What there is

    @property
    def version(self) -> str:
        return str(self._version)

    def put(self, plural: str, namespace: str, name: str, *cidrs: str, **more: Any) -> None:
        """Make an object that denies some networks, or change it."""
        kind, api_version = KINDS[plural]
        rules = [{"type": "Deny", "to": {"cidrSelector": cidr}} for cidr in cidrs]
        key = (plural, namespace, name)
        with self._changed:
            self._version += 1
            known = key in self._objects
            metadata = {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-of-{namespace}-{name}",
                "resourceVersion": str(self._version),
                "managedFields": [{"manager": "kubectl"}],
            }
            self._objects[key] = {
                "apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": {"egress": rules}, **more,
            }  # fmt: skip
            self._note(plural, "MODIFIED" if known else "ADDED", self._objects[key])

    def delete(self, plural: str, namespace: str, name: str) -> None:
        with self._changed:
            self._version += 1
            gone = self._objects.pop((plural, namespace, name))
            last = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self._version)}}
            self._note(plural, "DELETED", last)

    def bookmark(self, plural: str) -> None:
        """Let time pass: the version grows by what happens elsewhere in the cluster."""
        kind, api_version = KINDS[plural]
        with self._changed:
            self._version += 100
            metadata = {"resourceVersion": str(self._version)}
            self._note(plural, "BOOKMARK", {"kind": kind, "apiVersion": api_version, "metadata": metadata})

    def say(self, plural: str, kind: str, thing: Any) -> None:
        """Send any event to all who watch now."""
        with self._changed:
            self._note(plural, kind, thing)

    def compact(self) -> None:
        """Forget what was, as etcd does every five minutes: older versions and continue tokens expire."""
        with self._changed:
            self._version += 1
            self._oldest = self._version
            self._events.clear()
            self._lists.clear()

    def end_watches(self) -> None:
        """As a server does that shuts down."""
        with self._changed:
            self._round += 1
            self._changed.notify_all()

    def forget(self, plural: str) -> None:
        """Lose a kind without a word about its objects."""
        self.installed.discard(plural)
        with self._changed:
            self._objects = {key: one for key, one in self._objects.items() if key[0] != plural}
        self.end_watches()

    def _note(self, plural: str, kind: str, thing: Any) -> None:
        self._events.append((self._version, plural, kind, thing))
        self._changed.notify_all()

    # Faults

    def instead(self, verb: str, plural: str, *answers: Answer) -> None:
        """Answers to the next questions of a verb, before the true ones."""
        self._instead.setdefault((verb, plural), deque()).extend(answers)

    def status(self, status: int, message: str = "so") -> Answer:
        return lambda connection, _: self.api.send_status(connection, status, message)

    def raw(self, *pieces: bytes, reset_after: threading.Event | None = None) -> Answer:
        """A watch of these bytes, each a chunk, and then silence, or a reset when it is time."""

        def answer(connection: ssl.SSLSocket, _: Asked) -> None:
            connection.sendall(head(200, "Transfer-Encoding: chunked"))
            for piece in pieces:
                connection.sendall(chunk(piece))
            if reset_after is None:
                self.api.hold(connection)
            elif reset_after.wait(10):
                reset(connection)

        return answer

    def questions(self, verb: str, plural: str) -> list[Asked]:
        return [one for one in self.asked if (one.verb, one.plural) == (verb, plural)]

    # Answers

    def answer(self, connection: ssl.SSLSocket, request: Request) -> None:
        """As a real one: credentials, rights, then what is asked for."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        asked = _taken_apart(request.path, token)
        self.asked.append(asked)
        instead = self._instead.get((asked.verb, asked.plural))
        if instead:
            instead.popleft()(connection, asked)
        elif token not in self.tokens:
            self.api.send_status(connection, 401, "Unauthorized")
        elif not asked.plural:
            self.api.send(connection, 200, json.dumps({"kind": "APIGroupList", "groups": []}).encode())
        elif not self._allowed(asked):
            message = f'{asked.plural}.{asked.group} is forbidden: User "u" cannot {asked.verb} resource'
            self.api.send_status(connection, 403, message)
        elif asked.plural not in self.installed:
            self.api.send(connection, 404, b"404 page not found\n")
        elif asked.verb == "watch":
            self.watch(connection, asked)
        else:
            self.list(connection, asked)

    def list(self, connection: ssl.SSLSocket, asked: Asked) -> None:
        kind, api_version = KINDS[asked.plural]
        with self._changed:
            token = asked.query.get("continue", "")
            if token and token not in self._lists:
                self.api.send_status(connection, 410, "The provided continue parameter is too old")
                return
            items, version = self._lists[token] if token else (self._of(asked), self._version)
            limit = min(int(asked.query.get("limit", "0")) or self.page, self.page)
            metadata: dict[str, Any] = {"resourceVersion": str(version)}
            if len(items) > limit:
                metadata["continue"] = f"token/{version}+{len(items) - limit}="
                self._lists[metadata["continue"]] = (items[limit:], version)
        body = {
            "kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata, "items": items[:limit],
        }  # fmt: skip
        self.api.send(connection, 200, json.dumps(body).encode())

    def watch(self, connection: ssl.SSLSocket, asked: Asked) -> None:
        end = time.monotonic() + int(asked.query["timeoutSeconds"])
        with self._changed:
            sent, ours = len(self._events), self._round
            since = int(asked.query["resourceVersion"])
            ready = [(kind, one) for version, plural, kind, one in self._events
                     if plural == asked.plural and version > since and kind != "BOOKMARK"]  # fmt: skip
        connection.sendall(head(200, "Transfer-Encoding: chunked", "Content-Type: application/json"))
        if since < self._oldest:
            ready = [("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})]
            end = 0.0
        while True:
            for kind, thing in ready:
                connection.sendall(chunk(event(kind, thing)))
            with self._changed:
                if time.monotonic() >= end or self._round != ours or self.api.closed.is_set():
                    break
                if len(self._events) < sent:  # compacted: nothing more is owed but what is new
                    sent = 0
                if len(self._events) == sent:
                    self._changed.wait(TICK)
                ready = [
                    (kind, one) for _, plural, kind, one in self._events[sent:] if plural == asked.plural
                ]
                sent = len(self._events)
        connection.sendall(b"0\r\n\r\n")

    def _of(self, asked: Asked) -> list[dict[str, Any]]:
        return [
            one
            for (plural, namespace, _), one in sorted(self._objects.items())
            if plural == asked.plural and asked.namespace in ("", namespace)
        ]

    def _allowed(self, asked: Asked) -> bool:
        return any(
            asked.verb in rule["verbs"]
            and asked.plural in rule["resources"]
            and asked.group in rule["apiGroups"]
            for rule in self.role
        )


def event(kind: str, thing: Any) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def reset(connection: ssl.SSLSocket) -> None:
    """End a connection by RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _taken_apart(path: str, token: str) -> Asked:
    parts = urlsplit(path)
    query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    verb = "watch" if query.get("watch") == "1" else "list"
    names = parts.path.removeprefix("/apis").strip("/").split("/")
    if len(names) < 3:
        return Asked(verb, "", "", token=token)
    namespace = names[3] if len(names) == 5 and names[2] == "namespaces" else ""
    return Asked(verb, names[0], names[-1], namespace, query, token)
