"""An ADD, DEL or sync that is killed at any point: what comes next puts everything right, and nobody is let loose."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from lab import Lan, Namespace, Node, Pod, Request, source, unchanged, within
from lab.faults import Point, changes, kill_at

from .documents import Policies, allow, deny
from .sink import ALLOWED, DENIED, FREE, Sink

EGRESS = source("192.168.12.99/24", "192.168.12.1")
KINDS: dict[str, dict[str, str] | None] = {"plain": None, "egress": EGRESS}
OTHERS = {ALLOWED, FREE}
CALLS = ("sendmsg", "sendto", "rename", "openat", "write", "unlink", "mkdir")
# For an egress pod tests/netns/test_killed.py has the rest.
_OF_POLICIES = re.compile(r"NFNL|state\.json|shop|index|N@eth0")
# nft asks with sendto and acts with sendmsg; an unnamed file (#) leaves nothing.
_QUESTION = re.compile(r"NFNL_SUBSYS_NFTABLES|0xa|#\d")


@pytest.fixture
def sink(lan: Lan, outside: Namespace) -> Sink:
    return Sink(lan, outside)


def request_of(node: Node, policies: Policies, pod: Pod, kind: str) -> Request:
    return node.request(pod, KINDS[kind], conf={**policies.conf, "conflictTimeoutMs": 20})


def points_of(node: Node, policies: Policies, kind: str, verb: str = "ADD") -> list[Point]:
    request = request_of(node, policies, node.pod(), kind)
    node.send("ADD", request).ok()  # the directories are there from now on
    node.send("DEL", request).ok()
    found = [one for one in changes(node, request, *CALLS, verb=verb) if not _QUESTION.search(one.what)]
    if kind == "egress":
        found = [one for number, one in enumerate(found) if number % 10 == 0 or _OF_POLICIES.search(one.what)]
    assert "sendmsg" in {one.call for one in found}
    return found


def write(policies: Policies) -> None:
    policies.write(deny(f"{DENIED}/32"), allow(f"{ALLOWED}/32"))


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_add_leaves_nothing_after_del(
    node: Node, policies: Policies, sink: Sink, kind: str, half: int
) -> None:
    write(policies)
    points = points_of(node, policies, kind)
    for number, point in enumerate(points[half::2]):
        pod = node.pod()
        request = request_of(node, policies, pod, kind)
        with unchanged(pod, node):
            kill_at(node, request, point)
            node.send("DEL", request).ok()
        assert policies.files() == [], str(point)
        if number % 2:
            continue
        node.send("ADD", request).ok()
        assert sink.reached(pod) == OTHERS, str(point)
        node.send("CHECK", request).ok()
        node.send("DEL", request).ok()
        assert policies.table() == [], str(point)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_add_lets_nobody_loose_and_sync_mends_what_is_left(
    node: Node, policies: Policies, sink: Sink, kind: str
) -> None:
    write(policies)
    stays = node.pod()
    points = points_of(node, policies, kind)
    policies.add(stays).ok()
    of_kernel = [one for one in points if one.call in ("sendmsg", "rename", "unlink")]
    for number, point in enumerate(of_kernel):
        pod = node.pod()
        request = request_of(node, policies, pod, kind)
        kill_at(node, request, point)
        assert sink.reached(stays) == OTHERS, str(point)
        if number % 2:
            pod.remove()  # the runtime gives the sandbox up
        policies.sync()
        assert policies.sync().changes == (), str(point)
        assert sink.reached(stays) == OTHERS, str(point)
        node.check(stays).ok()
        if not number % 2 and f"{pod.container_id}@eth0.json" in policies.files():
            assert sink.reached(pod) == OTHERS, f"{point}: the pod came by, and is still there"
        node.send("DEL", request).ok()
        assert not any(pod.container_id in name for name in policies.files()), str(point)
        assert sink.reached(stays) == OTHERS, str(point)
    node.delete(stays).ok()
    assert policies.table() == []


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_delete_can_be_repeated_or_left_to_a_sync(
    node: Node, policies: Policies, sink: Sink, kind: str, alone: bool
) -> None:
    write(policies)
    others = [] if alone else [node.pod()]
    for other in others:
        policies.add(other).ok()
    points = points_of(node, policies, kind, verb="DEL")
    for number, point in enumerate(points if alone else points[::3]):
        pod = node.pod()
        request = request_of(node, policies, pod, kind)
        node.send("ADD", request).ok()
        kill_at(node, request, point, verb="DEL")
        if number % 2:
            pod.remove()
            policies.sync()
        else:
            node.send("DEL", request).ok()
        assert not any(pod.container_id in name for name in policies.files()), str(point)
        assert pod.container_id[:24] not in json.dumps(policies.table()), str(point)
        for other in others:
            assert sink.reached(other) == OTHERS, str(point)
            node.check(other).ok()
        node.send("DEL", request).ok()


# -- sync


def run_sync(node: Node, conflist: Path, calls: str, injection: str = "") -> list[str]:
    """Run `policy sync` under strace, and return the lines of the trace."""
    trace = f"{node.directory}/sync-trace"
    argv = ["strace", "-f", "-qq", "-o", trace, "-e", f"trace={calls}"]
    if injection:
        argv += ["-e", f"inject={calls}:{injection}"]
    argv += [f"{node.bin_dir}/macvlan-egress", "policy", "sync", "--conflist", str(conflist)]
    done = within(node.path, lambda: subprocess.run(argv, capture_output=True, text=True, check=False))
    assert "Traceback" not in done.stderr
    assert (done.returncode == 0) == (injection == ""), done
    threads: dict[str, list[str]] = {}
    for line in Path(trace).read_text().splitlines():
        threads.setdefault(line.split()[0], []).append(line)
    # strace counts for each thread by itself; the one that does most is the one that changes something.
    return max(threads.values(), key=len, default=[])


def test_killed_sync_is_mended_by_the_next_one(
    node: Node, policies: Policies, sink: Sink, tmp_path: Path
) -> None:
    conflist = tmp_path / "10-pods.conflist"
    plugins = [{"type": "bridge"}, node.configuration(**policies.conf)]
    conflist.write_text(json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}))
    write(policies)
    plain, egress = node.pod(), node.pod()
    policies.add(plain).ok()
    policies.add(egress, EGRESS, conflictTimeoutMs=20).ok()
    state = 0

    def change() -> set[str]:
        nonlocal state
        state += 1
        policies.write(*[deny(f"{DENIED}/32")] * (1 + state % 2), deny(f"{(ALLOWED, FREE)[state % 2]}/32"))
        return {(FREE, ALLOWED)[state % 2]}

    before = OTHERS
    for call in ("sendmsg", "rename", "unlink"):
        change()
        policies.write_text("{}", "nobody.json")  # one whose going is to be seen too
        (policies.directory / "nobody.json").unlink()
        count = len(run_sync(node, conflist, call))
        assert count or call == "unlink"
        before = sink.reached(plain)
        for number in range(1, count + 1):
            expected = change()
            run_sync(node, conflist, call, f"signal=KILL:when={number}")
            for pod in (plain, egress):
                assert sink.reached(pod) in (before, expected), f"{call} {number}: the one or the other"
            policies.sync()
            for pod in (plain, egress):
                assert sink.reached(pod) == expected, f"{call} {number}"
                node.check(pod).ok()
            assert policies.sync().changes == ()
            before = expected
    for pod in (plain, egress):
        node.delete(pod).ok()
    assert policies.table() == []
    assert policies.files() == []
