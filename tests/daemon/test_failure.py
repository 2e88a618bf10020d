"""Workers and supervisors that die at the worst moment: the launcher says so, and the next call mends it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Answer, Node, Pod, Request

from cni_macvlan_egress.protocol.errors import TRY_AGAIN_LATER

from .running import Daemon, Warm, eventually, make_launcher

HOST_LOCAL = "/usr/lib/cni/host-local"


class Blocking:
    """An IPAM plugin whose first ADD waits, so that an ADD can be caught in the middle."""

    def __init__(self, node: Node, directory: Path) -> None:
        self.node = node
        self.directory = directory / "ipam"
        self.directory.mkdir()
        self.begun = self.directory / "begun"
        self._fifo = self.directory / "fifo"
        os.mkfifo(self._fifo)
        plugin = self.directory / "blocking"
        plugin.write_text(
            f"#!/bin/sh\nif [ $CNI_COMMAND = ADD ] && mkdir {self.directory}/once 2>/dev/null; then\n"
            f"echo $$ > {self.begun}.new; mv {self.begun}.new {self.begun}; read word < {self._fifo}; fi\n"
            f"exec {HOST_LOCAL}\n"
        )
        plugin.chmod(0o755)

    def request(self, pod: Pod) -> Request:
        pool = {"subnet": "192.168.12.0/24", "rangeStart": "192.168.12.200", "gateway": "192.168.12.1"}
        ipam = {"type": "blocking", "ranges": [[pool]], "dataDir": f"{self.node.directory}/leases"}
        conf = {"ipam": ipam, "conflictDetection": "off", "annotations": ["runtime"]}
        request = self.node.standalone(pod, version="1.0.0", conf=conf)
        return request.but({"CNI_PATH": f"{self.directory}:{self.node.bin_dir}"})

    def wait(self) -> None:
        """Until an ADD is in the middle."""
        eventually(self.begun.exists, "the ADD has not come as far as IPAM")

    def release(self) -> None:
        """Let it go on."""
        with open(self._fifo, "w") as fifo:
            fifo.write("go\n")

    def kill(self) -> None:
        if self.begun.exists():
            try:
                os.kill(int(self.begun.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                return


class Call(threading.Thread):
    """A call that goes on while the test does something."""

    def __init__(self, warm: Warm, verb: str, request: Request) -> None:
        super().__init__(daemon=True)
        self._call = warm, verb, request
        self._answers: list[Answer] = []
        self.start()

    def run(self) -> None:
        warm, verb, request = self._call
        self._answers.append(warm.send(verb, request))

    @property
    def answer(self) -> Answer:
        self.join(60)
        return self._answers[0]


@pytest.fixture
def blocking(node: Node, tmp_path: Path) -> Iterator[Blocking]:
    one = Blocking(node, tmp_path)
    yield one
    one.kill()


def busy_worker(daemon: Daemon, blocking: Blocking) -> int:
    """The worker that serves the call in the middle: the plugin's parent."""
    with open(f"/proc/{blocking.begun.read_text().strip()}/stat") as file:
        pid = int(file.read().rpartition(")")[2].split()[1])
    assert pid in daemon.workers()
    return pid


def mended(node: Node, pod: Pod, request: Request, warm: Warm, first: str) -> None:
    """What follows a broken ADD: the same ADD again, or DEL."""
    assert os.path.exists(node.record(pod, "net1"))
    if first == "ADD":
        warm.send("ADD", request).ok()
        warm.send("CHECK", request).ok()
    warm.send("DEL", request).ok()
    assert not pod.link("net1")
    assert os.listdir(f"{node.state_dir}/attachments") == []
    leases = f"{node.directory}/leases/lan"
    assert [name for name in os.listdir(leases) if name.startswith("192.")] == []


@pytest.mark.parametrize("following", ["ADD", "DEL"])
def test_worker_killed_in_an_add(
    node: Node, daemon: Daemon, warm: Warm, blocking: Blocking, following: str
) -> None:
    pod = node.pod()
    request = blocking.request(pod)
    call = Call(warm, "ADD", request)
    blocking.wait()
    killed = busy_worker(daemon, blocking)
    os.kill(killed, signal.SIGKILL)
    call.answer.refused(TRY_AGAIN_LATER, "gave no answer")
    blocking.kill()
    eventually(lambda: daemon.settled() and killed not in daemon.workers(), "no new worker")
    mended(node, pod, request, warm, following)
    assert daemon.metric('workers_replaced_total{reason="died"}') == 1
    (line,) = [line for line in daemon.log if line["level"] == "error"]
    assert (line["worker"], line["status"]) == (killed, -signal.SIGKILL)


def test_killed_worker_takes_no_other_call_along(
    node: Node, daemon: Daemon, warm: Warm, blocking: Blocking
) -> None:
    """Calls are spread over the workers; those of the others go on, and new ones find a worker at once."""
    call = Call(warm, "ADD", blocking.request(node.pod()))
    blocking.wait()
    os.kill(busy_worker(daemon, blocking), signal.SIGKILL)
    for _ in range(20):
        warm.send("VERSION", Request()).ok()
    call.answer.refused(TRY_AGAIN_LATER)


@pytest.mark.parametrize("following", ["ADD", "DEL"])
def test_supervisor_killed_in_an_add(
    node: Node, make_daemon: Callable[..., Daemon], warm: Warm, blocking: Blocking, following: str
) -> None:
    """Its workers finish what they have begun, end, and leave the place to the next daemon."""
    old = make_daemon().start()
    pod = node.pod()
    request = blocking.request(pod)
    call = Call(warm, "ADD", request)
    blocking.wait()
    workers = old.workers()
    busy = busy_worker(old, blocking)
    os.kill(old.pid, signal.SIGKILL)
    old.wait(workers=False)
    eventually(lambda: [pid for pid in workers if _lives(pid)] == [busy], "a worker outlives its supervisor")
    new = make_daemon().start()
    warm.send("VERSION", Request()).ok()
    assert new.metric('calls_total{verb="VERSION",code="0"}') == 1
    blocking.release()
    call.answer.ok()
    eventually(lambda: not _lives(busy), "a worker outlives its call")
    if following == "ADD":
        warm.send("ADD", request).refused(108)
    warm.send("DEL", request).ok()
    assert not pod.link("net1")


def test_everything_killed_in_an_add(
    node: Node, make_daemon: Callable[..., Daemon], warm: Warm, blocking: Blocking, tmp_path: Path
) -> None:
    daemon = make_daemon().start()
    pod = node.pod()
    request = blocking.request(pod)
    call = Call(warm, "ADD", request)
    blocking.wait()
    for pid in daemon.processes():
        os.kill(pid, signal.SIGKILL)
    daemon.wait()
    call.answer.refused(TRY_AGAIN_LATER, "gave no answer")
    blocking.kill()
    # The socket is still there, and nobody listens.
    Warm(node, make_launcher(tmp_path / "quick", daemon.socket, deadline=0.3)).send("DEL", request).refused(
        TRY_AGAIN_LATER, "Connection refused"
    )
    direct = Warm(
        node, make_launcher(tmp_path / "both", daemon.socket, direct=f"{node.bin_dir}/macvlan-egress")
    )
    mended(node, pod, request, direct, "ADD")
    make_daemon().start()
    warm.send("VERSION", Request()).ok()


def test_call_without_end_is_given_up(
    node: Node, make_daemon: Callable[..., Daemon], warm: Warm, blocking: Blocking
) -> None:
    daemon = make_daemon("--deadline", "1").start()
    pod = node.pod()
    request = blocking.request(pod)
    call = Call(warm, "ADD", request)
    blocking.wait()
    old = busy_worker(daemon, blocking)
    assert daemon.metric("calls_in_progress") == 1
    eventually(lambda: daemon.metric('workers_replaced_total{reason="overdue"}') == 1, "it is not given up")
    warm.send("VERSION", Request()).ok()
    call.answer.refused(TRY_AGAIN_LATER)  # killed, since this call alone keeps the worker from ending
    blocking.kill()
    eventually(lambda: daemon.settled() and old not in daemon.workers(), "no new worker")
    assert daemon.metric("calls_in_progress") == 0
    mended(node, pod, request, warm, "DEL")
    assert daemon.metric('workers_replaced_total{reason="died"}') == 0


def test_worker_that_cannot_live_is_not_started_without_a_pause(daemon: Daemon) -> None:
    for _ in range(3):
        before = daemon.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(
            lambda before=before: daemon.settled() and not set(before) & set(daemon.workers()), "no workers"
        )
    assert daemon.metric('workers_replaced_total{reason="died"}') == 6


def test_daemon_away_is_replaced_by_direct_mode_and_found_again(
    node: Node, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = make_daemon().start()
    both = Warm(
        node, make_launcher(tmp_path / "both", daemon.socket, direct=f"{node.bin_dir}/macvlan-egress")
    )
    pod = node.pod()
    request = node.request(pod, {"pod.network.openshift.io/assign-macvlan": "true"})
    both.send("ADD", request).ok()
    daemon.stop()
    both.send("CHECK", request).ok()
    both.send("DEL", request).ok()
    both.send("ADD", request).ok()
    new = make_daemon().start()
    both.send("CHECK", request).ok()
    both.send("DEL", request).ok()
    assert new.metric('calls_total{verb="DEL",code="0"}') == 1
    assert not pod.link("macvlan0")


def test_full_disk_is_an_error_and_not_the_end(node: Node, daemon: Daemon, warm: Warm) -> None:
    directory = f"{node.directory}/full"
    os.mkdir(directory)
    pod = node.pod()
    request = node.request(pod, {"pod.network.openshift.io/assign-macvlan": "true"}).but(stateDir=directory)
    import subprocess

    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", directory], check=True)
    try:
        with open(f"{directory}/filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        warm.send("ADD", request).refused(5, "No space left")
        assert not pod.link("macvlan0")
        os.unlink(f"{directory}/filler")
        warm.send("ADD", request).ok()
        warm.send("DEL", request).ok()
    finally:
        subprocess.run(["umount", directory], check=True)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
