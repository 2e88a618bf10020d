"""A daemon that runs in a node's namespace, and the launchers that call it."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lab import Answer, Node, Request, within

from cni_macvlan_egress.admin import launcher
from cni_macvlan_egress.daemon.worker import THREADS

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
WORKERS = 2
MACHINE = os.uname().machine
_serials = itertools.count()


class Daemon:
    """One daemon; several may share a directory, and so a socket.

    Args:
        wrapper: the command that starts it gets this in front.
    """

    def __init__(self, node: Node, directory: Path, *options: str, wrapper: tuple[str, ...] = ()) -> None:
        self.node = node
        self.directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)
        self.socket = str(directory / "daemon.sock")
        self.admin_socket = str(directory / "admin.sock")
        self._options = options
        self._wrapper = wrapper
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)

    def start(self, environment: dict[str, str] | None = None, **how: Any) -> Daemon:
        """Start it and wait for its READY=1."""
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = f"{self.directory}/notify-{next(_serials)}"
        ear.bind(path)
        command = [*self._wrapper, sys.executable, "-m", "cni_macvlan_egress", "daemon", *self.arguments]
        full = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET": path, **(environment or {})}
        self._process = within(
            self.node.path,
            lambda: subprocess.Popen(
                command, env=full, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, **how
            ),
        )
        self._reader.start()
        self.ear = ear
        assert self._is_ready(), f"the daemon does not start: {self._lines}"
        eventually(self.settled, "the workers do not start")
        return self

    def _is_ready(self) -> bool:
        assert self._process
        self.ear.settimeout(0.2)
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(TimeoutError):
                said = self.ear.recv(64)
                self.ear.settimeout(START_SECONDS)
                return said == b"READY=1"
        self._reader.join(1)
        return False

    def settled(self) -> bool:
        """Whether all its workers have all their threads."""
        return [thread_count(pid) for pid in self.workers()] == [THREADS + 1] * WORKERS

    @property
    def arguments(self) -> list[str]:
        node = self.node
        return [
            *("--socket", self.socket, "--admin-socket", self.admin_socket, "--workers", str(WORKERS)),
            *("--state-dir", node.state_dir, "--run-dir", node.run_dir, *self._options),
        ]

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has written to stderr."""
        return [json.loads(line) for line in list(self._lines)]

    def told(self, wanted: Callable[[dict[str, Any]], object], count: int = 1) -> list[dict[str, Any]]:
        """The lines of the log that are wanted, once there are so many; what they tell may be seen earlier."""
        eventually(lambda: len(list(filter(wanted, self.log))) >= count, f"not told, but: {self.log}")
        return list(filter(wanted, self.log))

    def workers(self) -> list[int]:
        """The processes that serve calls."""
        return self._children("worker")

    def caretaker(self) -> int:
        """The process that works in the background; 0 if there is none just now."""
        return next(iter(self._children("caretaker")), 0)

    def processes(self) -> list[int]:
        """All that serve."""
        return [self.pid, *self.workers()]

    def _children(self, name: str) -> list[int]:
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            children = [int(word) for word in file.read().split()]
        return [pid for pid in children if _name(pid) == name]

    def freeze(self) -> list[int]:
        """Stop its workers where they are; returns them, for SIGCONT."""
        workers = self.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        # The signal reaches one thread, which stops the others.
        eventually(lambda: all(_states(pid) == {"T"} for pid in workers), "the workers do not stop")
        return workers

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of a page on the admin socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(self.admin_socket)
            sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body

    def metric(self, name: str) -> float:
        """One value by its name with its labels."""
        values = dict(line.rsplit(" ", 1) for line in self.page("/metrics")[1].splitlines() if line[0] != "#")
        return float(values.get(f"macvlan_egress_{name}", 0))

    def terminate(self) -> None:
        """Ask it to stop."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, *, workers: bool = True) -> int:
        """Its exit status when it has ended, and its workers with it."""
        assert self._process
        status = self._process.wait(START_SECONDS)
        if workers:  # who may still write to its log
            self._reader.join(START_SECONDS)
        return status

    def stop(self) -> int:
        self.terminate()
        return self.wait()

    def close(self) -> None:
        """Make an end, whatever the test has left."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                for pid in self.workers():
                    os.kill(pid, signal.SIGKILL)
                self._process.kill()
                self._process.wait()
        self.ear.close()

    def _read(self) -> None:
        assert self._process
        assert self._process.stderr
        self._lines.extend(iter(self._process.stderr.readline, ""))


def make_launcher(
    path: Path, sock: str, *, direct: str = "", deadline: float = 30.0, machine: str = MACHINE
) -> str:
    """A native launcher with settings of its own."""
    native = launcher.native(machine) if machine == MACHINE else _cross_built(machine)
    path.write_bytes(launcher.with_settings(native, sock, direct, deadline))
    path.chmod(0o755)
    return str(path)


@functools.cache
def _cross_built(machine: str) -> bytes:
    """As a release has it for another machine."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip(f"needs the Python package ziglang, which compiles for {machine}")
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "launcher/build.py", "--all", "--output", directory]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
        return Path(directory, f"macvlan-egress-{machine}").read_bytes()


def emulator(machine: str) -> str:
    """What runs another machine's programs."""
    found = shutil.which(f"qemu-{machine}-static") or shutil.which(f"qemu-{machine}")
    if not found:
        pytest.skip(f"needs the package qemu-user-static to run programs for {machine}")
    return found


class Warm:
    """Calls the plugin on a node as a runtime does, by way of the native launcher."""

    def __init__(self, node: Node, program: str) -> None:
        self.node = node
        self.program = program

    def send(self, verb: str, request: Request) -> Answer:
        return self.execute({"CNI_COMMAND": verb, **request.environment}, request.stdin)

    def execute(self, environment: dict[str, str], stdin: str | bytes, **how: Any) -> Answer:
        return self.node.execute(environment, stdin, program=self.program, **how)


def eventually(condition: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def thread_count(pid: int) -> int:
    """Of a process; none if it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _name(pid: int) -> str:
    """What a process calls itself; empty if it has ended."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _states(pid: int) -> set[str]:
    """Of all threads of a process, proc_pid_stat(5)."""
    found = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat") as file:
            found.add(file.read().rpartition(")")[2].split()[0])
    return found
