"""Daemons that come and go while calls are made: none is lost, none is done twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab import ASSIGN, Node, Request, source, unchanged

from .impostor import HEAD, request
from .running import Daemon, Warm, eventually
from .test_failure import Blocking, Call, blocking  # noqa: F401

QUICK = {"conflictDetection": "off"}


def test_upgrade_under_load_loses_nothing(node: Node, make_daemon: Callable[..., Daemon], warm: Warm) -> None:
    """Three upgrades, the new daemon started before the old one stops, while eight pods come and go."""
    pods = [node.pod(ipv6=False) for _ in range(8)]
    requests = [
        node.request(pod, source(f"192.168.12.{100 + number}"), conf=QUICK) for number, pod in enumerate(pods)
    ]
    over = threading.Event()

    def come_and_go(request: Request) -> int:
        rounds = 0
        while not over.is_set():
            warm.send("ADD", request).ok()  # 108 if an ADD before had been done twice, or its DEL was lost
            warm.send("CHECK", request).ok()
            warm.send("DEL", request).ok()
            rounds += 1
        return rounds

    with unchanged(node, *pods), ThreadPoolExecutor(len(pods)) as pool:
        daemons = [make_daemon().start()]
        rounds = [pool.submit(come_and_go, request) for request in requests]
        try:
            served = []
            for _ in range(3):
                eventually(lambda: daemons[-1].metric('calls_total{verb="DEL",code="0"}') > 8, "no load", 60)
                daemons.append(make_daemon().start())
                served.append(daemons[-2])
                assert daemons[-2].stop() == 0
            eventually(lambda: daemons[-1].metric('calls_total{verb="DEL",code="0"}') > 8, "no load", 60)
        finally:
            over.set()
        assert all(done.result(120) > 0 for done in rounds)
    assert os.listdir(f"{node.state_dir}/attachments") == []
    assert os.listdir(f"{node.state_dir}/addresses") == []
    assert [line["level"] for one in daemons for line in one.log if line["level"] != "info"] == []


def test_restart_under_load_makes_callers_wait(
    node: Node, make_daemon: Callable[..., Daemon], warm: Warm
) -> None:
    """Stopped first and started then, as a service manager does: launchers wait for the socket to be back."""
    first = make_daemon().start()
    request = node.request(node.pod(ipv6=False), {ASSIGN: "true"}, conf=QUICK)
    second = make_daemon()
    first.stop()
    assert not os.path.exists(first.socket)
    call = Call(warm, "ADD", request)
    second.start()
    call.answer.ok()
    warm.send("DEL", request).ok()


def test_old_daemon_finishes_what_it_has_accepted(
    node: Node,
    make_daemon: Callable[..., Daemon],
    warm: Warm,
    blocking: Blocking,  # noqa: F811
) -> None:
    old = make_daemon().start()
    pod = node.pod()
    call = Call(warm, "ADD", blocking.request(pod))
    blocking.wait()
    new = make_daemon().start()
    old.terminate()
    for _ in range(10):
        warm.send("VERSION", Request()).ok()
    assert new.metric('calls_total{verb="VERSION",code="0"}') == 10
    # It must not take away the path that is the other's by now.
    assert os.path.exists(new.socket)
    assert os.path.exists(new.admin_socket)
    blocking.release()
    call.answer.ok()
    assert old.wait() == 0
    assert [line["msg"] for line in old.log] == [
        "the daemon serves calls",
        "the daemon stops",
        "the daemon has stopped",
    ]
    assert old.log[1]["calls"] == 1
    warm.send("DEL", blocking.request(pod)).ok()


def test_stopping_daemon_serves_those_who_wait_in_its_queue(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    workers = daemon.freeze()
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(400)]  # many more than it has threads
    for sock in waiting:
        sock.settimeout(20)
        sock.connect(daemon.socket)
        sock.sendall(request({"CNI_COMMAND": "VERSION"}, b""))
    daemon.terminate()
    eventually(lambda: not os.path.exists(daemon.socket), "it keeps its socket")
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    for sock in waiting:
        with sock:
            assert HEAD.unpack(sock.recv(HEAD.size))[:3] == (b"MVEG", 1, 0)
    assert daemon.wait() == 0


@pytest.fixture
def handed_over(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket as systemd opens it for a service."""
    (tmp_path / "daemon").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "daemon" / "daemon.sock"))
        listener.listen(64)
        yield listener


# Puts the inherited socket where sd_listen_fds(3) looks for it.
ACTIVATE = (
    sys.executable, "-c",
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
    "os.environ['LISTEN_FDS'] = '1'; os.execv(sys.argv[2], sys.argv[2:])",
)  # fmt: skip


def test_socket_of_the_service_manager_outlives_the_daemon(
    node: Node, make_daemon: Callable[..., Daemon], warm: Warm, handed_over: socket.socket
) -> None:
    def activated() -> Daemon:
        number = handed_over.fileno()
        return make_daemon(wrapper=(*ACTIVATE, str(number))).start(pass_fds=(number,))

    request = node.request(node.pod(ipv6=False), {ASSIGN: "true"}, conf=QUICK)
    first = activated()
    warm.send("ADD", request).ok()
    assert first.stop() == 0
    assert os.path.exists(first.socket)
    # Nobody serves now; calls wait in the queue that systemd keeps.
    calls = [Call(warm, verb, request) for verb in ("CHECK", "VERSION", "STATUS")]
    second = activated()
    for call in calls:
        call.answer.ok()
    warm.send("DEL", request).ok()
    assert second.metric('calls_total{verb="CHECK",code="0"}') == 1


def test_inherited_descriptor_that_is_no_listener_is_refused(
    node: Node, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    with open(tmp_path / "file", "w") as file:
        daemon = make_daemon(wrapper=(*ACTIVATE, str(file.fileno())))
        import subprocess

        command = [
            *ACTIVATE,
            str(file.fileno()),
            sys.executable,
            "-m",
            "cni_macvlan_egress",
            "daemon",
            *daemon.arguments,
        ]
        done = subprocess.run(command, pass_fds=(file.fileno(),), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("macvlan-egress daemon: file descriptor 3")


def test_service_manager_is_told_what_happens(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start({"WATCHDOG_USEC": "300000"})
    assert {daemon.ear.recv(64) for _ in range(3)} == {b"WATCHDOG=1"}
    workers = daemon.freeze()
    daemon.terminate()
    last = b"WATCHDOG=1"
    while last == b"WATCHDOG=1":
        last = daemon.ear.recv(64)
    assert last == b"STOPPING=1"
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    assert daemon.wait() == 0


def test_log_is_lines_of_json(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    daemon.stop()
    first = daemon.log[0]
    assert json.loads(json.dumps(first)) == first
    assert {"time", "level", "msg", "version", "pid", "socket", "workers"} == set(first)
    assert (first["pid"], first["socket"], first["workers"]) == (daemon.pid, daemon.socket, 2)
