"""Which pods the API server refuses: the policy's own expressions, against what the plugin takes for a request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni_macvlan_egress.model.keys import ASSIGN, PREFIX, asks_to_attach

from .admission import AdmissionPolicy, Request
from .kustomize import KUBERNETES, Object, find, render

POLICY = AdmissionPolicy(find(render(KUBERNETES / "base"), "ValidatingAdmissionPolicy"))
SOURCE = f"{PREFIX}source"
EGRESS = {ASSIGN: "true", SOURCE: "192.168.12.99/24", f"{PREFIX}gateway": "192.168.12.1"}
OTHERS = {"k8s.v1.cni.cncf.io/network-status": "[]", "macvlan-egress": "x", "x.macvlan-egress/source": "x"}
NOT_GRANTED, ON_A_NODE = "ask an administrator", "delete the pod"


GRANTED = {"metadata": {"name": "egress", "labels": {"macvlan-egress/allow": "true"}}}
PLAIN = {"metadata": {"name": "shop"}}


def pod(annotations: dict[str, str] | None, node: str = "", **metadata: Any) -> Object:
    own = {} if annotations is None else {"annotations": annotations}
    return {"metadata": {"name": "pod", **own, **metadata}, "spec": {"nodeName": node} if node else {}}


def create(annotations: dict[str, str] | None, where: Object) -> list[str]:
    return POLICY.refusals(Request("CREATE", "pods", pod(annotations), namespace=where))


def update(
    before: dict[str, str] | None,
    after: dict[str, str] | None,
    where: Object,
    node: str,
    resource: str = "pods",
) -> list[str]:
    return POLICY.refusals(Request("UPDATE", resource, pod(after, node), pod(before, node), where))


@pytest.mark.parametrize("annotations", [None, {}, OTHERS, {ASSIGN: "false"}, {ASSIGN: ""}], ids=str)
def test_pods_that_ask_for_nothing_are_let_through_everywhere(annotations: dict[str, str] | None) -> None:
    for where in (PLAIN, GRANTED):
        assert create(annotations, where) == []
        assert update(annotations, annotations, where, "node1") == []


@pytest.mark.parametrize(
    "annotations",
    [
        EGRESS, {ASSIGN: "true"}, {ASSIGN: "eth1"}, {ASSIGN: " true "}, {ASSIGN: "False"}, {SOURCE: ""},
        {ASSIGN: "false", SOURCE: "192.168.12.99"}, {f"{PREFIX}mode": "passthru"}, {f"{PREFIX}anything": "x"},
        {**OTHERS, f"{PREFIX}destination": "80 tcp 203.0.113.25"},
    ],
    ids=str,
)  # fmt: skip
def test_asking_needs_the_label_of_the_namespace(annotations: dict[str, str]) -> None:
    assert create(annotations, GRANTED) == []
    (refusal,) = create(annotations, PLAIN)
    assert NOT_GRANTED in refusal


@pytest.mark.parametrize(
    "labels",
    [
        {}, {"macvlan-egress/allow": ""}, {"macvlan-egress/allow": "false"}, {"macvlan-egress/allow": "True"},
        {"macvlan-egress/allow": "true "}, {"macvlan-egress": "true"}, {"x.macvlan-egress/allow": "true"},
        {"macvlan-egress/allowed": "true"},
    ],
    ids=str,
)  # fmt: skip
def test_nothing_but_the_label_grants(labels: dict[str, str]) -> None:
    assert create(EGRESS, {"metadata": {"name": "shop", "labels": labels}})
    assert create(EGRESS, {"metadata": {"name": "shop", "annotations": GRANTED["metadata"]["labels"]}})


@pytest.mark.parametrize("resource", ["pods", "pods/status"])
def test_annotations_cannot_be_brought_in_later(resource: str) -> None:
    (on_node, early) = (
        update({}, EGRESS, PLAIN, "node1", resource),
        update({}, EGRESS, PLAIN, "", resource),
    )
    assert [NOT_GRANTED in one for one in on_node] == [True, False]
    assert [NOT_GRANTED in one for one in early] == [True]


@pytest.mark.parametrize("resource", ["pods/binding", "bindings"])
def test_annotations_cannot_be_brought_in_by_a_binding(resource: str) -> None:
    def bind(annotations: dict[str, str] | None, where: Object) -> list[str]:
        own = {} if annotations is None else {"annotations": annotations}
        binding = {"metadata": {"name": "pod", **own}, "target": {"kind": "Node", "name": "node1"}}
        return POLICY.refusals(Request("CREATE", resource, binding, namespace=where))

    assert bind(None, PLAIN) == bind(None, GRANTED) == []
    assert [NOT_GRANTED in one for one in bind(EGRESS, PLAIN)] == [True]


@pytest.mark.parametrize(
    "after",
    [{**EGRESS, SOURCE: "192.168.12.98/24"}, {**EGRESS, f"{PREFIX}mtu": "1400"}, {ASSIGN: "true"}, {}, None],
    ids=str,
)
@pytest.mark.parametrize("resource", ["pods", "pods/status"])
def test_annotations_of_a_pod_on_a_node_do_not_change(after: dict[str, str] | None, resource: str) -> None:
    (refusal,) = update(EGRESS, after, GRANTED, "node1", resource)
    assert ON_A_NODE in refusal
    assert update(EGRESS, after, GRANTED, "", resource) == []


@pytest.mark.parametrize("resource", ["pods", "pods/status"])
def test_other_changes_of_a_pod_are_let_through_where_nothing_is_granted(resource: str) -> None:
    """Else a pod from before the policy could never lose its finalizers."""
    before = pod(EGRESS, "node1", finalizers=["example.com/wait"])
    after = pod({**EGRESS, **OTHERS}, "node1", labels={"app": "x"}, deletionTimestamp="2026-01-01T00:00:00Z")
    assert POLICY.refusals(Request("UPDATE", resource, after, before, PLAIN)) == []


def test_deletion_and_other_objects_are_not_looked_at() -> None:
    assert not POLICY.concerns(Request("DELETE", "pods", pod(EGRESS)))
    assert not POLICY.concerns(Request("CREATE", "deployments", pod(EGRESS)))


KEYS = st.one_of(
    st.sampled_from([ASSIGN, SOURCE, "macvlan-egress", "Macvlan-Egress/source", f"{ASSIGN}s", PREFIX]),
    st.text("acdegilmnrstvuw-/. ", max_size=20).map(PREFIX.__add__),
    st.text(max_size=30),
)
VALUES = st.one_of(
    st.sampled_from(["true", "false", "", " ", "eth0", "FALSE", "false\n"]), st.text(max_size=10)
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_policy_is_never_laxer_than_the_plugin(annotations: dict[str, str]) -> None:
    if asks_to_attach(annotations):
        assert create(annotations, PLAIN)
        assert update({}, annotations, PLAIN, "node1")
    assert create(annotations, GRANTED) == []


def test_binding_denies() -> None:
    binding = find(render(KUBERNETES / "base"), "ValidatingAdmissionPolicyBinding")
    assert binding["spec"] == {"policyName": "macvlan-egress", "validationActions": ["Deny"]}
