"""The kind EgressNetworkPolicy for clusters without it: it takes what the plugin takes, as far as a schema can tell."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from cni_macvlan_egress.model.policy_documents import policy

from .kustomize import KUBERNETES, Object, find, render

KIND = find(
    render(KUBERNETES / "base", "policies"),
    "CustomResourceDefinition",
    "egressnetworkpolicies.network.openshift.io",
)
SCHEMA = KIND["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def enp(*rules: Any) -> Object:
    return {
        "apiVersion": "network.openshift.io/v1", "kind": "EgressNetworkPolicy",
        "metadata": {"name": "shop", "namespace": "shop"}, "spec": {"egress": list(rules)},
    }  # fmt: skip


def rule(kind: object = "Deny", **to: object) -> Object:
    return {"type": kind, "to": to}


def accepts(document: Object) -> bool:
    try:
        jsonschema.validate(document, SCHEMA)
    except jsonschema.ValidationError:
        return False
    return True


@pytest.mark.parametrize("file", ["egressnetworkpolicy.yaml", "locked-down.yaml"])
def test_kind_takes_the_shipped_policies(file: str) -> None:
    for document in yaml.safe_load_all((KUBERNETES.parent / "policies" / file).read_text()):
        if document["kind"] == "EgressNetworkPolicy":
            assert accepts(document)


@pytest.mark.parametrize(
    "document",
    [
        enp(), enp(rule(cidrSelector="203.0.113.0/24")), enp(rule("Allow", dnsName="api.bank.example.")),
        enp(rule(cidrSelector="::/0"), rule("Allow", cidrSelector="2001:db8::/32")),
        enp(rule(dnsName="xn--bcher-kva.example")),
    ],
    ids=str,
)  # fmt: skip
def test_kind_takes_what_the_plugin_takes(document: Object) -> None:
    assert not policy(document, "here").broken
    assert accepts(document)


@pytest.mark.parametrize(
    "document",
    [
        enp(rule("deny", cidrSelector="203.0.113.0/24")), enp(rule(None, cidrSelector="203.0.113.0/24")),
        enp(rule(cidrSelector="203.0.113.1")), enp(rule(cidrSelector="203.0.113.0/24 ")), enp(rule()),
        enp(rule(cidrSelector="203.0.113.0/24", dnsName="a.example")), enp(rule(dnsName="*.bank.example")),
        enp(rule(dnsName="-a.example")), enp(rule(dnsName="a..example")), enp({"type": "Deny"}),
        enp({"to": {"cidrSelector": "::/0"}}), enp(*[rule(cidrSelector="::/0")] * 1001), enp("Deny"),
        {**enp(), "spec": {}},
    ],
    ids=lambda document: str(document["spec"])[:60],
)  # fmt: skip
def test_kind_refuses_what_the_plugin_refuses(document: Object) -> None:
    assert policy(document, "here").broken
    assert not accepts(document)
