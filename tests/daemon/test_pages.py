"""Metrics and health, over the admin socket and TCP."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial

from lab import ASSIGN, Node, Request, within
from lab.network import PODS4, PODS6

from .running import REPOSITORY, Daemon, Warm, eventually

LINE = re.compile(r'macvlan_egress_[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [-+.0-9e]+')
COMMAND = (
    "import sys; from cni_macvlan_egress.admin import command_line as line; "
    "line.COMMANDS.setdefault('metrics', 'show them'); sys.exit(line.main(sys.argv[1:]))"
)


def metrics_command(daemon: Daemon) -> str:
    done = subprocess.run(
        [
            *(sys.executable, "-c", COMMAND, "metrics", "--admin-socket", daemon.admin_socket),
            *("--state-dir", daemon.node.state_dir, "--run-dir", daemon.node.run_dir),
        ],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_metrics_tell_what_happened(node: Node, daemon: Daemon, warm: Warm) -> None:
    pod = node.pod()
    request = node.request(pod, {ASSIGN: "true"}, conf={"conflictDetection": "off"})
    assert daemon.metric("attachments") == 0
    for verb in ("ADD", "ADD", "CHECK"):
        warm.send(verb, request)
    warm.execute({"CNI_COMMAND": 'A"\\\n'}, b"{}")
    _, text = daemon.page("/metrics")
    values = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in values if not LINE.fullmatch(line)] == []
    assert len(values) == len({line.rsplit(" ")[0] for line in values})
    for name, value in {
        "up": 1, "attachments": 1, "workers": 2, "policy_state_known": 1, "policies": 0, "calls_in_progress": 0,
        'calls_total{verb="ADD",code="0"}': 1, 'calls_total{verb="ADD",code="108"}': 1,
        'calls_total{verb="CHECK",code="0"}': 1, 'calls_total{verb="other",code="4"}': 1,
        'call_seconds_count{verb="ADD"}': 2, 'call_seconds_bucket{verb="ADD",le="+Inf"}': 2,
    }.items():  # fmt: skip
        assert daemon.metric(name) == value, name
    assert daemon.metric('call_seconds_sum{verb="ADD"}') > 0
    warm.send("DEL", request).ok()
    assert daemon.metric("attachments") == 0
    types = re.findall(r"# TYPE (\S+) ", text)
    assert len(types) == len(set(types))
    assert {re.sub(r"_(bucket|sum|count)$", "", re.split(r"[{ ]", line)[0]) for line in values} == set(types)


def test_counters_outlive_a_worker(daemon: Daemon, warm: Warm) -> None:
    for _ in range(5):
        warm.send("VERSION", Request()).ok()
    for pid in daemon.workers():
        os.kill(pid, signal.SIGKILL)
    eventually(
        lambda: daemon.metric('workers_replaced_total{reason="died"}') == 2 and daemon.settled(),
        "not replaced",
    )
    assert daemon.metric('calls_total{verb="VERSION",code="0"}') == 5


def test_new_worker_does_not_hold_the_connections_of_others(daemon: Daemon) -> None:
    """It is forked from the process that serves them."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(4)  # the daemon closes after 5 s in any case
        sock.connect(daemon.admin_socket)
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
        daemon.page("/healthz")  # by now it has been accepted
        killed = daemon.workers()[0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: daemon.settled() and killed not in daemon.workers(), "not replaced", 3)
        sock.sendall(b"\r\n")
        assert b"".join(iter(lambda: sock.recv(100), b"")).endswith(b"ok\n")


def test_policies_in_force_are_counted(node: Node, daemon: Daemon, warm: Warm) -> None:
    directory = f"{node.directory}/policies"
    os.mkdir(directory)
    with open(f"{directory}/shop.json", "w") as file:
        policy = {
            "apiVersion": "network.openshift.io/v1", "kind": "EgressNetworkPolicy",
            "metadata": {"name": "default", "namespace": "shop"},
            "spec": {"egress": [{"type": "Deny", "to": {"cidrSelector": "203.0.113.0/24"}}]},
        }  # fmt: skip
        json.dump(policy, file)
    request = node.request(
        node.pod(), {}, conf={"policy": {"directory": directory}, "clusterNetworks": [PODS4, PODS6]}
    )
    warm.send("ADD", request).ok()
    assert daemon.metric("policies") == 1
    assert daemon.metric("policy_interfaces") == 1
    warm.send("DEL", request).ok()


def test_health_is_that_somebody_serves(daemon: Daemon) -> None:
    assert daemon.page("/healthz") == (200, "ok\n")
    assert daemon.page("/")[0] == 404
    assert daemon.page("/metrics?x=1")[0] == 200


def test_pages_are_served_by_tcp_if_that_is_asked_for(node: Node, make_daemon: Callable[..., Daemon]) -> None:
    make_daemon("--listen", "127.0.0.1:9455").start()
    again = make_daemon("--listen", "[::1]:9455")
    again.start()
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with closing(node.socket(family)) as sock:
            sock.settimeout(10)
            sock.connect((address, 9455))
            sock.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"".join(iter(lambda sock=sock: sock.recv(100), b"")).startswith(b"HTTP/1.1 200 OK\r\n")


def test_daemon_that_cannot_listen_says_why(node: Node, make_daemon: Callable[..., Daemon]) -> None:
    make_daemon("--listen", "127.0.0.1:9455").start()
    for address, word in (
        ("127.0.0.1:9455", "in use"),
        ("localhost", "ADDRESS:PORT"),
        ("127.0.0.1:99999", "port"),
    ):
        other = make_daemon("--listen", address)
        command = [sys.executable, "-m", "cni_macvlan_egress", "daemon", *other.arguments]
        done = within(
            node.path,
            partial(subprocess.run, command, cwd=REPOSITORY, capture_output=True, text=True, check=False),
        )
        assert done.returncode == 1
        assert word in done.stderr
        assert "Traceback" not in done.stderr


def test_bad_and_slow_clients_keep_nobody_waiting(daemon: Daemon, warm: Warm) -> None:
    slow = [socket.socket(socket.AF_UNIX) for _ in range(30)]
    for number, sock in enumerate(slow):
        sock.connect(daemon.admin_socket)
        sock.sendall(b"GET /metrics HTTP/1.1\r\n"[:number])
    for data, status in (
        (b"\r\n\r\n", b"400"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"\xff\xfe\n\n", b"400"),
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(daemon.admin_socket)
            sock.sendall(data)
            assert sock.recv(4096).split()[1] == status
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(daemon.admin_socket)
        try:
            sock.sendall(b"x" * 100_000)
            assert sock.recv(100) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert daemon.page("/healthz")[0] == 200
    warm.send("VERSION", Request()).ok()
    for sock in slow:
        sock.close()
    assert daemon.page("/healthz")[0] == 200


def test_command_asks_the_daemon_and_without_one_the_files(node: Node, daemon: Daemon, warm: Warm) -> None:
    request = node.request(node.pod(), {ASSIGN: "true"}, conf={"conflictDetection": "off"})
    warm.send("ADD", request).ok()
    text = metrics_command(daemon)
    assert "macvlan_egress_up 1\n" in text
    assert 'macvlan_egress_calls_total{verb="ADD",code="0"} 1\n' in text
    daemon.stop()
    text = metrics_command(daemon)
    assert "macvlan_egress_up 0\n" in text
    assert "macvlan_egress_attachments 1\n" in text
    assert "calls_total" not in text
    node.send("DEL", request).ok()
