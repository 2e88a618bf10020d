"""Who may have an address on the LAN."""

from __future__ import annotations

import pytest
from lab import ASSIGN, Lan, Node, source, unchanged

NOT_ALLOWED = 100
SOURCE = source("192.168.12.99/24")


@pytest.mark.parametrize(
    "allow",
    [
        [{"namespaces": ["*"]}],
        [{"namespaces": ["sh*"]}],
        [{"namespaces": ["other"]}, {"namespaces": ["shop"]}],
        [{"namespaces": ["shop"], "sources": ["192.168.12.96/28"]}],
        [{"namespaces": ["shop"], "sources": ["192.168.12.99"], "masters": ["eth0"]}],
    ],
)
def test_pod_that_a_grant_covers_is_served(node: Node, allow: list[dict[str, list[str]]]) -> None:
    pod = node.pod()
    node.add(pod, SOURCE, conf={"allow": allow, "conflictDetection": "off"}).ok()
    assert pod.link("macvlan0")


@pytest.mark.parametrize(
    ("allow", "words"),
    [
        (None, ["allow", "shop"]),
        ([], ["allow", "shop"]),
        ([{"namespaces": ["other"]}], ["shop"]),
        ([{"namespaces": ["sho"]}], ["shop"]),
        ([{"namespaces": ["shop"], "sources": ["192.168.12.0/26"]}], ["192.168.12.99"]),
        ([{"namespaces": ["shop"], "masters": ["eth1"]}], ["eth0"]),
        # one grant has to cover all of it
        (
            [{"namespaces": ["shop"], "masters": ["eth1"]}, {"namespaces": ["other"], "masters": ["eth0"]}],
            ["shop"],
        ),
    ],
)
def test_pod_that_no_grant_covers_is_refused(node: Node, allow: list | None, words: list[str]) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod, SOURCE, conf={"allow": allow}).refused(NOT_ALLOWED, *words)


def test_grant_has_to_cover_both_families(node: Node) -> None:
    pod = node.pod()
    asked = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1")
    with unchanged(pod, node):
        conf = {"allow": [{"namespaces": ["*"], "sources": ["192.168.12.0/24"]}]}
        node.add(pod, asked, conf=conf).refused(NOT_ALLOWED, "fd00:12::99")


def test_bare_interface_needs_a_grant_too(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod, {ASSIGN: "true"}, conf={"allow": None}).refused(NOT_ALLOWED, "allow")


def test_annotation_may_not_name_a_nic_outside_the_grant(node: Node, lan: Lan) -> None:
    lan.plug(node, "eth1")
    pod = node.pod()
    with unchanged(pod, node):
        conf = {"allow": [{"namespaces": ["shop"], "masters": ["eth0"]}]}
        node.add(pod, {ASSIGN: "eth1"}, conf=conf).refused(NOT_ALLOWED, "eth1")


def test_refusal_does_not_ask_the_lan(node: Node, lan: Lan) -> None:
    with lan.capture() as wire:
        node.add(node.pod(), SOURCE, conf={"allow": []}).refused(NOT_ALLOWED)
        assert not wire.frames(lambda f: f.destination == "192.168.12.99")


def test_attached_pod_can_be_deleted_when_the_grant_is_gone(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod, SOURCE).ok()
        pod.requests["eth0"] = pod.requests["eth0"].but(allow=None)
        node.delete(pod).ok()
