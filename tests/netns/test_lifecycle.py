"""ADD once, DEL as often as anybody likes, one holder for an address."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab import Node, Pod, source, unchanged

ADDRESS_HELD, ADDRESS_CONFLICT, ALREADY_ATTACHED, TRY_AGAIN_LATER = 103, 104, 108, 11
DUAL = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1")
SOURCE = source("192.168.12.99/24")
OFF = {"conflictDetection": "off"}


def test_second_add_of_a_finished_attachment_is_an_error_and_changes_nothing(node: Node) -> None:
    pod = node.pod()
    node.add(pod, DUAL, conf=OFF).ok()
    with unchanged(pod, node):
        node.add(pod, DUAL, conf=OFF).refused(ALREADY_ATTACHED, "macvlan0")
    node.check(pod).ok()


def test_add_after_delete_works_in_the_same_pod(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        for _ in range(2):
            node.add(pod, DUAL, conf=OFF).ok()
            node.delete(pod).ok()


def test_same_attachment_twice_at_the_same_moment_is_made_once(node: Node) -> None:
    pod = node.pod()
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: node.add(pod, SOURCE), range(3)))
    losers = [answer for answer in answers if answer.status]
    assert len(losers) == 2, answers
    assert {answer.json["code"] for answer in losers} <= {ALREADY_ATTACHED, TRY_AGAIN_LATER}
    node.check(pod).ok()


def test_second_pod_of_the_node_does_not_get_the_address(node: Node) -> None:
    first, second = node.pod(), node.pod()
    node.add(first, DUAL, conf=OFF).ok()
    with unchanged(first, second, node):
        for asked in (
            SOURCE,
            source("fd00:12::99/64", "fd00:12::1"),
            source("192.168.12.99/32", mode="private"),
        ):
            text = node.add(second, asked, conf=OFF).refused(ADDRESS_HELD)
            assert first.name in text or first.container_id in text
    node.check(first).ok()


def test_second_pod_gets_the_address_when_the_first_is_deleted(node: Node) -> None:
    first, second = node.pod(), node.pod()
    node.add(first, DUAL, conf=OFF).ok()
    node.delete(first).ok()
    node.add(second, DUAL, conf=OFF).ok()


def test_second_pod_gets_the_address_when_the_first_vanished_without_delete(node: Node) -> None:
    first, second = node.pod(), node.pod()
    node.add(first, DUAL, conf=OFF).ok()
    first.remove()  # as a reboot does
    node.add(second, DUAL, conf=OFF).ok()
    node.delete(first).ok()  # late, and none of the second pod's business
    node.check(second).ok()
    assert node.holds("192.168.12.99")


@pytest.mark.parametrize("address", ["192.168.12.10/24", "fd00:12::10/64"])
def test_address_of_the_node_itself_is_refused(node: Node, address: str) -> None:
    pod = node.pod()
    gateway = "fd00:12::1" if ":" in address else "192.168.12.1"
    with unchanged(pod, node):
        node.add(pod, source(address, gateway), conf=OFF).refused(
            ADDRESS_HELD, address.split("/", maxsplit=1)[0]
        )


def test_one_address_wanted_by_many_pods_at_once_goes_to_one(node: Node) -> None:
    pods = [node.pod() for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda pod: node.add(pod, SOURCE), pods))
    winners = [pod for pod, answer in zip(pods, answers, strict=True) if answer.status == 0]
    assert len(winners) == 1, answers
    for answer in answers:
        if answer.status:
            assert answer.json["code"] in (ADDRESS_HELD, ADDRESS_CONFLICT), answer
    node.check(winners[0]).ok()


def test_many_pods_at_once_get_what_they_asked_for(node: Node) -> None:
    pods = [node.pod() for _ in range(6)]
    addresses = [f"192.168.12.{90 + number}/24" for number in range(len(pods))]
    with unchanged(node), ThreadPoolExecutor() as pool:
        for answer in pool.map(lambda pod, address: node.add(pod, source(address)), pods, addresses):
            answer.ok()
        for answer in pool.map(node.check, pods):
            answer.ok()
        for answer in pool.map(node.delete, pods):
            answer.ok()


# -- DEL


def _netns_gone(_: Node, pod: Pod) -> None:
    pod.remove()


def _interface_gone(_: Node, pod: Pod) -> None:
    if pod.exists:
        pod.ip("link delete macvlan0")


def _state_gone(node: Node, pod: Pod) -> None:
    os.unlink(node.record(pod))


def _already_deleted(node: Node, pod: Pod) -> None:
    node.delete(pod).ok()


HAPPENINGS: tuple[Callable[[Node, Pod], None], ...] = (_netns_gone, _interface_gone, _state_gone)
ORDERS = [order for size in (1, 2, 3) for order in itertools.permutations(HAPPENINGS, size)] + [
    (_already_deleted,)
]


@pytest.mark.parametrize(
    "happenings", ORDERS, ids=lambda order: "-then".join(step.__name__ for step in order)
)
def test_delete_reaches_its_goal_whatever_went_before(node: Node, happenings) -> None:
    pod = node.pod()
    fresh = pod.snapshot()
    # What a pod's namespace takes with it is the main plugin's to compare.
    state_before = node.snapshot()["state"]
    node.add(pod, DUAL, conf=OFF).ok()
    for happen in happenings:
        happen(node, pod)
    node.delete(pod).ok()
    node.delete(pod).ok()
    assert node.snapshot()["state"] == state_before
    if pod.exists:
        assert pod.link("macvlan0") is None
        assert pod.snapshot() == fresh
    node.add(node.pod(), DUAL, conf=OFF).ok()


def test_delete_of_what_never_was_succeeds(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        node.delete(pod).ok()
        pod.requests["eth0"] = node.request(pod, DUAL)
        node.delete(pod).ok()


@pytest.mark.parametrize("netns", [None, "", "/run/netns/cme-gone", "/etc/hostname"])
def test_delete_without_a_usable_netns_succeeds(node: Node, netns: str | None) -> None:
    pod = node.pod()
    node.add(pod, SOURCE, conf=OFF).ok()
    pod.remove()
    pod.requests["eth0"] = pod.requests["eth0"].but({"CNI_NETNS": netns})
    node.delete(pod).ok()
    assert not os.path.exists(node.record(pod))
    assert not node.holds("192.168.12.99")


@pytest.mark.parametrize(
    "changed",
    [
        {"ifName": "other0"},
        {"master": "nosuch0"},
        {"mode": "private", "mtu": 1300},
        {"prevResult": None},
        {"runtimeConfig": None},
        {"capabilities": None, "runtimeConfig": None, "prevResult": None, "allow": None},
        {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"macvlan-egress/source": "192.168.12.7"}}},
        {"cniVersion": "0.3.1", "prevResult": None},
    ],
    ids=",".join,
)
def test_delete_goes_by_the_record_and_not_by_todays_configuration(node: Node, changed: dict) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod, DUAL, conf=OFF).ok()
        pod.requests["eth0"] = pod.requests["eth0"].but(**changed)
        node.delete(pod).ok()


def test_interface_of_somebody_else_survives_delete(node: Node) -> None:
    pod = node.pod()
    node.add(pod, SOURCE, conf=OFF).ok()
    pod.ip(
        "link delete macvlan0",
        "link add macvlan0 type veth peer name other",
        "address add 192.0.2.7/24 dev macvlan0",
    )
    node.delete(pod).ok()
    assert set(pod.addresses("macvlan0")) == {"192.0.2.7/24"}
    assert not os.path.exists(node.record(pod))


# -- state files


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}', '"x"', "\x00\x00", '{"schema": 1}'])
def test_unreadable_record_hinders_neither_its_pod_nor_others(node: Node, content: str) -> None:
    pod, other = node.pod(), node.pod()
    node.add(pod, SOURCE, conf=OFF).ok()
    with open(node.record(pod), "w") as handle:
        handle.write(content)
    node.add(other, source("192.168.12.98/24"), conf=OFF).ok()
    node.check(other).ok()
    node.delete(pod).ok()
    assert pod.link("macvlan0") is None
    assert not os.path.exists(node.record(pod))
    node.delete(other).ok()


def test_record_says_who_what_and_where(node: Node) -> None:
    pod = node.pod()
    node.add(pod, DUAL, conf=OFF).ok()
    with open(node.record(pod)) as handle:
        record = handle.read()
    json.loads(record)
    for word in (pod.container_id, pod.path, "macvlan0", "192.168.12.99", "fd00:12::99", pod.mac("macvlan0")):
        assert word in record, word
    assert os.stat(node.record(pod)).st_mode & 0o077 == 0
    assert node.holds("192.168.12.99")
    assert node.holds("fd00:12::99")


def test_temporary_files_of_a_killed_call_are_no_obstacle(node: Node) -> None:
    pod = node.pod()
    node.add(pod, SOURCE, conf=OFF).ok()
    for directory in ("attachments", "addresses"):
        with open(f"{node.state_dir}/{directory}/.half-written.tmp", "w") as handle:
            handle.write("{")
    other = node.pod()
    node.add(other, source("192.168.12.98/24"), conf=OFF).ok()
    node.check(pod).ok()
    node.delete(pod).ok()
    node.gc(other).ok()
    node.check(other).ok()
