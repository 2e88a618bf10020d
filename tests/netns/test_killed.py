"""An ADD that is killed at any point: DEL takes away all it did, the next ADD makes it anew, GC cleans up."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from lab import ASSIGN, Node, Pod, Request, source, unchanged
from lab.faults import Point, changes, kill_at
from lab.network import PODS4, PODS6

from .leases import leased

QUICK = {"conflictTimeoutMs": 20, "clusterNetworks": [PODS4, PODS6]}
ASKED = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1", routes="default")
ALREADY_ATTACHED = 108
FILE_CALLS = ("mkdir", "fchmod", "rename", "symlink")


def with_source(node: Node, pod: Pod) -> Request:
    return node.request(pod, ASKED, conf=QUICK)


def bare(node: Node, pod: Pod) -> Request:
    return node.request(pod, {ASSIGN: "true"}, conf=QUICK)


def points_of(node: Node, make: Callable[[Node, Pod], Request], *calls: str) -> list[Point]:
    pod = node.pod()
    request = make(node, pod)
    node.send("ADD", request).ok()  # the directories are there from now on
    node.send("DEL", request).ok()
    points = changes(node, request, *calls)
    assert points
    return points


def all_recover(node: Node, make: Callable[[Node, Pod], Request], points: list[Point]) -> None:
    """Both ways out of a killed ADD end well; points take turns, since a killed run costs a second."""
    for number, point in enumerate(points):
        pod = node.pod()
        request = make(node, pod)
        with unchanged(pod, node):
            kill_at(node, request, point)
            if number % 2:
                answer = node.send("ADD", request)
                if answer.status:  # the killed one had finished but for its answer
                    assert answer.json["code"] == ALREADY_ATTACHED, (str(point), answer)
                    assert point.what in ("attachments", "plugin.log O_CREAT"), point
                node.send("CHECK", request).ok()
            node.send("DEL", request).ok()


@pytest.mark.parametrize("half", [0, 1])
def test_at_every_netlink_request_and_packet(node: Node, half: int) -> None:
    points = points_of(node, with_source, "sendto", "sendmsg")
    assert len([point for point in points if "netlink" in point.what]) >= 10
    middle = len(points) // 2
    all_recover(node, with_source, points[middle:] if half else points[:middle])


def test_at_every_change_of_a_file(node: Node) -> None:
    points = points_of(node, with_source, *FILE_CALLS)
    assert {"symlink", "rename"} <= {point.call for point in points}
    all_recover(node, with_source, points)


def test_at_writes_to_files_and_sysctls(node: Node) -> None:
    points = points_of(node, with_source, "write")
    assert any("json" in point.what for point in points)
    assert any("disable_ipv6" in point.what for point in points)
    all_recover(node, with_source, points[::3])


def test_at_every_new_file(node: Node) -> None:
    all_recover(node, with_source, points_of(node, with_source, "openat"))


def test_bare_interface_at_every_netlink_request(node: Node) -> None:
    all_recover(node, bare, points_of(node, bare, "sendto", "sendmsg"))


def test_lease_of_a_killed_add_is_given_back(node: Node) -> None:
    directory = f"{node.directory}/leases/lan"
    for point in points_of(node, leased, "sendto", "fsync")[::3]:
        all_recover(node, leased, [point])
        assert [name for name in os.listdir(directory) if name[0].isdigit()] == []


@pytest.mark.parametrize("pod_survives", [True, False])
def test_gc_cleans_up_after_killed_adds(node: Node, pod_survives: bool) -> None:
    points = points_of(node, with_source, "sendto", "rename", "symlink")
    for point in points[::9]:
        pod = node.pod()
        fresh = pod.snapshot()
        before = node.snapshot()["state"]
        kill_at(node, with_source(node, pod), point)
        if not pod_survives:
            pod.remove()
        node.gc().ok()
        assert node.snapshot()["state"] == before, str(point)
        if pod_survives:
            assert pod.snapshot() == fresh, str(point)
        node.send_add(pod := node.pod(), with_source(node, pod)).ok()
        node.delete(pod).ok()


def test_address_is_free_for_a_new_pod_when_the_killed_one_is_gone(node: Node) -> None:
    """What a runtime does: it gives the sandbox up and tries again with a new one."""
    for point in points_of(node, with_source, "sendto", "symlink", "rename")[::6]:
        pod = node.pod()
        kill_at(node, with_source(node, pod), point)
        pod.remove()
        new = node.pod()
        node.send_add(new, with_source(node, new)).ok()
        node.send("DEL", with_source(node, pod)).ok()
        node.check(new).ok()
        node.delete(new).ok()


def test_killed_delete_can_be_repeated(node: Node) -> None:
    pod = node.pod()
    points = changes(node, with_source(node, pod), "sendto", "unlink", verb="DEL")
    assert {"sendto", "unlink"} <= {point.call for point in points}
    for point in points[::3]:
        pod = node.pod()
        request = with_source(node, pod)
        with unchanged(pod, node):
            node.send("ADD", request).ok()
            kill_at(node, request, point, verb="DEL")
            node.send("DEL", request).ok()
