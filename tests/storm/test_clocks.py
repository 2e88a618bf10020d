"""What a jump of the wall clock can do: only to what reads it, and that is this list and no more.

CLOCK_REALTIME cannot be set for one namespace. Clocks that count from boot can, and do in the storm's theme `clock`.
"""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Node, source

import cni_macvlan_egress
from cni_macvlan_egress.attach.roster import Roster

PACKAGE = Path(cni_macvlan_egress.__file__).parent
WALL = {"time", "time_ns", "localtime", "gmtime"}
# In verbs and daemon; the admin's commands print it only. docs/storm.md says what a jump does to each.
READERS = {
    "log.py",  # the line's own time
    "daemon/journal.py",  # the same
    "daemon/caretaker_announcer.py",  # how old an attachment is, for the first announcements
    "daemon/caretaker_names.py",  # when a name is to be asked for again
    "attach/roster.py",  # whether a directory's change may not have been the last of its moment
    "attach/policies.py",  # when a name is to be asked for again
    "attach/following.py",  # the same
    "sources/policy_watch.py",  # how long a trouble lasts, and what has just changed
}
YEAR = 365 * 86400


def readers() -> Iterator[str]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in WALL
                and isinstance(node.value, ast.Name)
                and node.value.id == "time"
            ):
                yield str(path.relative_to(PACKAGE))


def test_wall_clock_is_read_where_it_is_known_to_be() -> None:
    assert {name for name in readers() if not name.startswith("admin/")} == READERS


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_roster_misses_nothing_when_the_clock_jumps(
    node: Node, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    """The daemon's caretaker finds what has come and gone by it."""
    roster = Roster(node.state_dir)
    first, second = node.pod(), node.pod()
    off = {"conflictDetection": "off"}
    node.add(first, source("192.168.12.99/24"), conf=off).ok()
    roster.scan()
    assert len(roster.attachments) == 1
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + jump * 10**9)
    node.add(second, source("192.168.12.98/24"), conf=off).ok()
    assert roster.scan()
    assert len(roster.attachments) == 2
    node.delete(first).ok()
    assert roster.scan()
    assert len(roster.attachments) == 1


def test_record_from_another_time_is_as_good_as_any(node: Node) -> None:
    """Files that are dated in the future, as the clock had been wrong when they were written."""
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf={"conflictDetection": "off"}).ok()
    future = time.time() + YEAR
    for folder, _, names in os.walk(node.state_dir):
        for name in names:
            os.utime(os.path.join(folder, name), (future, future), follow_symlinks=False)
        os.utime(folder, (future, future))
    node.check(pod).ok()
    node.gc(pod).ok()
    node.check(pod).ok()
    node.delete(pod).ok()
    node.add(pod, source("192.168.12.99/24"), conf={"conflictDetection": "off"}).ok()
