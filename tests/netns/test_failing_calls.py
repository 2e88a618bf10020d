"""A system call that fails in the middle of an ADD: an error that says so, and nothing left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab import Node, Pod, Request, source, unchanged
from lab.faults import Point, changes, fail_at
from lab.network import PODS4, PODS6
from lab.snapshot import differences

from .leases import leased

ASKED = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1", routes="default")
IO_FAILURE, KERNEL_REFUSED = 5, 105
Make = Callable[[Node, Pod], Request]


def request(node: Node, pod: Pod) -> Request:
    return node.request(pod, ASKED, conf={"conflictTimeoutMs": 20, "clusterNetworks": [PODS4, PODS6]})


def points_of(node: Node, *calls: str, make: Make = request) -> list[Point]:
    pod = node.pod()
    node.send("ADD", make(node, pod)).ok()  # the directories are there from now on
    node.send("DEL", make(node, pod)).ok()
    return changes(node, make(node, pod), *calls)


def fails_cleanly(node: Node, point: Point, error: str, code: int, make: Make = request) -> None:
    pod = node.pod()
    asked = make(node, pod)
    before = pod.snapshot(), node.snapshot()
    answer, failures = fail_at(node, asked, point, error)
    answer.check()
    assert answer.status, f"success although {point} failed: {answer.stdout}"
    assert answer.json["code"] == code, (str(point), answer)
    if failures > 1:  # the same call of the undoing failed as well: DEL, which the runtime sends, has to do
        node.send("DEL", asked).ok()
    found = differences(before[0], pod.snapshot()) + differences(before[1], node.snapshot())
    assert not found, f"left after {point} failed: {found}"
    node.send("ADD", asked).ok()
    node.send("DEL", asked).ok()


@pytest.mark.parametrize(
    ("call", "error"),
    [("rename", "EROFS"), ("symlink", "ENOSPC"), ("fchmod", "EPERM")],
)
def test_file_that_cannot_be_changed(node: Node, call: str, error: str) -> None:
    points = points_of(node, call)
    assert points
    for point in points:
        fails_cleanly(node, point, error, IO_FAILURE)


def test_record_of_a_lease_that_cannot_be_forced_onto_the_disk(node: Node) -> None:
    points = points_of(node, "fsync", make=leased)
    assert points
    for point in points:
        fails_cleanly(node, point, "EIO", IO_FAILURE, leased)


def test_directory_that_cannot_be_made(node: Node) -> None:
    def on_a_fresh_node() -> tuple[Pod, Request]:
        pod = node.pod()
        directory = f"{node.directory}/{pod.name}"
        return pod, request(node, pod).but(stateDir=f"{directory}/state", runDir=f"{directory}/run")

    points = changes(node, on_a_fresh_node()[1], "mkdir")
    assert {"state", "run", "attachments", "addresses"} <= {point.what for point in points}
    for point in points:
        pod, asked = on_a_fresh_node()
        with unchanged(pod, node):
            fail_at(node, asked, point, "ENOSPC")[0].check().refused(IO_FAILURE)


@pytest.mark.parametrize("error", ["ENOSPC", "EMFILE"])
def test_file_that_cannot_be_made(node: Node, error: str) -> None:
    for point in points_of(node, "openat"):
        if "plugin.log" not in point.what:
            fails_cleanly(node, point, error, IO_FAILURE)


def test_record_and_sysctls_that_cannot_be_written(node: Node) -> None:
    points = points_of(node, "write")
    records = [point for point in points if "json" in point.what]
    sysctls = [point for point in points if "json" not in point.what]
    assert records
    assert sysctls
    for point in records:
        fails_cleanly(node, point, "ENOSPC", IO_FAILURE)
    for point in sysctls[4::5]:  # the first few have the same number as the write of the answer
        fails_cleanly(node, point, "EPERM", KERNEL_REFUSED)


@pytest.mark.parametrize("error", ["ENOBUFS", "ENOMEM"])
def test_netlink_request_that_cannot_be_sent(node: Node, error: str) -> None:
    points = [point for point in points_of(node, "sendto", "sendmsg") if "netlink" in point.what]
    mine = points[::3] if error == "ENOBUFS" else points[1::3]
    assert mine
    for point in mine:
        fails_cleanly(node, point, error, KERNEL_REFUSED)


def test_log_that_cannot_be_written_stops_nothing(node: Node) -> None:
    (point,) = [point for point in points_of(node, "openat") if "plugin.log" in point.what]
    pod = node.pod()
    answer, _ = fail_at(node, request(node, pod), point, "ENOSPC")
    answer.ok()
    node.send("DEL", request(node, pod)).ok()


def test_answer_that_cannot_be_written_ends_without_a_traceback(node: Node) -> None:
    pod = node.pod()
    asked = request(node, pod)
    for verb in ("ADD", "CHECK", "VERSION"):
        environment = {
            "CNI_COMMAND": verb,
            **asked.environment,
            "CNI_IFNAME": "eth0" if verb == "ADD" else "a/b",
        }
        wrapper = ("sh", "-c", 'exec "$0" "$@" > /dev/full')
        answer = node.execute(environment, asked.stdin, wrapper=wrapper, check=False)
        assert "Traceback" not in answer.stderr
        assert answer.status != 0
    node.send("DEL", asked).ok()
