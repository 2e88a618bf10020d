"""Aims at the system calls of one CNI call: by the executable, or inside a daemon."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from daemon.running import Daemon, Warm, eventually, make_launcher
from lab import Answer, Node, Request, within

_TRACER = str(Path(__file__).with_name("tracer.py"))
# Who counts in a daemon: not what goes on in the background.
_SERVING = ["worker", "host-local"]
# Nothing in the background either, that would change what is looked at.
QUIET = ("--announce-every", "0", "--drift", "off", "--policies", "off")


@dataclass(frozen=True)
class Point:
    """One system call of a run that changes something.

    Attributes:
        name: who does what to what, the same in every run.
        occurrence: the how many-th of that name.
    """

    name: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.name}, number {self.occurrence}"

    @property
    def by_ipam(self) -> bool:
        """Whether it is the IPAM plugin's and not ours."""
        return self.name.startswith("host-local:")


@dataclass(frozen=True)
class Run:
    """What came of a run.

    Attributes:
        answer: the plugin's; that of a killed one is of no use.
        points: the calls that change something, in order.
        hit: whether the one aimed at was met.
    """

    answer: Answer
    points: list[Point]
    hit: bool


class Orders:
    """The file that tells the tracer what to do, and the one it answers with."""

    def __init__(self, directory: Path, only: list[str] | None = None) -> None:
        self.path = directory / "orders.json"
        self._report = directory / "report.json"
        self._only = only or []
        self._serials = itertools.count(1)
        self._serial = 0

    def give(self, point: Point | None = None, **deed: str) -> None:
        """Say what is to be aimed at; without a point all is left alone."""
        self._serial = next(self._serials)
        aim = {"name": point.name, "occurrence": point.occurrence} if point else {}
        orders = {"serial": self._serial, "report": str(self._report), "only": self._only, **aim, **deed}
        self.path.write_text(json.dumps(orders))

    def obeyed(self) -> bool:
        """Whether the tracer knows of them."""
        return self._report.exists() and self._read()["serial"] == self._serial

    def told(self) -> bool:
        """Whether it has said what came of them."""
        return self.obeyed() and bool(self._read()["asked"])

    def run(self, answer: Answer) -> Run:
        """What the tracer says of a run."""
        report = self._read()
        assert report["serial"] == self._serial
        counts: Counter[str] = Counter()
        points = []
        for name in report["points"]:
            counts[name] += 1
            points.append(Point(name, counts[name]))
        return Run(answer, points, bool(report["hit"]))

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self._report.read_text()))

    @property
    def wrapper(self) -> tuple[str, ...]:
        """The command in front of what is to be traced."""
        return (sys.executable, "-ISB", _TRACER, str(self.path))


class Runner(Protocol):
    """A way to serve CNI calls in which a system call can be hit."""

    name: str

    def run(self, verb: str, request: Request, point: Point | None = None, **deed: str) -> Run:
        """Serve a call under the tracer."""

    def send(self, verb: str, request: Request) -> Answer:
        """Serve a call undisturbed."""

    def descriptors(self) -> dict[int, list[str]]:
        """The open files of the processes that stay, by process."""

    def close(self) -> None:
        """Make an end."""


class Direct:
    """The executable, a process a call.

    Args:
        wrapper: a command that starts it in other surroundings.
    """

    name = "executable"

    def __init__(self, node: Node, directory: Path, wrapper: tuple[str, ...] = ()) -> None:
        self._node = node
        directory.mkdir(mode=0o700)
        self._orders = Orders(directory)
        self._wrapper = wrapper

    def run(self, verb: str, request: Request, point: Point | None = None, **deed: str) -> Run:
        self._orders.give(point, **deed)
        answer = self._execute(verb, request, self._orders.wrapper)
        return self._orders.run(answer)

    def send(self, verb: str, request: Request) -> Answer:
        return self._execute(verb, request).check()

    def command(self, *words: str, point: Point | None = None, **deed: str) -> Run:
        """The same for a command of an administrator."""
        self._orders.give(point, **deed)
        argv = [*self._wrapper, *self._orders.wrapper, f"{self._node.bin_dir}/macvlan-egress", *words]
        done = within(
            self._node.path,
            lambda: subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60),
        )
        return self._orders.run(Answer(done.returncode, done.stdout, done.stderr))

    def descriptors(self) -> dict[int, list[str]]:
        return {}

    def close(self) -> None:
        pass

    def _execute(self, verb: str, request: Request, tracer: tuple[str, ...] = ()) -> Answer:
        environment = {"CNI_COMMAND": verb, **request.environment}
        return self._node.execute(environment, request.stdin, wrapper=(*self._wrapper, *tracer), check=False)


class TracedDaemon(Daemon):
    """A daemon that a tracer has started."""

    @property
    def pid(self) -> int:
        """Of the supervisor; the tracer has no other child."""
        return int(Path(f"/proc/{self.tracer}/task/{self.tracer}/children").read_text().split()[0])

    @property
    def tracer(self) -> int:
        """Of what runs it."""
        return super().pid


class Warmed:
    """A daemon; one that has been killed is followed by another.

    Args:
        directory: for its sockets.
        wrapper: a command that starts it in other surroundings.
    """

    name = "daemon"

    def __init__(self, node: Node, directory: Path, wrapper: tuple[str, ...] = ()) -> None:
        self._node = node
        self._directory = directory
        directory.mkdir(mode=0o700)
        self._orders = Orders(directory, _SERVING)
        self._wrapper = wrapper
        self._warm = Warm(node, make_launcher(directory / "launcher", str(directory / "daemon.sock")))
        self._daemon = self._start()

    def run(self, verb: str, request: Request, point: Point | None = None, **deed: str) -> Run:
        self._tell(point, **deed)
        environment = {"CNI_COMMAND": verb, **request.environment}
        answer = self._warm.execute(environment, request.stdin, check=False)
        run = self._report(answer)
        if run.hit and deed.get("victim") == "all":
            self._daemon.wait()
            self._daemon.close()
            self._daemon = self._start()
        eventually(self._daemon.settled, "no new worker")
        return run

    def send(self, verb: str, request: Request) -> Answer:
        return self._warm.send(verb, request)

    def descriptors(self) -> dict[int, list[str]]:
        return {pid: _descriptors(pid) for pid in self._daemon.processes()}

    def close(self) -> None:
        self._daemon.close()

    def _start(self) -> TracedDaemon:
        self._orders.give()
        wrapper = (*self._wrapper, *self._orders.wrapper)
        daemon = TracedDaemon(self._node, self._directory, *QUIET, wrapper=wrapper)
        daemon.start()
        return daemon

    def _tell(self, point: Point | None, **deed: str) -> None:
        self._orders.give(point, **deed)
        os.kill(self._daemon.tracer, signal.SIGUSR1)
        eventually(self._orders.obeyed, "the tracer does not obey")

    def _report(self, answer: Answer) -> Run:
        """The tracer's report; it writes one by itself when it has nothing left to trace."""
        with suppress(ProcessLookupError):
            os.kill(self._daemon.tracer, signal.SIGUSR2)
        eventually(self._orders.told, "the tracer gives no report")
        return self._orders.run(answer)


def _descriptors(pid: int) -> list[str]:
    """What a process has open; sockets and pipes have no names of their own."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{number}").split(":[")[0])
    return sorted(found)
