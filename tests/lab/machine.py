"""A machine: what runs on it has its own files, processes and network, and leaves nothing when it is switched off.

Its files are the host's until something is written; that stays in memory. So the programs find every path where the
documentation has it, /etc/cni/net.d or /opt/cni/bin, and the host has no part in it.
"""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .namespace import Namespace

INIT = Path(__file__).with_name("machine_init.py")
_PREFIX = "cme-k8s-"
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/*")  # version 2; version 1 and both together
_LAB = "lab"
_SECONDS = 30.0


class Machine:
    """A machine in a network namespace.

    Args:
        network: where its network is; removed by whoever has made it.
        programs: a directory of programs that are found before all others.
    """

    def __init__(self, network: Namespace, programs: str) -> None:
        self._network = network
        self._environment = {
            "PATH": f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "KUBECONFIG": "/etc/kubernetes/admin.conf",
        }
        self.directory = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir="/tmp")
        self.name = os.path.basename(self.directory)  # of its cgroups, too
        # For sweep(): the lab's namespaces have this in common.
        (Path(self.directory) / _LAB).write_text(network.name.rpartition("-")[0])
        self._init = 0
        try:
            self._outer = self._switch_on()
        except BaseException:
            clear(self.directory)
            raise

    def _switch_on(self) -> subprocess.Popen[str]:
        # The kernel's promise to end it with this process is about the thread that forks: not one of within().
        outer = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL",
                "nsenter", f"--net={self._network.path}", "unshare", "--mount", "--pid", "--fork", "--kill-child",
                sys.executable, "-IS", str(INIT), self.directory,
            ],
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert outer.stdout
        said = outer.stdout.readline()
        assert said == "ready\n", f"the machine does not start: exit status {outer.wait()}"
        (self._init,) = children(outer.pid)
        return outer

    def path(self, path: str) -> Path:
        """Where a file of the machine is for the test."""
        return Path(f"/proc/{self._init}/root{path}")

    def write(self, path: str, text: str) -> None:
        """Write a file as careful programs do: it is there as a whole or not at all."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.new")
        new.write_text(text)
        new.replace(target)

    def start(self, argv: list[str], log: str, network: Namespace | None = None) -> Process:
        """Start a program that stays.

        Args:
            log: file of the machine for its output.
            network: where it runs, if not in the machine's own.
        """
        target = self.path(log)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "ab") as file:
            outer = subprocess.Popen(
                self._enter(argv, (network or self._network).path), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        return Process(outer, target)

    def run(self, *argv: str, stdin: str = "", check: bool = True, outside: bool = False) -> str:
        """Run a program to its end and return what it prints.

        Args:
            outside: with the host's network: for what is downloaded.
        """
        network = "/proc/self/ns/net" if outside else self._network.path
        done = subprocess.run(
            self._enter(list(argv), network), input=stdin, capture_output=True, text=True, check=False,
            env=self._environment,
        )  # fmt: skip
        if check and done.returncode:
            raise CommandError(argv, done.returncode, done.stdout, done.stderr)
        return done.stdout if check else done.stdout + done.stderr

    def processes(self, *words: str) -> list[int]:
        """Processes whose command line begins with these words, as the machine numbers them."""
        found = []
        for name in self.path("/proc").glob("[0-9]*"):
            try:
                line = (name / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue
            if [word.decode(errors="replace") for word in line[: len(words)]] == list(words):
                found.append(int(name.name))
        return found

    def children(self, pid: int) -> list[int]:
        """The processes that one of its processes has started."""
        return [int(word) for word in self.path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def switch_off(self) -> None:
        """Kill everything; the kernel removes the mounts, and the pods' networks with them."""
        self._outer.kill()
        self._outer.wait()
        eventually(lambda: not os.path.exists(f"/proc/{self._init}"), "the machine's processes do not end")
        clear(self.directory)

    def _enter(self, argv: list[str], network: str) -> list[str]:
        return ["nsenter", f"--target={self._init}", "--mount", "--pid", f"--net={network}", *argv]

    def network_of(self, pid: int) -> PodNetwork:
        """The network of one of its processes."""
        return PodNetwork(str(self.path(f"/proc/{pid}/ns/net")))


class CommandError(AssertionError):
    """A program has failed."""

    def __init__(self, argv: tuple[str, ...], status: int, stdout: str, stderr: str) -> None:
        super().__init__(f"{' '.join(argv)}: exit status {status}\n{stdout}{stderr}")
        self.status, self.stdout, self.stderr = status, stdout, stderr


class Process:
    """A program that stays on the machine."""

    def __init__(self, outer: subprocess.Popen[bytes], log: Path) -> None:
        self._outer = outer
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def runs(self) -> bool:
        return self._outer.poll() is None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal that ends it; its exit status."""
        for pid in children(self._outer.pid):  # nsenter, which is in between, passes no signals on
            os.kill(pid, number)
        return self._outer.wait(_SECONDS)


class PodNetwork(Namespace):
    """The network namespace of a process, which has no name: for sockets and programs."""

    def __init__(self, path: str) -> None:
        self.name = self.path = path


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def eventually(
    true: Callable[[], object], otherwise: str | Callable[[], str], seconds: float = _SECONDS
) -> None:
    """Wait until something is true; what to say if it does not become so."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(0.1)


def sweep() -> None:
    """Clear up after test runs that were killed: a machine's directory is named after the process that made it."""
    for directory in glob.glob(f"/tmp/{_PREFIX}*-*"):
        pid = os.path.basename(directory).removeprefix(_PREFIX).partition("-")[0]
        if os.path.exists(f"/proc/{pid}"):
            continue
        lab = (Path(directory) / _LAB).read_text()
        for namespace in glob.glob(f"/run/netns/{lab}-*"):
            subprocess.run(["ip", "netns", "delete", os.path.basename(namespace)], check=False)
        clear(directory)


def clear(directory: str) -> None:
    """Remove what a machine that is off has left: its cgroups and its directory."""
    name = os.path.basename(directory)
    for top in (path for place in _CGROUPS for path in glob.glob(f"{place}/{name}")):
        for folder, _, _ in os.walk(top, topdown=False):
            os.rmdir(folder)
    shutil.rmtree(directory)
