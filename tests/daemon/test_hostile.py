"""Whoever connects without being a launcher: refused, and nobody else notices."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from lab import Node, Request

from cni_macvlan_egress.daemon import frames
from cni_macvlan_egress.protocol.errors import TRY_AGAIN_LATER

from .impostor import HEAD, request
from .running import Daemon, Warm, eventually, make_launcher

NOBODY = 65534
VERSION = {"CNI_COMMAND": "VERSION"}
HOSTILE = [
    b"", b"\0", b"GET / HTTP/1.0\r\n\r\n", bytes(range(64, 128)), HEAD.pack(b"MVEG", 1, 0, 10, 10) + b"x",
    HEAD.pack(b"MVEG", 1, 0, 0xFFFFFFFF, 0), HEAD.pack(b"MVEG", 1, 0, 0, 0xFFFFFFFF),
    HEAD.pack(b"MVEG", 1, 0, frames.ENVIRONMENT_MAX + 1, 0), HEAD.pack(b"MVEG", 1, 0, 0, frames.STDIN_MAX + 1),
    HEAD.pack(b"GEVM", 1, 0, 0, 0), request(VERSION, b"")[:-1], request(VERSION, b"") + b"and more",
]  # fmt: skip


def connect(daemon: Daemon) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(daemon.socket)
    return sock


def descriptors(daemon: Daemon) -> list[int]:
    return [len(os.listdir(f"/proc/{pid}/fd")) for pid in daemon.workers()]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:24]))
def test_what_is_no_request_gets_no_answer(daemon: Daemon, warm: Warm, data: bytes) -> None:
    before = descriptors(daemon)
    for _ in range(3):
        with connect(daemon) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                assert sock.recv(100) == b""
    warm.send("VERSION", Request()).ok()
    eventually(lambda: descriptors(daemon) == before, "connections stay open")
    assert daemon.metric("workers_replaced_total") == 0
    assert [line["level"] for line in daemon.log] == ["info"]


def test_half_a_request_keeps_nobody_waiting(daemon: Daemon, warm: Warm) -> None:
    half = [connect(daemon) for _ in range(20)]
    for number, sock in enumerate(half):
        sock.sendall(request(VERSION, b"{}")[: number + 1])
    for _ in range(10):
        warm.send("VERSION", Request()).ok()
    for sock in half:
        sock.close()


def test_request_in_drips_is_served(daemon: Daemon) -> None:
    with connect(daemon) as sock:
        for byte in request(VERSION, b""):
            sock.sendall(bytes((byte,)))
        assert HEAD.unpack(sock.recv(HEAD.size))[:3] == (b"MVEG", 1, 0)


@pytest.mark.parametrize("version", [0, 2, 65535])
@pytest.mark.parametrize("rest", [b"", b"x" * (1 << 20)], ids=["small", "large"])
def test_launcher_of_another_version_gets_words_that_it_can_print(
    daemon: Daemon, version: int, rest: bytes
) -> None:
    with connect(daemon) as sock:
        sock.sendall(request({"CNI_COMMAND": "DEL"}, rest, version=version))
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    magic, own, status, first, second = HEAD.unpack_from(answer)
    assert (magic, own, status) == (b"MVEG", version, 1)
    error = json.loads(answer[HEAD.size : HEAD.size + first])
    assert error["code"] == TRY_AGAIN_LATER
    assert f"version {version}" in error["msg"]
    assert "launcher --native" in error["msg"]
    assert answer[HEAD.size + first :].decode() == f"macvlan-egress: {error['msg']}\n"
    assert second == len(error["msg"]) + 17


def test_socket_is_for_root_alone(daemon: Daemon) -> None:
    for path in (daemon.socket, daemon.admin_socket):
        assert os.stat(path).st_mode & 0o777 == 0o600


def test_other_users_are_refused_by_mode_and_by_credentials(daemon: Daemon, warm: Warm) -> None:
    program = (
        "import socket, sys\n"
        "sock = socket.socket(socket.AF_UNIX); sock.settimeout(20)\n"
        "try: sock.connect('daemon.sock')\n"
        "except PermissionError: sys.exit(13)\n"
        "try: sock.sendall(sys.stdin.buffer.read()); got = sock.recv(100)\n"
        "except (BrokenPipeError, ConnectionResetError): got = b''\n"
        "sys.exit(0 if got else 14)\n"
    )

    def as_user(user: int) -> int:
        done = subprocess.run(
            ["/usr/bin/python3", "-c", program], cwd=daemon.directory, user=user, group=user, extra_groups=[],
            input=request(VERSION, b""), check=False,
        )  # fmt: skip
        return done.returncode

    daemon.directory.chmod(0o755)
    assert as_user(0) == 0
    assert as_user(NOBODY) == 13
    os.chmod(daemon.socket, 0o666)  # noqa: S103
    assert as_user(NOBODY) == 14
    warm.send("VERSION", Request()).ok()
    assert daemon.metric('calls_total{verb="VERSION",code="0"}') == 2


def test_call_whose_caller_has_gone_is_not_begun(node: Node, daemon: Daemon) -> None:
    """Its runtime may have sent DEL meanwhile."""
    gone, there = node.pod(), node.pod()
    workers = daemon.freeze()
    socks = []
    for pod in (gone, there):
        asked = node.request(pod, {"pod.network.openshift.io/assign-macvlan": "true"})
        variables = {"CNI_COMMAND": "ADD", "CNI_PATH": node.bin_dir, **asked.environment}
        sock = connect(daemon)
        sock.sendall(request(variables, asked.stdin.encode()))
        socks.append(sock)
    socks[0].close()
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    with socks[1] as sock:
        assert HEAD.unpack(sock.recv(HEAD.size))[2] == 0
    assert there.link("macvlan0")
    assert not gone.link("macvlan0")
    assert os.listdir(f"{node.state_dir}/attachments") == [os.path.basename(node.record(there))]


def test_answer_that_nobody_hears_ends_the_call_all_the_same(node: Node, daemon: Daemon, warm: Warm) -> None:
    pod = node.pod()
    asked = node.request(pod, {"pod.network.openshift.io/assign-macvlan": "true"})
    variables = {"CNI_COMMAND": "ADD", "CNI_PATH": node.bin_dir, **asked.environment}
    with connect(daemon) as sock:
        sock.sendall(request(variables, asked.stdin.encode()))
        eventually(lambda: pod.link("macvlan0"), "it has not begun")
        # Closed with a reset, before or after it is answered
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: daemon.metric('calls_total{verb="ADD",code="0"}') == 1, "the ADD does not end")
    warm.send("CHECK", asked).ok()
    warm.send("DEL", asked).ok()
    assert not pod.link("macvlan0")


def test_daemon_answers_a_huge_request(daemon: Daemon, tmp_path: Path) -> None:
    program = make_launcher(tmp_path / "one", daemon.socket)
    done = subprocess.run(
        [program],
        env={"CNI_COMMAND": "GC", "CNI_PATH": "/"},
        input=b"x" * (20 << 20),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == 6
    assert "larger than 8 MiB" in done.stderr.decode()
