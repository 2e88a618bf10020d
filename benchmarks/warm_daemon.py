"""The daemon as a benchmark runs it: in the node's namespace, with what it uses up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Self

from .process import BenchmarkError

_START_SECONDS = 30.0
_KIBIBYTE = 1024
# clock_getcpuclockid(3): the processor time of all threads of a process, also of those that have ended.
_CPUCLOCK_SCHED = 2


class Daemon:
    """Started on entering, in the calling thread's namespaces; stopped on exit.

    Args:
        directory: where its state goes.

    Raises:
        BenchmarkError: it does not start.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        # A socket's path may have 107 bytes, and who knows how long TMPDIR is.
        self._sockets = tempfile.TemporaryDirectory(prefix="macvlan-egress-bench-", dir="/run")
        self.socket = os.path.join(self._sockets.name, "daemon.sock")

    def __enter__(self) -> Self:
        words = [
            *("--socket", self.socket, "--admin-socket", f"{self._sockets.name}/admin.sock"),
            *("--state-dir", f"{self._directory}/state", "--run-dir", f"{self._directory}/run"),
        ]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            notify = f"{self._sockets.name}/notify.sock"
            ear.bind(notify)
            ear.settimeout(_START_SECONDS)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cni_macvlan_egress", "daemon", *words],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET": notify},
                stderr=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the benchmark
            )
            try:
                ear.recv(64)
            except TimeoutError:
                self._stop()
                raise BenchmarkError("the daemon does not start") from None
        time.sleep(0.5)  # its workers start their threads
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def cpu(self) -> float:
        """Processor time of all its processes until now, in milliseconds."""
        return sum(time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) for pid in self._processes()) / 1e6

    def memory(self) -> int:
        """What it holds in memory, in bytes: of pages that its processes share, each counts its part (proc(5))."""
        total = 0
        for pid in self._processes():
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        return total * _KIBIBYTE

    def files(self) -> int:
        """How many files its processes have open."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self._processes())

    def threads(self) -> int:
        """How many threads its processes have."""
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in self._processes())

    def namespaces(self) -> int:
        """In how many network namespaces its threads are."""
        tasks = [
            f"/proc/{pid}/task/{task}"
            for pid in self._processes()
            for task in os.listdir(f"/proc/{pid}/task")
        ]
        return len({os.readlink(f"{task}/ns/net") for task in tasks})

    def _processes(self) -> list[int]:
        pid = self._process.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [pid, *map(int, file.read().split())]

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._sockets.cleanup()
