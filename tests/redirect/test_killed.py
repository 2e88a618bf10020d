"""An ADD or DEL that is killed or fails at a step of the redirect: what follows puts everything right."""

from __future__ import annotations

import ctypes
import re
from itertools import cycle, groupby

import pytest
from lab import Answer, Lan, Namespace, Node, Pod, Request, unchanged
from lab.faults import Point, changes, fail_at, kill_at
from lab.network import OUTSIDE4, OUTSIDE6, PODS4, PODS6
from lab.traffic import exchange

from .asking import EGRESS4, EGRESS6, OFF, own, redirect

ADDRESS_CONFLICT, KERNEL_REFUSED, DEPENDENCY_MISSING = 104, 105, 110
QUICK = {"conflictTimeoutMs": 20, "clusterNetworks": [PODS4, PODS6]}
LINES = (f"80 tcp {OUTSIDE4} 8080", f"80 tcp {OUTSIDE6} 8080", f"{OUTSIDE4},203.0.113.26")
SETTINGS = re.compile("forwarding|rp_filter|arp_announce")


def asking(node: Node, pod: Pod) -> Request:
    """Everything that a redirect may touch: it finds a strict reverse path filter, and has default routes."""
    pod.sysctl("net/ipv4/conf/eth0/rp_filter", 1)
    return node.request(pod, redirect(*LINES, routes="default"), conf=QUICK)


def points_of(node: Node, verb: str) -> list[Point]:
    """The nftables transaction, the settings, and some of the routes and rules."""
    pod = node.pod()
    request = asking(node, pod)
    node.send("ADD", request).ok()  # the directories are there from now on
    node.send("DEL", request).ok()
    found = changes(node, request, "sendmsg", "sendto", "write", verb=verb)
    of_nft = [point for point in found if point.call == "sendmsg"]
    settings = [point for point in found if point.call == "write" and SETTINGS.search(point.what)]
    others = [point for point in found if point.call == "sendto"][-20::10]
    assert of_nft
    assert any("forwarding" in point.what for point in settings)
    assert others
    # A write that the kernel has started anew (see killed_at) was found as often.
    distinct = [next(points) for _, points in groupby(settings, key=lambda point: point.what)]
    return [*of_nft, *distinct, *others]


def killed_at(node: Node, request: Request, point: Point, verb: str = "ADD") -> bool:
    """Kill at a point if that can be done.

    The kernel starts a write to a forwarding setting anew while another process holds the routing lock, and strace
    counts it anew, be it when the points are looked for or when one is aimed at.
    """
    try:
        kill_at(node, request, point, verb)
    except AssertionError as error:
        if point.call != "write" or not str(error).startswith(("killed at", "not killed at")):
            raise
        return False
    return True


def add_anew(node: Node, request: Request) -> None:
    node.send("ADD", request).ok()
    node.send("CHECK", request).ok()
    node.send("DEL", request).ok()


def delete(node: Node, request: Request) -> None:
    node.send("DEL", request).ok()


def collect(node: Node, request: Request) -> None:
    node.gc().ok()


def test_killed_add_is_recovered_from(node: Node) -> None:
    """There are three ways out; the points take turns, since a killed run costs a second."""
    points = points_of(node, "ADD")
    killed = 0
    for point, way_out in zip(points, cycle((delete, add_anew, collect)), strict=False):
        pod = node.pod()
        request = asking(node, pod)
        with unchanged(pod, node):
            if killed_at(node, request, point):
                killed += 1
                way_out(node, request)
            else:
                node.send("DEL", request).ok()
    assert killed > len(points) / 2


def test_redirect_serves_after_a_killed_add(node: Node, outside: Namespace, pod: Pod, client: Pod) -> None:
    request = asking(node, pod)
    (point,) = changes(node, request, "sendmsg")
    kill_at(node, request, point)
    node.send("ADD", request).ok()
    for version, egress in ((4, EGRESS4), (6, EGRESS6)):
        assert exchange("tcp", client, (own(pod, version), 80), outside, 8080).source == egress


def test_killed_delete_can_be_repeated(node: Node) -> None:
    points = points_of(node, "DEL")
    killed = 0
    for point in points:
        pod = node.pod()
        request = asking(node, pod)
        with unchanged(pod, node):
            node.send("ADD", request).ok()
            killed += killed_at(node, request, point, verb="DEL")
            node.send("DEL", request).ok()
    assert killed > len(points) / 2


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "ENOBUFS"])
def test_failing_transaction_leaves_nothing_behind(node: Node, pod: Pod, error: str) -> None:
    request = asking(node, pod)
    (point,) = changes(node, request, "sendmsg")
    with unchanged(pod, node):
        answer, failed = fail_at(node, request, point, error)
        answer.refused(KERNEL_REFUSED, "install the redirect rules")
        if failed > 1:  # the undoing was hit as well, and waits for DEL
            assert "undone" in answer.json["details"]
            node.send("DEL", request).ok()


def test_conflict_found_after_the_rules_were_made_takes_them_back(node: Node, lan: Lan, pod: Pod) -> None:
    host = lan.host(EGRESS4)
    with unchanged(pod, node):
        node.add(pod, redirect(*LINES)).refused(ADDRESS_CONFLICT, host.mac())


def test_missing_library_is_named_and_nothing_made(node: Node, pod: Pod) -> None:
    request = node.request(pod, redirect(*LINES), conf=OFF)
    with unchanged(pod, node):
        without_library(node, "ADD", request).refused(DEPENDENCY_MISSING, "libnftables")
        without_library(node, "DEL", request).ok()
    node.send("ADD", request).ok()


def test_missing_library_hinders_no_pod_without_destinations(node: Node, pod: Pod) -> None:
    plain = {name: value for name, value in redirect(*LINES).items() if not name.endswith("destination")}
    request = node.request(pod, plain, conf=OFF)
    with unchanged(pod, node):
        for verb in ("ADD", "CHECK", "DEL"):
            without_library(node, verb, request).ok()


def without_library(node: Node, verb: str, request: Request) -> Answer:
    """Run the plugin where libnftables cannot be loaded."""
    ctypes.CDLL("libnftables.so.1")
    with open("/proc/self/maps") as handle:
        path = next(line.split()[-1] for line in handle if "/libnftables.so.1" in line)
    hide = f'mount --bind /dev/null {path}; exec "$0"'
    environment = {"CNI_COMMAND": verb, **request.environment}
    return node.execute(environment, request.stdin, wrapper=("unshare", "--mount", "sh", "-ec", hide))
