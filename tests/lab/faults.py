"""System calls of the plugin that die or fail: which there are, and how to hit one of them.

strace counts calls for each thread by itself. A call can be hit if it is the first of all threads' to be the
n-th of its kind; `changes` lists these. What stands behind an earlier thread's n-th call cannot be aimed at.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .answer import Answer
from .request import Request

if TYPE_CHECKING:
    from .node import Node

_CALL = re.compile(r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)")
_THREAD = re.compile(r"^\d+")
_MESSAGE = re.compile(r"nlmsg_len=(\d+), nlmsg_type=(\w+)")
# Container IDs, lock numbers and names of namespaces differ from pod to pod.
_VARIABLE = re.compile(r"[0-9a-f]{12,}|(?<=attachment-)\d+|(?<=-pod)\d+|(?<=^#)\d+|(?<=/#)\d+")
_DESCRIPTOR = re.compile(r"^\d+ +\w+\(\d+<(/[^>]*)>")
_PATH = re.compile(r'"(/[^"]*|\.\./[^"]*)"')
# rtnetlink's numbers come in fours: NEW, DEL, GET, SET. strace shows a number where it cannot see a socket's
# protocol, because the socket is in another namespace.
_GET = 2
# A sysctl whose lock is taken begins anew (restart_syscall() of rtnl_trylock()); strace shows, and counts, it twice.
_BEGUN_ANEW = " = ? ERESTART"
_ATTEMPTS = 6


@dataclass(frozen=True)
class Point:
    """One system call of a run.

    Attributes:
        call: its name.
        number: the how many-th of its thread.
        what: what it is about, the same in every run.
    """

    call: str
    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.call} number {self.number}: {self.what}"


def changes(node: Node, request: Request, *calls: str, verb: str = "ADD") -> list[Point]:
    """Those calls of an ADD or DEL that change something, by running it; nothing stays."""
    trace = _trace(node)
    if verb == "DEL":
        node.send("ADD", request).ok()
    _execute(node, verb, request, ",".join(calls)).ok()
    if verb == "ADD":
        node.send("DEL", request).ok()
    counted: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    points = []
    for thread, call, what, succeeded in _calls(trace):
        counted[f"{thread} {call}"] += 1
        number = counted[f"{thread} {call}"]
        if number <= reached[call]:
            continue
        reached[call] = number
        if succeeded and _is_change(call, what):
            points.append(Point(call, number, what))
    return points


def kill_at(node: Node, request: Request, point: Point, verb: str = "ADD") -> None:
    """Run an ADD or DEL that is killed just before a call is carried out.

    On a busy machine a thread may make a call more before it, or one anew; what that left is removed, and it starts
    again.
    """
    trace = _trace(node)
    for _ in range(_ATTEMPTS):
        answer = _execute(node, verb, request, point.call, f"signal=KILL:when={point.number}")
        assert answer.status != 0, f"not killed at {point}"
        hit = list(_calls(trace))[-1]
        if hit[1:3] == (point.call, point.what):
            return
        node.send("DEL", request).ok()
        if verb == "DEL":
            node.send("ADD", request).ok()
    raise AssertionError(f"killed at {hit}, not at {point}")


def fail_at(node: Node, request: Request, point: Point, error: str) -> tuple[Answer, int]:
    """Run an ADD in which a call fails; once more if another one was hit, as in kill_at().

    Returns:
        The answer, and how many calls failed: a thread of the undoing that comes as far is hit as well.
    """
    trace = _trace(node)
    for _ in range(_ATTEMPTS):
        answer = _execute(node, "ADD", request, point.call, f"error={error}:when={point.number}")
        with open(trace) as handle:
            injected = [line for line in handle if "(INJECTED)" in line]
        if injected and _what(injected[0]) == point.what:
            return answer, len(injected)
        node.send("DEL", request).ok()
    raise AssertionError(f"{injected or 'nothing'} failed, not {point}")


def _trace(node: Node) -> str:
    return f"{node.directory}/trace"


def _execute(node: Node, verb: str, request: Request, calls: str, injection: str = "") -> Answer:
    trace = _trace(node)
    wrapper = ["strace", "-f", "-qq", "-y", "-s", "256", "-o", trace, "-e", f"trace={calls}"]
    if "signal" not in injection:
        wrapper.append("--seccomp-bpf")  # faster, but a signal is lost at such a stop
    if injection:
        wrapper += ["-e", f"inject={calls}:{injection}"]
    environment = {"CNI_COMMAND": verb, **request.environment}
    return node.execute(environment, request.stdin, wrapper=tuple(wrapper), check=False)


def _calls(trace: str) -> Iterator[tuple[str, str, str, bool]]:
    """Thread, name, object and success of every call, in order."""
    with open(trace) as handle:
        for line in handle:
            if (found := _CALL.match(line)) and _BEGUN_ANEW not in line:
                thread = _THREAD.match(line)
                yield thread[0] if thread else "", found["name"], _what(line), " = -1 " not in line


def _what(line: str) -> str:
    if message := _MESSAGE.search(line):
        return f"netlink message {message[2]} of {message[1]} bytes"
    descriptor = _DESCRIPTOR.search(line)
    found = [descriptor[1]] if descriptor else _PATH.findall(line)
    names = [os.path.basename(_VARIABLE.sub("N", path)) for path in found]
    return " ".join(names) + (" O_CREAT" if "O_CREAT" in line else "")


def _is_change(call: str, what: str) -> bool:
    if call == "openat":
        return "O_CREAT" in what
    if message := re.match(r"netlink message (\w+)", what):
        name = message[1]
        return int(name, 16) % 4 != _GET if name.startswith("0x") else not name.startswith("RTM_GET")
    return bool(what) or call == "sendto"
