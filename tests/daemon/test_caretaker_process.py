"""The caretaker may die, hang or be killed: it is replaced, and no call notices."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import pairwise

import pytest
from lab import Lan, Node, Pod, source

from cni_macvlan_egress.daemon import caretaker_process, journal
from cni_macvlan_egress.daemon.caretaker import CaretakerSettings
from cni_macvlan_egress.daemon.caretaker_process import CaretakerProcess

from .running import Daemon, Warm, eventually, thread_count

OFF = {"conflictDetection": "off"}
ONE = source("192.168.12.99/24")
RUNNING, DEAD = (200, "ok\n"), (200, "ok, but the caretaker is not running\n")


@pytest.fixture
def pod(node: Node) -> Pod:
    pod = node.pod()
    node.add(pod, ONE, conf=OFF).ok()
    return pod


def kill(daemon: Daemon) -> int:
    """Kill it and wait until another one is there."""
    killed = daemon.caretaker()
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: daemon.page("/healthz") == DEAD, "health says nothing of it")
    assert daemon.metric("caretaker_up") == 0
    eventually(lambda: daemon.caretaker() not in (0, killed), "it is not replaced")
    eventually(lambda: daemon.page("/healthz") == RUNNING, "health does not know the new one")
    return killed


def test_killed_caretaker_is_replaced_and_goes_on(
    lan: Lan, pod: Pod, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon("--announce-every", "0.3", "--drift-every", "1").start()
    eventually(lambda: daemon.metric("announcements_total") >= 1, "nothing is announced")
    before = daemon.metric("announcements_total")
    kill(daemon)
    assert daemon.metric("announcements_total") >= before
    pod.ip("address del 192.168.12.99/24 dev macvlan0")
    eventually(lambda: daemon.metric("drifted") == 1, "the new one does not work")
    assert daemon.metric('caretaker_replaced_total{reason="died"}') == 1
    (line,) = daemon.told(lambda line: line["msg"] == "the caretaker has ended")
    assert line["status"] == -signal.SIGKILL
    assert daemon.metric('workers_replaced_total{reason="died"}') == 0
    assert daemon.metric("workers") == 2


def test_calls_are_served_while_the_caretaker_hangs(
    node: Node, make_daemon: Callable[..., Daemon], warm: Warm
) -> None:
    daemon = make_daemon("--drift-every", "1").start()
    eventually(daemon.caretaker, "there is none")
    hanging = daemon.caretaker()
    os.kill(hanging, signal.SIGSTOP)
    request = node.request(node.pod(), ONE, conf=OFF)
    for verb in ("ADD", "CHECK", "DEL"):
        warm.send(verb, request).ok()
    os.kill(hanging, signal.SIGCONT)
    assert daemon.stop() == 0


def test_caretaker_ends_with_the_daemon(pod: Pod, make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon("--announce-every", "0.2", "--drift-every", "1").start()
    eventually(lambda: daemon.metric("announcements_total") >= 1, "nothing is announced")
    before = daemon.caretaker()
    assert daemon.stop() == 0
    assert not os.path.exists(f"/proc/{before}")
    assert "the caretaker has ended" not in [line["msg"] for line in daemon.log]


def test_caretaker_ends_if_the_supervisor_is_killed(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    eventually(daemon.caretaker, "there is none")
    before = daemon.caretaker()
    os.kill(daemon.pid, signal.SIGKILL)
    eventually(lambda: not _lives(before), "it is left behind")


def test_caretaker_keeps_no_socket_of_the_daemon(make_daemon: Callable[..., Daemon]) -> None:
    """Else callers would find them, and wait for ever, when the daemon has gone."""
    daemon = make_daemon("--listen", "127.0.0.1:9455").start()
    eventually(lambda: _works(daemon), "it does not work")

    def sockets(pid: int) -> set[str]:
        links = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
        return {link[8:-1] for link in links if link.startswith("socket:")}

    listening = _listening(daemon.pid)
    assert len(listening & sockets(daemon.pid)) == 3
    assert not listening & sockets(daemon.caretaker())


def test_attachments_take_no_descriptors(node: Node, make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon("--announce-every", "0.2", "--drift-every", "1").start()

    def count() -> int:
        return len(os.listdir(f"/proc/{daemon.caretaker()}/fd"))

    eventually(lambda: _works(daemon), "it does not work")
    before = count()
    for number in range(4):
        node.add(node.pod(), source(f"192.168.12.{100 + number}/24"), conf=OFF).ok()
    eventually(lambda: daemon.metric("drift_checks_total") >= 12, "nothing is looked at")
    eventually(lambda: count() <= before, "descriptors are left")
    pid = daemon.caretaker()
    eventually(
        lambda: (
            {os.readlink(f"/proc/{pid}/task/{task}/ns/net") for task in os.listdir(f"/proc/{pid}/task")}
            == {os.readlink(f"/proc/{daemon.pid}/ns/net")}
        ),
        "a thread has not come back from a pod's namespace",
    )


# -- as the supervisor sees it


class Children:
    """What fork() would make: numbers."""

    def __init__(self) -> None:
        self.made = 0

    def fork(self, _work: Callable[[], None]) -> int:
        self.made += 1
        return 1_000_000_000 + self.made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(caretaker_process.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(journal, "tell", lambda *_, **__: None)
    return now


def test_one_that_dies_at_once_is_started_less_and_less_often(clock: list[float]) -> None:
    children = Children()
    process = CaretakerProcess(CaretakerSettings("/nowhere", "/nowhere"), children.fork)
    starts = []
    for _ in range(2000):
        before = children.made
        process.look_after()
        if children.made > before:
            starts.append(clock[0])
            assert process.has_ended(process.pid, signal.SIGKILL)
        clock[0] += 0.5
    pauses = [later - sooner for sooner, later in pairwise(starts)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 32]
    assert max(pauses) == 60
    clock[0] += 60
    process.look_after()
    clock[0] += 1000  # this one was well
    assert process.has_ended(process.pid, signal.SIGKILL)
    clock[0] += 1
    process.look_after()
    assert process.is_up


def test_one_that_is_not_heard_of_is_killed_once(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(caretaker_process.children, "send", lambda pid, number: sent.append((pid, number)))
    process = CaretakerProcess(CaretakerSettings("/nowhere", "/nowhere"), Children().fork)
    process.look_after()
    for task in ("attachments", "names"):
        process.counters.beat(task)
    for _ in range(20):
        clock[0] += 10
        process.counters.beat("attachments")
        process.look_after()
    assert sent == [(process.pid, signal.SIGKILL)]
    assert process.has_ended(process.pid, signal.SIGKILL)
    assert (process.overdue, process.died) == (1, 0)
    clock[0] += 10
    process.look_after()
    clock[0] += 10
    process.look_after()
    assert len(sent) == 1


def test_child_that_is_another_one_is_left_to_the_supervisor(clock: list[float]) -> None:
    process = CaretakerProcess(CaretakerSettings("/nowhere", "/nowhere"), Children().fork)
    process.look_after()
    assert not process.has_ended(4711, 0)
    assert process.is_up


def _works(daemon: Daemon) -> bool:
    pid = daemon.caretaker()
    return bool(pid) and thread_count(pid) > 2


def _listening(pid: int) -> set[str]:
    """Inodes of listening sockets in a process's namespace, proc_pid_net(5)."""
    found = set()
    for name, column, value, inode in (("unix", 3, "00010000", 6), ("tcp", 3, "0A", 9)):
        with open(f"/proc/{pid}/net/{name}") as file:
            rows = [line.split() for line in file]
        found |= {row[inode] for row in rows[1:] if row[column] == value}
    return found


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
