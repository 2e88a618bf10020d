"""The real executable and a real daemon get inputs of the corpus, and changed ones; each is answered."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from daemon.running import Daemon, eventually
from lab import Node
from lab.snapshot import Snapshot

from cni_macvlan_egress.protocol import errors

from .target import load
from .targets import answers, call, frames

EXECUTIONS, FRAMES = 40, 250
SEED = int(os.environ.get("MACVLAN_EGRESS_FUZZ_SEED", "1"))
# The whole file system is read-only but for one directory; of what is mounted, /run, /tmp and /dev/shm too.
CLOSED = """
set -e
mount --make-rprivate /
mount --bind "$0" "$0"
for place in / /run /tmp /dev/shm; do mountpoint -q $place && mount -o remount,bind,ro $place; done
exec "$@"
"""


@pytest.fixture
def closed(node: Node) -> tuple[str, ...]:
    """In front of a command: it can write to the node's directory alone."""
    return ("unshare", "--mount", "--propagation", "unchanged", "sh", "-c", CLOSED, node.directory)


def some_of(name: str, count: int) -> Iterator[bytes]:
    """Inputs of a target's corpus, every other one changed."""
    target, random = load(name), Random(f"{name} {SEED}")
    kept = [path.read_bytes() for path in target.corpus()]
    for number in range(count):
        data = random.choice(kept)
        yield target.mutated(target.mutated(data, random), random) if number % 2 else data


def of_node(node: Node, data: bytes) -> bytes:
    """The input, with the node's directory where the enclosure's was; of the same length in no case."""
    return data.replace(b"/run/fuzz", node.directory.encode())


def harmless(variables: dict[str, str]) -> dict[str, str]:
    """Those that a process can be given, and without leave to attach the node's own namespace to itself."""
    return {
        name: value
        for name, value in variables.items()
        if name not in ("", "CNI_NETNS_OVERRIDE") and "\0" not in name
    }


def state_of(node: Node) -> Snapshot:
    return {key: value for key, value in node.snapshot().items() if key != "state"}


def test_executable_answers_whatever_it_is_asked(node: Node, closed: tuple[str, ...]) -> None:
    before = state_of(node)
    for data in some_of("call", EXECUTIONS):
        variables, stdin = call.read(of_node(node, data))
        variables = harmless(variables)
        if "CNI_COMMAND" not in variables:
            continue
        answer = node.execute(variables, stdin, wrapper=closed, check=False)
        assert "Traceback" not in answer.stderr, (SEED, data, answer)
        answers.check(variables, stdin, (answer.status, answer.stdout, answer.stderr), [])
        if answer.status:
            assert json.loads(answer.stdout)["code"] != errors.INTERNAL, (SEED, data, answer)
    assert state_of(node) == before


def test_daemon_outlives_whatever_is_sent_to_it(node: Node, tmp_path: Path, closed: tuple[str, ...]) -> None:
    directory = Path(node.directory) / "daemon"
    daemon = Daemon(node, directory, wrapper=closed).start()
    try:
        workers, before = daemon.workers(), state_of(node)
        for data in some_of("frames", FRAMES):
            _send(daemon, of_node_framed(node, data))
        answer = _send(daemon, frames.framed({"CNI_COMMAND": "VERSION"}, b""))
        assert b"supportedVersions" in answer
        assert daemon.workers() == workers
        assert daemon.metric("workers_replaced_total") == 0
        eventually(lambda: daemon.metric("calls_in_progress") == 0, "calls go on")
        assert [line for line in daemon.log if line["level"] == "error"] == []
        assert state_of(node) == before
    finally:
        daemon.close()


def of_node_framed(node: Node, data: bytes) -> bytes:
    """The frame, if it is a good one with the node's directory in it."""
    good = frames.parts(data)
    if good is None:
        return data
    variables, stdin = good
    variables = harmless(variables)
    moved = {name: value.replace("/run/fuzz", node.directory) for name, value in variables.items()}
    return frames.framed(moved, of_node(node, stdin))


def _send(daemon: Daemon, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(daemon.socket)
        with suppress(ConnectionError):
            sock.sendall(data)
            if frames.parts(data) is None:  # else it would look as if the caller had gone
                sock.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
            if answer[10:] and b'"code": 199' in answer:
                raise AssertionError(f"seed {SEED}: {data!r}: {answer!r}")
            return answer
    return b""
