"""Egress policies from the Kubernetes API: asked for once, and watched, over real TLS to a server on loopback."""

from __future__ import annotations

import json
import queue
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import TOKEN, ApiServer, head
from authority import Authority
from kubeconfigs import Kubeconfig
from policy_api import ENP, FIREWALL, KINDS, ROLE, Asked, PolicyApi, chunk, event

from cni_macvlan_egress.protocol.errors import CniError
from cni_macvlan_egress.sources import policy_kubernetes, policy_watch
from cni_macvlan_egress.sources.policy_kubernetes import fetch, fetch_all
from cni_macvlan_egress.sources.policy_watch import Pace, Snapshot, State, Watch

INVALID_ENVIRONMENT, IO_FAILURE, INVALID_CONFIGURATION, TRY_AGAIN_LATER = 4, 5, 7, 11
# Retries at once, and watches that last as long as a test.
QUICK = Pace(
    watch=30, grace=5, answer=5, listing=10, steady=0.0, retry=0.01, most=0.02, absent=0.02, forget=0.0
)
PATIENCE_SECONDS = 15


@pytest.fixture
def policies(api: ApiServer) -> PolicyApi:
    return PolicyApi(api)


class Receiver:
    """Takes what a watch tells."""

    def __init__(self) -> None:
        self.seen: list[Snapshot] = []
        self._queue: queue.Queue[Snapshot] = queue.Queue()

    def __call__(self, snapshot: Snapshot) -> None:
        self.seen.append(snapshot)
        self._queue.put(snapshot)

    def until(self, wanted: Callable[[Snapshot], object]) -> Snapshot:
        """The next snapshot that is wanted."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                snapshot = self._queue.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"never came; seen were {[names(one) for one in self.seen]}")
            if wanted(snapshot):
                return snapshot


class Watching:
    """A running watch and what came of it."""

    def __init__(self, kubeconfig: Kubeconfig) -> None:
        self._kubeconfig = kubeconfig
        self._watch: Watch | None = None
        self.receiver = Receiver()

    def start(self, pace: Pace = QUICK, changed: Callable[[Snapshot], object] | None = None) -> Watch:
        self._watch = Watch(self._kubeconfig.write(), changed or self.receiver, pace)
        self._watch.start()
        return self._watch

    def complete(self) -> Snapshot:
        return self.receiver.until(lambda one: one.complete)

    def names(self, *wanted: str) -> Snapshot:
        """Wait for just these documents."""
        return self.receiver.until(lambda one: one.complete and names(one) == list(wanted))

    def state(self, plural: str, wanted: Callable[[State], object]) -> State:
        """Wait for a state of one kind."""
        assert self._watch is not None
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            (state,) = (one for one in self._watch.states() if one.kind == KINDS[plural][0])
            if wanted(state):
                return state
            assert time.monotonic() < end, state
            time.sleep(0.005)

    def connected(self, *plurals: str) -> None:
        for plural in plurals or (ENP, FIREWALL):
            self.state(plural, lambda one: one.connected)

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.stop()


@pytest.fixture
def watching(kubeconfig: Kubeconfig, policies: PolicyApi) -> Iterator[Watching]:
    running = Watching(kubeconfig)
    yield running
    running.stop()
    assert [one.name for one in threading.enumerate() if one.name.startswith("watch-")] == []


def names(found: Snapshot | list[dict[str, Any]]) -> list[str]:
    documents = found.documents if isinstance(found, Snapshot) else found
    return [f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in documents]


def networks(document: dict[str, Any]) -> list[str]:
    return [rule["to"]["cidrSelector"] for rule in document["spec"]["egress"]]


def refused(kubeconfig: Kubeconfig, *words: str, code: int = TRY_AGAIN_LATER, namespace: str = "shop") -> str:
    with pytest.raises(CniError) as caught:
        fetch(namespace, kubeconfig.write())
    text = str(caught.value)
    assert caught.value.code == code, text
    assert "\n" not in text
    assert TOKEN not in text
    for word in words:
        assert word in text, f"{word!r} is missing in: {text}"
    return text


# One namespace


def test_documents_of_a_namespace_in_both_kinds(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    policies.put(FIREWALL, "shop", "default", "10.0.0.0/8")
    policies.put(ENP, "shop", "b", "192.0.2.0/24")
    policies.put(ENP, "shop", "a", "198.51.100.0/24")
    policies.put(ENP, "other", "c", "203.0.113.0/24")
    found = fetch("shop", kubeconfig.write())
    assert names(found) == ["shop/a", "shop/b", "shop/default"]
    assert [(one["kind"], one["apiVersion"]) for one in found] == [KINDS[ENP], KINDS[ENP], KINDS[FIREWALL]]
    assert [networks(one) for one in found] == [["198.51.100.0/24"], ["192.0.2.0/24"], ["10.0.0.0/8"]]
    assert {one.namespace for one in policies.asked} == {"shop"}


def test_namespace_without_policy_has_no_documents(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    policies.put(ENP, "other", "c", "203.0.113.0/24")
    assert fetch("shop", kubeconfig.write()) == []


def test_kind_and_version_are_filled_in(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    policies.put(FIREWALL, "shop", "default", kind=KINDS[FIREWALL][0])
    policies.put(ENP, "shop", "a")
    for one in policies._objects.values():  # the items of a list of built-in kinds go without
        del one["kind"], one["apiVersion"]
    found = fetch("shop", kubeconfig.write())
    assert [(one["kind"], one["apiVersion"]) for one in found] == [KINDS[ENP], KINDS[FIREWALL]]


def test_what_others_write_into_a_document_is_left_out(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    policies.put(FIREWALL, "shop", "default", status={"messages": ["node1: applied"] * 500}, odd=1)
    (found,) = fetch("shop", kubeconfig.write())
    assert set(found) == {"apiVersion", "kind", "metadata", "spec", "odd"}
    assert set(found["metadata"]) == {"name", "namespace", "uid", "resourceVersion"}


@pytest.mark.parametrize("absent", [ENP, FIREWALL])
def test_kind_that_is_not_installed_has_no_documents(
    kubeconfig: Kubeconfig, policies: PolicyApi, absent: str
) -> None:
    policies.put(FIREWALL, "shop", "default")
    policies.put(ENP, "shop", "a")
    policies.installed.discard(absent)
    (found,) = fetch("shop", kubeconfig.write())
    assert found["kind"] != KINDS[absent][0]
    assert len(policies.asked) == 2


def test_api_server_that_knows_neither_kind_has_no_documents(
    kubeconfig: Kubeconfig, policies: PolicyApi
) -> None:
    policies.installed.clear()
    assert fetch("shop", kubeconfig.write()) == []
    assert fetch_all(kubeconfig.write()) == []


def test_server_that_knows_nothing_at_all_is_no_api_server(
    kubeconfig: Kubeconfig, policies: PolicyApi
) -> None:
    """Such as a wrong path in the kubeconfig: that must not pass for "no policies"."""
    policies.installed.clear()
    policies.instead("list", "", policies.status(404))
    refused(kubeconfig, "no API server", kubeconfig.write())
    policies.instead(
        "list", "", lambda connection, _: policies.api.send(connection, 200, b"<html>Hello</html>")
    )
    refused(kubeconfig, "APIGroupList", "Hello")


def test_api_server_that_hides_its_groups_is_believed(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    policies.installed.clear()
    policies.instead("list", "", policies.status(403))
    assert fetch("shop", kubeconfig.write()) == []


def test_shipped_role_is_what_is_needed_and_no_more(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    account, role, binding = yaml.safe_load_all(ROLE.read_text())
    subject = {"kind": "ServiceAccount", **{key: account["metadata"][key] for key in ("name", "namespace")}}
    assert binding["subjects"] == [subject]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    policy = {
        (one.group, one.plural, verb)
        for one in policy_kubernetes.RESOURCES
        for verb in ("get", "list", "watch")
    }
    assert allowed == policy | {("", "pods", "get")}
    assert all(set(rule) == {"apiGroups", "resources", "verbs"} for rule in role["rules"])


@pytest.mark.parametrize("missing", [ENP, FIREWALL])
def test_missing_right_is_named(kubeconfig: Kubeconfig, policies: PolicyApi, missing: str) -> None:
    policies.role = [rule for rule in policies.role if missing not in rule["resources"]]
    group = KINDS[missing][1].partition("/")[0]
    refused(
        kubeconfig,
        "403",
        missing,
        group,
        "'list'",
        "'watch'",
        "ClusterRoleBinding",
        "rbac-policy.yaml",
        "cannot list",
    )


@pytest.mark.parametrize(
    ("status", "words"), [(401, ["401", "expired"]), (429, ["429"]), (500, ["500"]), (410, ["410"])]
)
@pytest.mark.parametrize("plural", [ENP, FIREWALL])
def test_refusal_never_passes_for_no_policy(
    kubeconfig: Kubeconfig, policies: PolicyApi, plural: str, status: int, words: list[str]
) -> None:
    policies.instead("list", plural, policies.status(status, "reason"))
    refused(kubeconfig, plural, "namespace shop", str(kubeconfig.cluster["server"]), "reason", *words)


@pytest.mark.parametrize("namespace", ["", "..", "shop/x?", "Shop", "a" * 64, "x\r\nHost: y", "a.b"])
def test_namespace_that_is_none_is_refused_without_a_question(
    kubeconfig: Kubeconfig, policies: PolicyApi, namespace: str
) -> None:
    refused(kubeconfig, "K8S_POD_NAMESPACE", code=INVALID_ENVIRONMENT, namespace=namespace)
    assert policies.api.connections == 0


def test_no_server_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    for ask in (lambda: fetch("shop", None), lambda: fetch_all(None)):
        with pytest.raises(CniError, match="kubeconfig") as caught:
            ask()
        assert caught.value.code == INVALID_CONFIGURATION


GOOD: dict[str, Any] = {
    "kind": "EgressNetworkPolicyList",
    "apiVersion": "network.openshift.io/v1",
    "metadata": {"resourceVersion": "1"},
    "items": [{"metadata": {"name": "a", "namespace": "shop"}, "spec": {}}],
}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "JSON"),
        (b"[" * 200_000, "JSON"),
        (b"[]", "EgressNetworkPolicyList"),
        (b'{"kind": "Status", "message": "all is well"}', "all is well"),
        ({"kind": "EgressFirewallList"}, "EgressNetworkPolicyList"),
        ({"apiVersion": "network.openshift.io/v2"}, "network.openshift.io/v1"),
        ({"metadata": {}}, "resourceVersion"),
        ({"metadata": None}, "resourceVersion"),
        ({"metadata": {"resourceVersion": "1", "continue": 5}}, "continue"),
        ({"items": {}}, "items"),
        ({"items": ["a"]}, "metadata"),
        ({"items": [{"metadata": {"namespace": "shop"}}]}, "name"),
        ({"items": [{"metadata": {"name": "a", "namespace": "other"}}]}, "other"),
        ({"items": [{"kind": "Secret", "metadata": {"name": "a", "namespace": "shop"}}]}, "Secret"),
    ],
)
def test_answer_that_is_no_list_of_the_kind_is_refused(
    kubeconfig: Kubeconfig, policies: PolicyApi, body: Any, word: str
) -> None:
    data = body if isinstance(body, bytes) else json.dumps({**GOOD, **body}).encode()
    policies.instead("list", ENP, lambda connection, _: policies.api.send(connection, 200, data))
    refused(kubeconfig, word)


def test_empty_list_may_have_no_items(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    data = json.dumps({**GOOD, "items": None}).encode()
    policies.instead("list", ENP, lambda connection, _: policies.api.send(connection, 200, data))
    assert fetch("shop", kubeconfig.write()) == []


def test_time_for_both_kinds_is_one(
    kubeconfig: Kubeconfig, policies: PolicyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_kubernetes, "FETCH_SECONDS", 0.4)

    def late(connection: ssl.SSLSocket, asked: Asked) -> None:
        policies.api.closed.wait(0.3)
        policies.list(connection, asked)

    for plural in (ENP, FIREWALL):
        policies.instead("list", plural, late)
    refused(kubeconfig, "no answer within 0.4 s")


def test_answer_that_drips_is_given_up(
    kubeconfig: Kubeconfig, policies: PolicyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_kubernetes, "FETCH_SECONDS", 0.4)
    body = json.dumps(GOOD).encode()
    policies.instead(
        "list",
        ENP,
        lambda connection, _: policies.api.drip(connection, head(200, f"Content-Length: {len(body)}") + body),
    )
    refused(kubeconfig, "no answer within 0.4 s", ENP)


def test_watching_costs_an_add_no_module(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    policies.put(ENP, "shop", "a")
    path = [*filter(None, sys.path), str(Path(policy_kubernetes.__file__).parents[2])]
    program = (
        f"import sys; sys.path = {path!r}\nfrom cni_macvlan_egress.sources.policy_kubernetes import fetch\n"
        f"before = set(sys.modules)\nassert fetch('shop', {kubeconfig.write()!r})\nprint(*before, '|', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True, env={}
    )
    before, after = (set(part.split()) for part in done.stdout.split("|"))
    assert not before & {"ssl", "socket", "http.client", "threading", "yaml", "email", "random", "pydantic"}
    assert "ssl" in after
    assert not after & {"threading", "yaml", "pydantic", "asyncio", "logging", "subprocess"}


# All namespaces


def test_all_namespaces_page_by_page(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    policies.page = 7
    for number in range(30):
        policies.put(ENP, f"n{number:02}", "a", f"10.{number}.0.0/16")
    policies.put(FIREWALL, "n00", "default")
    found = fetch_all(kubeconfig.write())
    assert names(found) == [*(f"n{number:02}/a" for number in range(30)), "n00/default"]
    asked = policies.questions("list", ENP)
    assert len(asked) == 5
    assert all(int(one.query["limit"]) > 0 and one.namespace == "" for one in asked)
    assert "continue" not in asked[0].query


def test_list_that_expires_while_it_is_read_is_read_anew(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    policies.page = 2
    for name in "abcdef":
        policies.put(ENP, "shop", name)

    def meanwhile(connection: ssl.SSLSocket, asked: Asked) -> None:
        policies.list(connection, asked)
        policies.delete(ENP, "shop", "a")
        policies.compact()

    policies.instead("list", ENP, meanwhile)
    assert names(fetch_all(kubeconfig.write())) == [f"shop/{name}" for name in "bcdef"]
    assert ["continue" in one.query for one in policies.questions("list", ENP)] == [
        False,
        True,
        False,
        True,
        True,
    ]


def test_list_that_always_expires_is_given_up(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    policies.page = 1
    for name in "ab":
        policies.put(ENP, "shop", name)

    def meanwhile(connection: ssl.SSLSocket, asked: Asked) -> None:
        policies.list(connection, asked)
        policies.compact()

    policies.instead("list", ENP, *(one for _ in range(policy_kubernetes.LIST_TRIES)
                                    for one in (meanwhile, policies.list)))  # fmt: skip
    with pytest.raises(CniError, match="410"):
        fetch_all(kubeconfig.write())


def test_page_too_large_is_asked_for_in_parts(
    kubeconfig: Kubeconfig, policies: PolicyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_kubernetes, "MAX_PAGE_BYTES", 100_000)
    for number in range(40):
        policies.put(ENP, "shop", f"a{number:02}", padding="x" * 10_000)
    assert len(fetch_all(kubeconfig.write())) == 40
    limits = [int(one.query["limit"]) for one in policies.questions("list", ENP)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] > limits[-1] > 0


def test_object_too_large_is_an_error(
    kubeconfig: Kubeconfig, policies: PolicyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_kubernetes, "MAX_PAGE_BYTES", 1 << 20)
    policies.put(ENP, "shop", "a", padding="x" * 1_100_000)
    refused(kubeconfig, "larger than 1 MiB")


def test_all_too_large_together_is_an_error(
    kubeconfig: Kubeconfig, policies: PolicyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_kubernetes, "MAX_LIST_BYTES", 1 << 20)
    policies.page = 1
    for name in "ab":
        policies.put(ENP, "shop", name, padding="x" * 600_000)
    with pytest.raises(CniError, match="larger than 1 MiB in all"):
        fetch_all(kubeconfig.write())


def test_server_that_continues_for_ever_is_given_up(
    kubeconfig: Kubeconfig, policies: PolicyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_kubernetes, "FETCH_SECONDS", 0.4)
    body = {**GOOD, "items": [], "metadata": {"resourceVersion": "1", "continue": "x"}}
    policies.api.answer = lambda connection, _: policies.api.send(connection, 200, json.dumps(body).encode())
    refused(kubeconfig, "no answer within 0.4 s")


# Watching


def test_watch_starts_with_what_there_is(watching: Watching, policies: PolicyApi) -> None:
    policies.page = 2
    for name in "abc":
        policies.put(ENP, "shop", name, "10.0.0.0/8")
    policies.put(FIREWALL, "mall", "default")
    watch = watching.start()
    snapshot = watching.complete()
    assert names(snapshot) == ["shop/a", "shop/b", "shop/c", "mall/default"]
    assert (snapshot.documents[0]["kind"], snapshot.documents[0]["apiVersion"]) == KINDS[ENP]
    assert watch.snapshot() == snapshot
    watching.connected()
    for plural, documents in ((ENP, 3), (FIREWALL, 1)):
        state = watching.state(plural, lambda one: one.connected)
        assert (state.installed, state.documents, state.error, state.failures) == (True, documents, "", 0)
        assert state.resource_version == policies.version
        assert state.change_at > 0
        (question,) = policies.questions("watch", plural)
        assert question.query["resourceVersion"] == policies.version
        assert question.query["allowWatchBookmarks"] == "true"
        assert 30 <= int(question.query["timeoutSeconds"]) <= 36
        assert question.namespace == ""


def test_nothing_is_complete_before_every_kind_is_listed(watching: Watching, policies: PolicyApi) -> None:
    release = threading.Event()

    def late(connection: ssl.SSLSocket, asked: Asked) -> None:
        release.wait(PATIENCE_SECONDS)
        policies.list(connection, asked)

    policies.put(ENP, "shop", "a")
    policies.put(FIREWALL, "shop", "default")
    policies.instead("list", FIREWALL, late)
    watch = watching.start()
    first = watching.receiver.until(lambda one: True)
    assert (names(first), first.complete) == (["shop/a"], False)
    assert not watch.snapshot().complete
    release.set()
    watching.names("shop/a", "shop/default")


def test_changes_come_as_they_happen(watching: Watching, policies: PolicyApi) -> None:
    watching.start()
    watching.complete()
    watching.connected()
    policies.put(ENP, "shop", "a", "10.0.0.0/8")
    assert networks(watching.names("shop/a").documents[0]) == ["10.0.0.0/8"]
    policies.put(ENP, "shop", "a", "192.0.2.0/24")
    assert networks(watching.names("shop/a").documents[0]) == ["192.0.2.0/24"]
    policies.put(FIREWALL, "mall", "default")
    watching.names("shop/a", "mall/default")
    policies.delete(ENP, "shop", "a")
    watching.names("mall/default")
    for plural in (ENP, FIREWALL):
        assert len(policies.questions("list", plural)) == len(policies.questions("watch", plural)) == 1
    numbers = [one.number for one in watching.receiver.seen]
    assert numbers == sorted(set(numbers))


def test_snapshot_is_not_changed_by_what_comes_after(watching: Watching, policies: PolicyApi) -> None:
    policies.put(ENP, "shop", "a", "10.0.0.0/8")
    watching.start()
    watching.connected()
    before = watching.complete()
    policies.put(ENP, "shop", "a", "192.0.2.0/24")
    watching.names("shop/a")
    assert networks(before.documents[0]) == ["10.0.0.0/8"]


def test_change_of_the_status_alone_is_none(watching: Watching, policies: PolicyApi) -> None:
    """OVN writes one for each node."""
    policies.put(FIREWALL, "shop", "default", "10.0.0.0/8")
    watching.start()
    before = watching.complete()
    watching.connected()
    policies.put(FIREWALL, "shop", "default", "10.0.0.0/8", status={"messages": ["node1: applied"]})
    version = policies.version
    watching.state(FIREWALL, lambda one: one.resource_version == version)
    policies.put(FIREWALL, "shop", "default", "192.0.2.0/24", status={"messages": ["node1: applied"]})
    after = watching.receiver.until(lambda one: networks(one.documents[0]) == ["192.0.2.0/24"])
    assert after.number == before.number + 1


def test_watch_goes_on_from_the_last_bookmark(watching: Watching, policies: PolicyApi) -> None:
    watching.start()
    watching.connected()
    policies.bookmark(ENP)
    version = policies.version
    watching.state(ENP, lambda one: one.resource_version == version)
    policies.compact()
    policies._oldest = int(version)  # the one from the list is gone, that of the bookmark is not
    policies.end_watches()
    policies.put(ENP, "shop", "a")
    watching.names("shop/a")
    assert policies.questions("watch", ENP)[1].query["resourceVersion"] == version
    assert len(policies.questions("list", ENP)) == 1


def test_what_happens_between_two_watches_is_not_missed(watching: Watching, policies: PolicyApi) -> None:
    policies.put(ENP, "shop", "a")
    policies.put(ENP, "shop", "b")
    watching.start()
    watching.names("shop/a", "shop/b")
    watching.connected()
    with policies._changed:
        policies.end_watches()
        policies.delete(ENP, "shop", "a")
        policies.put(ENP, "shop", "c")
    watching.names("shop/b", "shop/c")
    assert len(policies.questions("list", ENP)) == 1


def test_server_ends_a_watch_in_time(watching: Watching, policies: PolicyApi) -> None:
    watching.start(QUICK._replace(watch=1))
    watching.connected()
    watching.receiver.until(lambda one: len(policies.questions("watch", ENP)) >= 1)
    end = time.monotonic() + PATIENCE_SECONDS
    while len(policies.questions("watch", ENP)) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(policies.questions("watch", ENP)) >= 3
    state = watching.state(ENP, lambda one: one.connected)
    assert (state.error, state.failures) == ("", 0)
    assert len(policies.questions("list", ENP)) == 1


# 410 Gone


def test_version_that_expired_leads_to_a_new_list(watching: Watching, policies: PolicyApi) -> None:
    """As an event: what the watch cache of a server says."""
    policies.put(ENP, "shop", "a")
    policies.put(ENP, "shop", "b")
    watching.start()
    watching.names("shop/a", "shop/b")
    watching.connected()
    with policies._changed:
        policies.end_watches()
        policies.delete(ENP, "shop", "a")
        policies.put(ENP, "shop", "c")
        policies.compact()
    watching.names("shop/b", "shop/c")
    assert len(policies.questions("list", ENP)) == 2
    assert "expired" in watching.state(ENP, lambda one: one.connected and one.error).error


def test_status_410_leads_to_a_new_list(watching: Watching, policies: PolicyApi) -> None:
    policies.put(ENP, "shop", "a")
    policies.instead("watch", ENP, policies.status(410, "too old resource version"))
    watching.start()
    error = watching.state(ENP, lambda one: one.connected and one.error).error
    assert "410" in error
    assert "too old resource version" in error
    assert len(policies.questions("list", ENP)) == 2
    assert [names(one) for one in watching.receiver.seen if one.complete] == [["shop/a"]]


def test_nothing_vanishes_while_a_list_is_read_anew(watching: Watching, policies: PolicyApi) -> None:
    release, asked_again = threading.Event(), threading.Event()
    policies.page = 1
    policies.put(ENP, "shop", "a")
    policies.put(ENP, "shop", "b")
    watch = watching.start()
    watching.names("shop/a", "shop/b")
    watching.connected()

    def late(connection: ssl.SSLSocket, asked: Asked) -> None:
        asked_again.set()
        release.wait(PATIENCE_SECONDS)
        policies.list(connection, asked)

    policies.instead("list", ENP, policies.status(500), policies.list, late)
    policies.instead("watch", ENP, policies.status(410))
    policies.end_watches()
    assert asked_again.wait(PATIENCE_SECONDS)
    assert names(watch.snapshot()) == ["shop/a", "shop/b"]  # half of the new list is in
    release.set()
    watching.connected()
    policies.put(ENP, "shop", "c")
    watching.names("shop/a", "shop/b", "shop/c")
    assert all(names(one) for one in watching.receiver.seen if one.complete)
    assert [names(one) for one in watching.receiver.seen if one.complete].count(["shop/a", "shop/b"]) == 1


def test_continue_token_that_expires_while_watching(watching: Watching, policies: PolicyApi) -> None:
    policies.page = 1
    policies.put(ENP, "shop", "a")
    policies.put(ENP, "shop", "b")

    def meanwhile(connection: ssl.SSLSocket, asked: Asked) -> None:
        policies.list(connection, asked)
        policies.compact()

    policies.instead("list", ENP, meanwhile)
    watching.start()
    watching.names("shop/a", "shop/b")


# Faults of the stream


def thing(name: str, version: str, plural: str = ENP) -> dict[str, Any]:
    kind, api_version = KINDS[plural]
    metadata = {"namespace": "shop", "name": name, "resourceVersion": version}
    return {"kind": kind, "apiVersion": api_version, "metadata": metadata, "spec": {"egress": []}}


def test_reset_in_the_middle_of_a_line(watching: Watching, policies: PolicyApi) -> None:
    """What came whole counts, the rest comes again."""
    policies.bookmark(FIREWALL)
    seen = str(policies._version + 5)
    whole, half = event("ADDED", thing("a", seen)), event("ADDED", thing("b", "2000"))[:40]
    taken = threading.Event()
    policies.instead("watch", ENP, policies.raw(whole, half, reset_after=taken))
    watching.start()
    watching.names("shop/a")
    taken.set()
    watching.state(ENP, lambda one: one.connected and one.error)
    assert policies.questions("watch", ENP)[1].query["resourceVersion"] == seen
    assert len(policies.questions("list", ENP)) == 1


def test_cut_between_two_lines(watching: Watching, policies: PolicyApi) -> None:
    def answer(connection: ssl.SSLSocket, _: Asked) -> None:
        connection.sendall(
            head(200, "Transfer-Encoding: chunked") + chunk(event("ADDED", thing("a", "5000")))
        )

    policies.instead("watch", ENP, answer)
    watching.start()
    watching.names("shop/a")
    assert "was cut off" in watching.state(ENP, lambda one: one.error).error


def test_end_in_the_middle_of_a_line(watching: Watching, policies: PolicyApi) -> None:
    def answer(connection: ssl.SSLSocket, _: Asked) -> None:
        half = event("ADDED", thing("b", "2000"))[:40]
        connection.sendall(head(200, "Transfer-Encoding: chunked") + chunk(half) + b"0\r\n\r\n")

    policies.instead("watch", ENP, answer)
    watching.start()
    assert "middle of a line" in watching.state(ENP, lambda one: one.error).error
    watching.connected()


def test_long_lines_in_many_chunks(watching: Watching, policies: PolicyApi) -> None:
    long = {**thing("a", "5000"), "padding": "ü" * 500_000}
    data = event("ADDED", long) + event("MODIFIED", thing("b", "5001"))

    def answer(connection: ssl.SSLSocket, _: Asked) -> None:
        connection.sendall(head(200, "Transfer-Encoding: chunked"))
        for position in range(0, len(data), 7777):
            connection.sendall(chunk(data[position : position + 7777]))
        policies.api.hold(connection)

    policies.instead("watch", ENP, answer)
    watching.start()
    snapshot = watching.names("shop/a", "shop/b")
    assert snapshot.documents[0]["padding"] == long["padding"]


def test_slow_drip_is_understood(watching: Watching, policies: PolicyApi) -> None:
    data = b"".join(chunk(b"%c" % byte) for byte in event("ADDED", {**thing("a", "5000"), "spec": {}}))

    def answer(connection: ssl.SSLSocket, _: Asked) -> None:
        connection.sendall(head(200, "Transfer-Encoding: chunked"))
        for position in range(0, len(data), 100):
            connection.sendall(data[position : position + 100])
            policies.api.closed.wait(0.01)
        policies.api.hold(connection)

    policies.instead("watch", ENP, answer)
    watching.start()
    watching.names("shop/a")


def test_line_without_end_is_given_up(
    watching: Watching, policies: PolicyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_watch, "MAX_EVENT_BYTES", 1 << 20)
    sent = 0

    def answer(connection: ssl.SSLSocket, _: Asked) -> None:
        nonlocal sent
        connection.sendall(head(200, "Transfer-Encoding: chunked"))
        while True:
            connection.sendall(chunk(b" " * 65536))
            sent += 65536

    policies.put(ENP, "shop", "a")
    policies.instead("watch", ENP, answer)
    watching.start()
    error = watching.state(ENP, lambda one: one.connected and one.error).error
    assert "larger than 1 MiB" in error
    assert sent < 16 << 20
    assert len(policies.questions("list", ENP)) == 2
    watching.names("shop/a")


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON\n",
        b"[" * 100_000 + b"\n",
        b"[]\n",
        b'{"type": "ADDED"}\n',
        event("ADDED", {"metadata": {}}),
        event("RENAMED", thing("x", "5000")),
        event("ADDED", thing("x", "5000", FIREWALL)),
        event("BOOKMARK", {"kind": "EgressNetworkPolicy"}),
        event("ERROR", {"kind": "Status", "code": 500, "message": "unable to decode"}),
        event("ERROR", {"kind": "Status", "code": {"a": 1}}),
    ],
    ids=lambda line: repr(line[:40]),
)
def test_event_that_makes_no_sense_leads_to_a_new_list(
    watching: Watching, policies: PolicyApi, line: bytes
) -> None:
    policies.put(ENP, "shop", "b")
    policies.instead("watch", ENP, policies.raw(event("ADDED", thing("a", "5000")) + line))
    watching.start()
    watching.names("shop/a", "shop/b")  # the event before it counts
    watching.names("shop/b")  # what the list says counts more
    watching.connected()
    assert len(policies.questions("list", ENP)) == 2
    assert watching.state(ENP, lambda one: one.error).error


def test_events_before_a_wrong_one_do_not_wait(watching: Watching, policies: PolicyApi) -> None:
    policies.instead("watch", ENP, policies.raw(event("ADDED", thing("a", "5000")) + b"no JSON\n"))
    watching.start(QUICK._replace(retry=600, most=600))
    watching.names("shop/a")


def test_half_dead_connection_is_given_up(watching: Watching, policies: PolicyApi) -> None:
    """The server neither ends the watch when it should, nor says anything."""
    ended = threading.Event()

    def answer(connection: ssl.SSLSocket, _: Asked) -> None:
        connection.sendall(head(200, "Transfer-Encoding: chunked"))
        try:
            policies.api.hold(connection)
        finally:
            ended.set()

    policies.instead("watch", ENP, answer)
    watching.start(QUICK._replace(watch=1, grace=0.1))
    assert ended.wait(PATIENCE_SECONDS)
    assert "no answer within 1.1 s" in watching.state(ENP, lambda one: one.error).error
    policies.put(ENP, "shop", "a")
    watching.names("shop/a")


def test_silent_peer_is_probed(
    watching: Watching, policies: PolicyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: list[tuple[int, ...]] = []
    real = ssl.SSLSocket.setsockopt

    def setsockopt(self: ssl.SSLSocket, *arguments: Any) -> None:
        options.append(arguments)
        real(self, *arguments)

    monkeypatch.setattr(ssl.SSLSocket, "setsockopt", setsockopt, raising=False)
    watching.start()
    watching.connected()
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in options


def test_watch_that_never_begins_is_given_up(watching: Watching, policies: PolicyApi) -> None:
    policies.instead("watch", ENP, lambda connection, _: policies.api.hold(connection))
    watching.start(QUICK._replace(answer=0.3))
    assert "no answer within 0.3 s" in watching.state(ENP, lambda one: one.error).error
    watching.connected()


# Faults of the server


def test_server_that_is_out_of_order_for_a_while(watching: Watching, policies: PolicyApi) -> None:
    policies.put(ENP, "shop", "a")
    policies.instead("list", ENP, *[policies.status(500)] * 3, policies.status(429))
    policies.instead("watch", ENP, policies.status(503))
    watching.start()
    watching.names("shop/a")
    state = watching.state(ENP, lambda one: one.connected)
    assert "503" in state.error
    assert state.error_at > 0
    assert len(policies.questions("list", ENP)) == 5  # a watch that fails once goes on from the same
    policies.put(ENP, "shop", "b")
    watching.names("shop/a", "shop/b")


def test_version_that_the_server_does_not_know_yet(watching: Watching, policies: PolicyApi) -> None:
    """As after a restored backup of etcd."""
    policies.put(ENP, "shop", "a")
    policies.instead("watch", ENP, *[policies.status(504, "Too large resource version")] * 2)
    watching.start()
    watching.names("shop/a")
    watching.connected()
    assert len(policies.questions("list", ENP)) == 2


def test_failures_are_counted_while_they_last(watching: Watching, policies: PolicyApi) -> None:
    policies.put(ENP, "shop", "a")
    watch = watching.start(QUICK._replace(steady=60))
    watching.names("shop/a")
    watching.connected()
    policies.api.answer = lambda connection, _: policies.api.send_status(connection, 500, "etcd is away")
    policies.end_watches()
    state = watching.state(ENP, lambda one: one.failures >= 6)
    assert "etcd is away" in state.error
    assert (state.connected, state.installed, state.documents) == (False, True, 1)
    assert names(watch.snapshot()) == ["shop/a"]


@pytest.mark.parametrize("failures", [1, 2, 3, 5, 50, 10_000])
def test_pauses_grow_up_to_a_bound(kubeconfig: Kubeconfig, failures: int) -> None:
    pace = Pace(retry=1.0, most=30.0)
    follower = Watch(kubeconfig.write(), lambda _: None, pace)._followers[0]
    follower._failures = failures
    full = min(30.0, 2.0 ** (failures - 1)) if failures < 10 else 30.0
    pauses = [follower._pause() for _ in range(200)]
    assert all(full / 2 <= pause <= full for pause in pauses)
    assert len(set(pauses)) > 100


def test_token_that_expired_is_read_anew(
    watching: Watching, kubeconfig: Kubeconfig, policies: PolicyApi
) -> None:
    file = kubeconfig.file("token", TOKEN)
    kubeconfig.user.clear()
    kubeconfig.user["tokenFile"] = str(file)
    policies.put(ENP, "shop", "a")
    watching.start()
    watching.names("shop/a")
    watching.connected()
    policies.tokens = {"renewed"}
    policies.end_watches()
    error = watching.state(ENP, lambda one: not one.connected and one.error).error
    assert "401" in error
    assert "expired" in error
    assert TOKEN not in error
    file.write_text("renewed\n")
    watching.connected()
    policies.put(ENP, "shop", "b")
    watching.names("shop/a", "shop/b")
    assert policies.questions("watch", ENP)[-1].token == "renewed"


def test_kubeconfig_may_come_later(policies: PolicyApi, kubeconfig: Kubeconfig) -> None:
    receiver = Receiver()
    policies.put(ENP, "shop", "a")
    path = Path(kubeconfig.write())
    content = path.read_bytes()
    path.unlink()
    with Watch(str(path), receiver, QUICK) as watch:
        end = time.monotonic() + PATIENCE_SECONDS
        while not all(one.error for one in watch.states()):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert all(str(path) in one.error and one.installed is None for one in watch.states())
        path.write_bytes(content)
        receiver.until(lambda one: one.complete and names(one) == ["shop/a"])


def test_missing_right_is_shown(watching: Watching, policies: PolicyApi) -> None:
    policies.put(FIREWALL, "shop", "default")
    full = policies.role
    policies.role = [rule for rule in full if ENP not in rule["resources"]]
    watching.start()
    error = watching.state(ENP, lambda one: one.error).error
    for word in ("403", ENP, "network.openshift.io", "'watch'", "ClusterRoleBinding", "rbac-policy.yaml"):
        assert word in error
    watching.connected(FIREWALL)  # one kind does not wait for the other
    policies.role = full
    watching.names("shop/default")


def test_right_to_watch_that_is_missing_alone_keeps_the_list(watching: Watching, policies: PolicyApi) -> None:
    policies.put(ENP, "shop", "a")
    policies.role = [{**rule, "verbs": ["list"]} for rule in policies.role]
    watching.start()
    watching.names("shop/a")
    assert "cannot watch" in watching.state(ENP, lambda one: one.failures >= 2).error


# Kinds that come and go


def test_kind_that_is_not_installed_is_asked_for_again(watching: Watching, policies: PolicyApi) -> None:
    policies.put(FIREWALL, "shop", "default")
    policies.put(ENP, "shop", "a")
    policies.installed.discard(ENP)
    watching.start()
    watching.names("shop/default")
    state = watching.state(ENP, lambda one: one.installed is False)
    assert (state.connected, state.error, state.failures, state.documents) == (False, "", 0, 0)
    policies.installed.add(ENP)
    watching.names("shop/a", "shop/default")
    assert watching.state(ENP, lambda one: one.connected).installed


def test_kind_that_is_removed_takes_its_documents_along(watching: Watching, policies: PolicyApi) -> None:
    policies.put(ENP, "shop", "a")
    policies.put(FIREWALL, "shop", "default")
    watching.start()
    watching.names("shop/a", "shop/default")
    watching.connected()
    policies.forget(ENP)
    watching.names("shop/default")
    watching.state(ENP, lambda one: one.installed is False)


def test_documents_outlive_a_server_that_does_not_know_their_kind_yet(
    watching: Watching, policies: PolicyApi
) -> None:
    """As some do while they start."""
    policies.put(ENP, "shop", "a")
    watch = watching.start(QUICK._replace(forget=60))
    watching.names("shop/a")
    watching.connected()
    policies.installed.discard(ENP)
    policies.end_watches()
    error = watching.state(ENP, lambda one: one.failures >= 3 and "any more" in one.error).error
    assert ENP in error
    assert names(watch.snapshot()) == ["shop/a"]
    policies.installed.add(ENP)
    policies.put(ENP, "shop", "b")
    watching.names("shop/a", "shop/b")


def test_time_of_a_server_that_was_away_does_not_count_for_forgetting(
    watching: Watching, policies: PolicyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies.put(ENP, "shop", "a")
    watch = watching.start(QUICK._replace(forget=60))
    watching.names("shop/a")
    watching.connected()
    follower = watch._followers[0]
    unknown = lambda connection, _: policies.api.send(connection, 404, b"404 page not found\n")  # noqa: E731
    noted: list[float | None] = []

    def away(connection: ssl.SSLSocket, _: Asked) -> None:
        noted.append(follower._absent_since)
        policies.api.send_status(connection, 500, "starting")

    policies.instead("watch", ENP, policies.status(410))
    policies.instead("list", ENP, unknown, away, unknown)
    policies.end_watches()
    watching.state(ENP, lambda one: one.connected and len(policies.questions("list", ENP)) == 5)
    assert noted == [None]
    assert names(watch.snapshot()) == ["shop/a"]


def test_server_that_is_none_is_not_believed_that_a_kind_is_absent(
    watching: Watching, policies: PolicyApi
) -> None:
    policies.api.answer = lambda connection, _: policies.api.send(connection, 404, b"not here")
    watch = watching.start()
    state = watching.state(ENP, lambda one: one.error)
    assert "no API server" in state.error
    assert state.installed is None
    assert not watch.snapshot().complete


# Whoever is told, and the end


def test_receiver_that_fails_is_told_again(watching: Watching, policies: PolicyApi) -> None:
    told = 0

    def changed(snapshot: Snapshot) -> None:
        nonlocal told
        told += 1
        if told <= 2:
            raise RuntimeError("nft is away")
        watching.receiver(snapshot)

    policies.put(ENP, "shop", "a")
    watching.start(changed=changed)
    watching.names("shop/a")
    watching.connected()
    policies.put(ENP, "shop", "b")
    watching.names("shop/a", "shop/b")


def test_one_call_at_a_time(watching: Watching, policies: PolicyApi) -> None:
    inside = threading.Lock()

    def changed(snapshot: Snapshot) -> None:
        assert inside.acquire(blocking=False)
        time.sleep(0.01)
        inside.release()
        watching.receiver(snapshot)

    watching.start(changed=changed)
    watching.connected()
    for number in range(20):
        policies.put((ENP, FIREWALL)[number % 2], f"n{number:02}", "x")
    snapshot = watching.receiver.until(lambda one: len(one.documents) == 20)
    numbers = [one.number for one in watching.receiver.seen]
    assert numbers == sorted(set(numbers))
    assert snapshot.complete
    assert all(one.error == "" for one in watching._watch.states())  # type: ignore[union-attr]


def threads() -> int:
    return sum(one.name.startswith("watch-") for one in threading.enumerate())


@pytest.mark.parametrize("where", ["watch", "list", "handshake", "pause", "answer"])
def test_stop_ends_it_wherever_it_is(kubeconfig: Kubeconfig, policies: PolicyApi, where: str) -> None:
    reached = threading.Event()

    def hold(connection: Any, *_: object) -> None:
        reached.set()
        policies.api.hold(connection)

    def wait_for_it() -> None:
        assert reached.wait(PATIENCE_SECONDS)

    pace = Pace(retry=600, most=600)
    if where == "list":
        policies.instead("list", ENP, hold)
    elif where == "answer":
        policies.instead("watch", ENP, hold)
    elif where == "handshake":
        policies.api.greet = hold
    elif where == "pause":
        policies.api.answer = lambda connection, _: policies.api.send_status(connection, 500, "no")
    watch = Watch(kubeconfig.write(), lambda _: None, pace)
    watch.start()
    if where in ("pause", "watch"):
        end = time.monotonic() + PATIENCE_SECONDS
        while not all(one.failures if where == "pause" else one.connected for one in watch.states()):
            assert time.monotonic() < end
            time.sleep(0.01)
    else:
        wait_for_it()
    before = [one.error for one in watch.states()]
    watch.stop(PATIENCE_SECONDS)
    assert threads() == 0
    assert [one.error for one in watch.states()] == before  # the end is no error
    watch.stop()


def test_stop_before_the_start_and_before_any_answer(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    watch = Watch(kubeconfig.write(), lambda _: None)
    watch.stop()
    watch.start()
    watch.stop()
    assert threads() == 0
    assert policies.asked == []


def test_receiver_may_stop_the_watch(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    stopped = threading.Event()

    def changed(_: Snapshot) -> None:
        watch.stop()
        stopped.set()

    watch = Watch(kubeconfig.write(), changed, QUICK)
    watch.start()
    assert stopped.wait(PATIENCE_SECONDS)
    watch.stop(PATIENCE_SECONDS)
    assert threads() == 0


def test_nobody_is_told_after_the_stop(kubeconfig: Kubeconfig, policies: PolicyApi) -> None:
    told: list[Snapshot] = []
    inside, release = threading.Event(), threading.Event()

    def changed(snapshot: Snapshot) -> None:
        told.append(snapshot)
        inside.set()
        release.wait(PATIENCE_SECONDS)

    watch = Watch(kubeconfig.write(), changed, QUICK)
    watch.start()
    assert inside.wait(PATIENCE_SECONDS)
    end = time.monotonic() + PATIENCE_SECONDS
    while watch.snapshot().number < 2:  # the other kind is listed, too, and waits for its turn
        assert time.monotonic() < end
        time.sleep(0.01)
    watch.stop(0.01)
    assert threads() == 2
    release.set()
    watch.stop(PATIENCE_SECONDS)
    assert threads() == 0
    assert len(told) == 1


def test_client_certificate_is_enough(
    watching: Watching, kubeconfig: Kubeconfig, policies: PolicyApi, authority: Authority
) -> None:
    client = authority.client("watcher")
    kubeconfig.user.clear()
    kubeconfig.user.update({"client-certificate": client.certificate, "client-key": client.key})
    policies.tokens = {""}
    policies.put(ENP, "shop", "a")
    watching.start()
    watching.names("shop/a")
    watching.connected()
    assert {one.client for one in policies.api.requests} == {"watcher"}
