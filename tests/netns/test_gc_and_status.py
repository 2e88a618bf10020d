"""GC takes away what belongs to nobody; STATUS says whether an ADD could work now."""

from __future__ import annotations

import os

import pytest
from lab import ASSIGN, Lan, Node, Request, source, unchanged

NOT_AVAILABLE = 50
OFF = {"conflictDetection": "off"}


def test_gc_frees_what_a_vanished_pod_held_and_spares_the_living(node: Node) -> None:
    living, dead = node.pod(), node.pod()
    node.add(living, source("192.168.12.99/24"), conf=OFF).ok()
    node.add(dead, source("192.168.12.98/24,fd00:12::98/64", "192.168.12.1,fd00:12::1"), conf=OFF).ok()
    dead.remove()
    with unchanged(living):
        node.gc(living).ok()
    assert not os.path.exists(node.record(dead))
    assert not node.holds("192.168.12.98")
    assert not node.holds("fd00:12::98")
    node.check(living).ok()


def test_gc_takes_the_interface_of_a_forgotten_pod_that_still_exists(node: Node) -> None:
    living, forgotten = node.pod(), node.pod()
    fresh = forgotten.snapshot()
    node.add(living, source("192.168.12.99/24"), conf=OFF).ok()
    node.add(forgotten, source("192.168.12.98/24"), conf=OFF).ok()
    node.gc(living).ok()
    assert forgotten.snapshot() == fresh
    assert not os.path.exists(node.record(forgotten))
    node.check(living).ok()


def test_gc_removes_a_claim_without_a_record(node: Node) -> None:
    pod, other = node.pod(), node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    os.unlink(node.record(pod))
    pod.remove()
    node.gc().ok()
    assert not node.holds("192.168.12.99")
    node.add(other, source("192.168.12.99/24"), conf=OFF).ok()


def test_gc_removes_what_a_power_cut_left_of_a_record(node: Node) -> None:
    pod, other = node.pod(), node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    os.truncate(node.record(pod), 0)
    pod.remove()
    node.gc().ok()
    assert not os.path.exists(node.record(pod))
    assert not node.holds("192.168.12.99")
    node.add(other, source("192.168.12.99/24"), conf=OFF).ok()


def test_gc_with_nothing_to_do_changes_nothing(node: Node) -> None:
    pod = node.pod()
    with unchanged(node):
        node.gc().ok()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    with unchanged(pod, node):
        node.gc(pod).ok()
        node.gc(pod).ok()


def test_gc_of_one_network_spares_the_attachments_of_another(node: Node) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    with unchanged(pod, node):
        node.gc(conf={"name": "othernet"}).ok()


def test_gc_goes_on_past_an_unreadable_record(node: Node) -> None:
    broken, dead = node.pod(), node.pod()
    node.add(broken, source("192.168.12.99/24"), conf=OFF).ok()
    node.add(dead, source("192.168.12.98/24"), conf=OFF).ok()
    with open(node.record(broken), "w") as handle:
        handle.write("{")
    dead.remove()
    node.gc()  # may report the broken one
    assert not os.path.exists(node.record(dead))
    assert not node.holds("192.168.12.98")


def test_gc_keeps_one_of_two_attachments_of_a_container(node: Node) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    request = node.configuration(
        **{"cni.dev/valid-attachments": [{"containerID": pod.container_id, "ifname": "net7"}]}
    )
    node.send("GC", Request({}, request)).ok()
    assert not os.path.exists(node.record(pod))


@pytest.mark.parametrize(
    "valid", ["x", {"a": 1}, [1], [{"containerID": 5, "ifname": "eth0"}], [{"containerID": "c"}]]
)
def test_gc_with_a_bad_list_removes_nothing(node: Node, valid: object) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    with unchanged(pod, node):
        answer = node.send("GC", Request({}, node.configuration(**{"cni.dev/valid-attachments": valid})))
        assert answer.status != 0
        assert answer.json["code"] in (6, 7)
        assert "valid-attachments" in answer.json["msg"]


def test_gc_without_a_list_removes_nothing(node: Node) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    with unchanged(pod, node):
        answer = node.send("GC", Request({}, node.configuration()))
        assert answer.status != 0


# -- STATUS


def test_status_is_good_on_a_plain_node(node: Node) -> None:
    with unchanged(node):
        answer = node.status()
    answer.ok()
    assert answer.stdout == ""


def test_status_says_that_the_master_is_missing(node: Node) -> None:
    node.status({"master": "nosuch0"}).refused(NOT_AVAILABLE, "nosuch0")


def test_status_says_that_the_master_is_down(node: Node) -> None:
    node.ip("link set eth0 down")
    node.status({"master": "eth0"}).refused(NOT_AVAILABLE, "eth0", "down")


def test_status_and_add_agree_about_a_nic_without_carrier(node: Node, lan: Lan) -> None:
    lan.ip(f"link set {lan.port(node)} down")
    assert node.status().status == 0
    node.add(node.pod(), source("192.168.12.99/24"), conf=OFF).ok()


def test_status_says_that_the_state_directory_cannot_be_used(node: Node) -> None:
    with open(f"{node.directory}/file", "w") as handle:
        handle.write("in the way")
    node.status({"stateDir": f"{node.directory}/file"}).refused(NOT_AVAILABLE, f"{node.directory}/file")


def test_status_is_good_again_when_the_cause_is_gone(node: Node) -> None:
    node.ip("link set eth0 down")
    node.status({"master": "eth0"}).refused(NOT_AVAILABLE)
    node.ip("link set eth0 up")
    node.status({"master": "eth0"}).ok()


def test_good_status_keeps_its_word(node: Node) -> None:
    node.status().ok()
    node.add(node.pod(), {ASSIGN: "true"}).ok()


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
def test_gc_and_status_need_version_1_1_0(node: Node, verb: str) -> None:
    conf = node.configuration("1.0.0", **{"cni.dev/valid-attachments": []})
    node.send(verb, Request({}, conf)).refused(1, "1.1.0")
