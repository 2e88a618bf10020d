"""Files that are lost or damaged, tables that somebody else has flushed, disks that are full: nobody is let loose."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import Lan, Namespace, Node, Pod, source, unchanged
from lab.faults import Point, changes, fail_at

from .documents import Policies, allow, deny
from .sink import ALLOWED, DENIED, FREE, Sink

IO_FAILURE, KERNEL_REFUSED = 5, 105
OWN = "192.168.12.99"
EGRESS = source("192.168.12.99/24", "192.168.12.1")
KINDS: dict[str, dict[str, str] | None] = {"plain": None, "egress": EGRESS}
QUICK = {"conflictTimeoutMs": 20}
OTHERS = {ALLOWED, FREE}


@pytest.fixture
def sink(lan: Lan, outside: Namespace) -> Sink:
    return Sink(lan, outside)


@pytest.fixture
def held(node: Node, policies: Policies) -> list[Pod]:
    """A plain pod and an egress pod, whose policy has ports, and a pod of another namespace."""
    policies.write(allow(f"{DENIED}/32", ("UDP", 53)), deny(f"{DENIED}/32"), allow(f"{ALLOWED}/32"))
    policies.write(deny(f"{DENIED}/32"), allow(f"{ALLOWED}/32"), namespace="bank")
    plain, egress, other = (node.pod() for _ in range(3))
    other.args = other.args.replace("=shop;", "=bank;")
    policies.add(plain).ok()
    policies.add(egress, EGRESS, **QUICK).ok()
    policies.add(other).ok()
    return [plain, egress, other]


def are_held(pods: list[Pod], sink: Sink) -> bool:
    return all(sink.reached(pod) == OTHERS for pod in pods) and (
        sink.reached(pods[1], source=OWN, last=FREE) == OTHERS
    )


def all_go(node: Node, policies: Policies, *pods: Pod) -> None:
    for pod in pods:
        node.delete(pod).ok()
    assert policies.table() == []
    assert policies.files() == []


# -- files


def state_of(node: Node) -> Path:
    return Path(node.run_dir) / "policy/state.json"


def corrupted(node: Node) -> None:
    state_of(node).write_text(state_of(node).read_text()[:100])


def empty(node: Node) -> None:
    state_of(node).write_text("")


def of_another_shape(node: Node) -> None:
    state_of(node).write_text('{"version": 1, "namespaces": [], "mains": {}, "guards": {}}')


def of_a_newer_version(node: Node) -> None:
    document = json.loads(state_of(node).read_text())
    state_of(node).write_text(json.dumps({**document, "version": 2}))


def missing(node: Node) -> None:
    state_of(node).unlink()


def compiled_missing(node: Node) -> None:
    for path in (Path(node.run_dir) / "policy/compiled").iterdir():
        path.unlink()


def all_but_the_kernel_lost(node: Node) -> None:
    """What is left are the attachments' records, which are on the disk."""
    shutil.rmtree(node.run_dir)


LOSSES = (corrupted, empty, of_another_shape, of_a_newer_version, missing, compiled_missing)


@pytest.mark.parametrize("loss", LOSSES)
def test_add_after_a_loss_holds_its_pod_and_all_others(
    node: Node, policies: Policies, held: list[Pod], sink: Sink, loss: Callable[[Node], None]
) -> None:
    loss(node)
    new, late = node.pod(), node.pod()
    policies.add(new).ok()
    assert are_held([*held, new], sink)
    policies.add(late, source("192.168.12.98/24"), **QUICK).ok()
    assert are_held([*held, new, late], sink)
    policies.sync()
    assert policies.sync().changes == ()
    assert are_held([*held, new, late], sink)
    for pod in (*held, new, late):
        node.check(pod).ok()
    all_go(node, policies, *held, new, late)


@pytest.mark.parametrize("loss", LOSSES)
def test_delete_after_a_loss_lets_go_of_its_pod_alone(
    node: Node, policies: Policies, held: list[Pod], sink: Sink, loss: Callable[[Node], None]
) -> None:
    goes = node.pod()
    policies.add(goes).ok()
    loss(node)
    node.delete(goes).ok()
    assert are_held(held, sink)
    assert sink.reached(goes) == {DENIED, *OTHERS}
    assert not any(goes.container_id in name for name in policies.files())
    policies.sync()
    assert are_held(held, sink)
    for pod in held:
        node.check(pod).ok()
    all_go(node, policies, *held)


@pytest.mark.parametrize("loss", LOSSES)
def test_sync_after_a_loss_makes_everything_anew(
    node: Node, policies: Policies, held: list[Pod], sink: Sink, loss: Callable[[Node], None]
) -> None:
    loss(node)
    policies.sync()
    assert are_held(held, sink)
    assert policies.sync().changes == ()
    for pod in held:
        node.check(pod).ok()
    all_go(node, policies, *held)


@pytest.mark.parametrize("loss", [corrupted, missing])
@pytest.mark.parametrize("policy", [None, "unreadable"])
def test_delete_after_a_loss_needs_no_documents(
    node: Node,
    policies: Policies,
    held: list[Pod],
    sink: Sink,
    loss: Callable[[Node], None],
    policy: str | None,
) -> None:
    """DEL must work when the configuration has lost its policy, or the documents cannot be read."""
    goes = node.pod()
    policies.add(goes).ok()
    loss(node)
    if policy:
        shutil.rmtree(policies.directory)
        policies.directory.write_text("")
    request = goes.requests["eth0"].but(**({} if policy else {"policy": None}))
    node.send("DEL", request).ok()
    assert are_held(held, sink)
    assert sink.reached(goes) == {DENIED, *OTHERS}


def test_egress_pods_are_held_again_when_the_run_time_directory_was_lost(
    node: Node, policies: Policies, held: list[Pod], sink: Sink
) -> None:
    """Plain pods left their only note there; an egress pod's record is on the disk."""
    all_but_the_kernel_lost(node)
    policies.sync()
    assert sink.reached(held[1], source=OWN, last=FREE) == OTHERS
    for pod in held:
        node.delete(pod).ok()
    policies.sync()
    assert policies.table() == []
    assert policies.files() == []


# -- the table

FLUSHES = (
    ("flush", "ruleset"),
    ("delete", "table", "netdev", "macvlan_egress"),
    ("flush", "table", "netdev", "macvlan_egress"),
    ("delete", "chain", "netdev", "macvlan_egress", "ns-shop-ip4"),
)


def flushed(node: Node, command: tuple[str, ...]) -> None:
    if command[1] == "chain":  # what leads there has to go first
        node.run("nft", "flush", "table", "netdev", "macvlan_egress")
    node.run("nft", *command)


@pytest.mark.parametrize("command", FLUSHES, ids=" ".join)
def test_sync_repairs_a_flushed_table(
    node: Node, policies: Policies, held: list[Pod], sink: Sink, command: tuple[str, ...]
) -> None:
    flushed(node, command)
    assert policies.sync().changes
    assert are_held(held, sink)
    for pod in held:
        node.check(pod).ok()
    assert policies.sync().changes == ()
    all_go(node, policies, *held)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", FLUSHES, ids=" ".join)
def test_add_after_a_flush_is_held(
    node: Node, policies: Policies, held: list[Pod], sink: Sink, command: tuple[str, ...], kind: str
) -> None:
    flushed(node, command)
    pod = node.pod()
    policies.add(pod, (kind == "egress" and source("192.168.12.98/24")) or None, **QUICK).ok()
    assert sink.reached(pod) == OTHERS
    if kind == "egress":
        assert sink.reached(pod, source="192.168.12.98", last=FREE) == OTHERS
    policies.sync()
    assert are_held([*held, pod], sink)
    node.check(pod).ok()
    all_go(node, policies, *held, pod)


@pytest.mark.parametrize("command", FLUSHES, ids=" ".join)
def test_delete_after_a_flush_leaves_nothing(
    node: Node, policies: Policies, held: list[Pod], sink: Sink, command: tuple[str, ...]
) -> None:
    flushed(node, command)
    node.delete(held[2]).ok()
    assert not any(held[2].container_id in name for name in policies.files())
    node.run("nft", "list", "ruleset")
    all_go(node, policies, *held[:2])


def test_table_of_somebody_else_is_not_touched(node: Node, policies: Policies, held: list[Pod]) -> None:
    node.run("nft", "add", "table", "netdev", "theirs")
    node.run("nft", "flush", "table", "netdev", "macvlan_egress")
    policies.sync()
    all_go(node, policies, *held)
    assert "table netdev theirs" in node.run("nft", "list", "ruleset")


# -- the disk

_READ_ONLY = 'mount --bind "$D" "$D"; mount -o remount,ro,bind "$D"'
_FULL = (
    'mount -t tmpfs -o size=64k,mode=700 tmpfs "$D"; cp -a "$D.copy/." "$D"; '
    'dd if=/dev/zero of="$D/filler" bs=4096 2>/dev/null || :'
)


@pytest.mark.parametrize("obstacle", [_READ_ONLY, _FULL], ids=["read-only", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_add_fails_where_nothing_can_be_written(
    node: Node, policies: Policies, sink: Sink, kind: str, obstacle: str
) -> None:
    policies.write(deny(f"{DENIED}/32"))
    stays, pod = node.pod(), node.pod()
    policies.add(stays).ok()
    shutil.copytree(node.run_dir, f"{node.run_dir}.copy")
    request = node.request(pod, KINDS[kind], conf={**policies.conf, **QUICK})
    script = f'D={node.run_dir}; {obstacle}; exec "$0"'
    with unchanged(pod, node):
        answer = node.execute(
            {"CNI_COMMAND": "ADD", **request.environment},
            request.stdin,
            wrapper=("unshare", "--mount", "sh", "-ec", script),
        )
    answer.refused(IO_FAILURE, node.run_dir)
    assert sink.reached(stays) == OTHERS
    node.check(stays).ok()
    node.send("DEL", request).ok()
    all_go(node, policies, stays)


def failing_points(node: Node, policies: Policies, kind: str) -> list[Point]:
    request = node.request(node.pod(), KINDS[kind], conf={**policies.conf, **QUICK})
    node.send("ADD", request).ok()
    node.send("DEL", request).ok()
    found = changes(node, request, "rename", "openat", "write")
    own = ("state.json", "shop", "N@eth0")
    found = [one for one in found if any(word in one.what for word in own)]
    return found if kind == "plain" else [one for one in found if one.call == "rename"]


@pytest.mark.parametrize("kind", KINDS)
def test_add_that_cannot_write_one_file_leaves_nothing(
    node: Node, policies: Policies, sink: Sink, kind: str
) -> None:
    policies.write(deny(f"{DENIED}/32"))
    points = failing_points(node, policies, kind)
    assert points
    assert any("state.json" in one.what for one in points)
    for point in points:
        pod = node.pod()
        request = node.request(pod, KINDS[kind], conf={**policies.conf, **QUICK})
        with unchanged(pod, node):
            answer, _ = fail_at(node, request, point, "ENOSPC")
            assert answer.check().status, str(point)
            assert answer.json["code"] == IO_FAILURE, answer
        assert policies.files() == [], str(point)
        node.send("DEL", request).ok()
        node.send("ADD", request).ok()
        assert sink.reached(pod) == OTHERS
        node.send("DEL", request).ok()


def test_add_that_the_kernel_refuses_leaves_nothing(node: Node, policies: Policies, sink: Sink) -> None:
    """The transaction fails, and so does the attempt to make the table anew."""
    policies.write(deny(f"{DENIED}/32"))
    request = node.request(node.pod(), conf=policies.conf)
    points = [one for one in changes(node, request, "sendmsg") if "NFNL" in one.what or "0x" in one.what]
    assert points
    for point in points:
        pod = node.pod()
        request = node.request(pod, conf=policies.conf)
        with unchanged(pod, node):
            answer, failed = fail_at(node, request, point, "EPERM")
            answer.check()
            if not answer.status:  # what came next has made it good
                assert sink.reached(pod) == OTHERS
                node.send("DEL", request).ok()
        assert policies.files() == [], (str(point), failed)
        node.send("DEL", request).ok()
    assert os.listdir(policies.directory)
