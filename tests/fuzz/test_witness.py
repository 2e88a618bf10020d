"""What holds inputs to their properties can tell: it sees each kind of change, time and memory that run away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_corpus import REPOSITORY, needs_a_witness

# Each with what the witness says of it.
CHANGES = {
    "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)": "outside socket 16",
    "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)": "outside socket 17",
    "libc.setns(0, 0x40000000)": "outside setns",
    "libc.unshare(0x40000000)": "outside unshare",
    "libc.mount(b'none', b'/mnt', b'tmpfs', 0, None)": "outside mount",
    "open('/run/elsewhere', 'w')": "outside openat '/run/elsewhere'",
    "open('/run/fuzz/../elsewhere', 'w')": "outside openat '/run/fuzz/../elsewhere'",
    "open('/run/fuzz/file', 'w')": "inside openat '/run/fuzz/file'",
    "open('/run/elsewhere', 'a')": "outside log '/run/elsewhere'",
    "os.mkdir('/run/elsewhere')": "outside mkdir '/run/elsewhere'",
    "os.unlink('/run/elsewhere')": "outside unlink '/run/elsewhere'",
    "os.rename('/run/fuzz/a', '/run/b')": "outside rename '/run/fuzz/a' '/run/b'",
    "os.symlink('/etc/shadow', '/run/elsewhere')": "outside symlink '/run/elsewhere'",
    "os.execv('/bin/true', ['true'])": "outside execve",
    "os.kill(1, 0)": "outside kill 1 0",
    "threading.Thread(target=os.mkdir, args=['/run/x']).run()": "outside mkdir '/run/x'",
}
HARMLESS = (
    "open('/etc/passwd').close()",
    "os.listdir('/')",
    "os.stat('/run')",
    "socket.socketpair()",
    "os.pipe()",
)
PROGRAM = """
import ctypes, json, os, socket, sys, threading
from fuzz.examiner import Examiner
from fuzz.target import Target
libc = ctypes.CDLL(None)
def examine(data, seen):
    try:
        eval(data.decode())
    except OSError:
        pass
    print(json.dumps([data.decode(), seen()]), flush=True)
examiner = Examiner(Target("any", examine, lambda data, random: data, writes=True), cpu_seconds=1)
for words in sys.argv[1:]:
    examiner.examine(words.encode())
"""


def examined(*words: str) -> subprocess.CompletedProcess[str]:
    """Have some Python looked at as if it were what inputs lead to."""
    places = os.pathsep.join((str(REPOSITORY / "tests"), str(REPOSITORY)))
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def seen() -> dict[str, list[str]]:
    """What the witness says of each of them."""
    done = examined(*CHANGES, *HARMLESS)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@needs_a_witness
@pytest.mark.parametrize("words", CHANGES)
def test_witness_sees_what_would_change_something(seen: dict[str, list[str]], words: str) -> None:
    assert [line[: len(CHANGES[words])] for line in seen[words]] == [CHANGES[words]]
    assert not Path("/run/elsewhere").exists()


@needs_a_witness
@pytest.mark.parametrize("words", HARMLESS)
def test_witness_lets_pass_what_changes_nothing(seen: dict[str, list[str]], words: str) -> None:
    assert seen[words] == []


@needs_a_witness
@pytest.mark.parametrize(
    ("words", "name"), [("max(0 for _ in iter(int, 1))", "Endless"), ("b'x' * (200 << 20)", "Greedy")]
)
def test_time_and_memory_have_an_end(words: str, name: str) -> None:
    done = examined(words)
    assert done.returncode == 1
    assert f"limits.{name}" in done.stderr, done.stderr
