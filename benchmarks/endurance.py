"""The daemon in the long run: many attachments at a time, and many after each other."""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial

from . import calls
from .burst import at_once
from .calls import Installation
from .cluster import Cluster, Pod, inside
from .process import Program
from .report import Result, milliseconds
from .warm_daemon import Daemon

_HELD = 1000
_CYCLES = 20_000
_QUICK_HELD, _QUICK_CYCLES = 20, 40
_BLOCKS = 10
_SIDE_BY_SIDE = 50
_PEER_EVERY = 10  # attachments; the peer is called that often on the node as it is then
_PEER = os.path.join(calls.PLUGINS, "macvlan")
_OFF = {"conflictDetection": "off"}
_MIB, _KIB = 1 << 20, 1 << 10
# What has been promised.
_MEMORY_MOST = 60 * _MIB
_ATTACHMENT_MOST = 4 * _KIB


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's own arguments."""
    parser.add_argument(
        "--held", type=int, default=_HELD, metavar="N", help="pods attached at a time (default %(default)s)"
    )
    parser.add_argument(
        "--cycles", type=int, default=_CYCLES, metavar="N", help="ADDs and DELs in all (default %(default)s)"
    )


def measure(options: argparse.Namespace, check: Callable[[], None]) -> Result:
    """Run it.

    Raises:
        BenchmarkError: a call failed.
    """
    held, cycles = (_QUICK_HELD, _QUICK_CYCLES) if options.quick else (options.held, options.cycles)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="macvlan-egress-bench-"))
        cluster = stack.enter_context(Cluster())
        pods = []
        for number in range(held):
            check()
            pods.append(cluster.pod(f"pod{number}"))
        peer = _Peer(cluster.pod("peer")) if os.path.exists(_PEER) else None
        stack.enter_context(inside(cluster.node))
        daemon = stack.enter_context(Daemon(directory))
        installation = Installation(os.path.join(directory, "plugin"), daemon.socket)
        make = partial(_call, installation)
        warm_up = min(held, _SIDE_BY_SIDE)
        _cycle(make, pods[:warm_up], 2, check)
        before = daemon.memory()
        rows = [_held_row(make, pods, block, daemon, peer, check) for block in _blocks(held)]
        full = daemon.memory()
        for number, pod in enumerate(pods):
            check()
            make("DEL", number, pod).run()
        rows += [_cycle_row(make, pods[:warm_up], done, daemon, check) for done in _tenths(cycles, warm_up)]
    return Result(
        (
            "state",
            "median ADD ms",
            "Go macvlan",
            "× of it",
            "memory MiB",
            "open files",
            "threads",
            "namespaces",
        ),
        rows,
        (
            f"Memory (proportional set size of all its processes) with {held} attachments: {full / _MIB:.1f} MiB, "
            f"{(full - before) / held / _KIB:.1f} KiB an attachment more than without; promised: at most "
            f"{_MEMORY_MOST // _MIB} MiB and {_ATTACHMENT_MOST // _KIB} KiB an attachment. "
            f"{'Kept.' if full <= _MEMORY_MOST + held * _ATTACHMENT_MOST else 'Not kept.'}",
            f"Go macvlan's ADD is measured in the same minutes, with each {_PEER_EVERY}th attachment: what the kernel "
            "takes longer for with each macvlan, such as a broadcast to all of them, is in both columns.",
            f"In the cycles, {warm_up} pods are attached at once and then detached at once; there is no median of "
            "single calls then.",
        ),
    )


def _call(installation: Installation, verb: str, number: int, pod: Pod) -> Program:
    return installation.call(verb, pod, calls.source(calls.far(number)), **_OFF)


def _blocks(count: int) -> list[range]:
    size = max(1, count // _BLOCKS)
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _tenths(cycles: int, at_a_time: int) -> list[tuple[int, int]]:
    """How many times all are attached and detached, and how many cycles that makes in all so far."""
    turns = max(_BLOCKS, cycles // at_a_time)
    return [(turns // _BLOCKS, turns // _BLOCKS * at_a_time * (tenth + 1)) for tenth in range(_BLOCKS)]


class _Peer:
    """Go's macvlan plugin, attaching one pod time and again beside all that are attached."""

    def __init__(self, pod: Pod) -> None:
        self._add, self._delete = (calls.macvlan(_PEER, verb, pod, calls.near(97)) for verb in ("ADD", "DEL"))

    def add(self) -> float:
        """Seconds that an ADD takes; it is undone."""
        wall = self._add.run()[0].wall
        self._delete.run()
        return wall


def _held_row(
    make: Callable[[str, int, Pod], Program],
    pods: Sequence[Pod],
    block: range,
    daemon: Daemon,
    peer: _Peer | None,
    check: Callable[[], None],
) -> tuple[str, ...]:
    walls, peers = [], []
    for number in block:
        check()
        walls.append(make("ADD", number, pods[number]).run()[0].wall)
        if peer and number % _PEER_EVERY == 0:
            peers.append(peer.add())
    ours = statistics.median(walls)
    beside = (
        (milliseconds(statistics.median(peers)), f"{ours / statistics.median(peers):.2f}")
        if peers
        else ("", "")
    )
    return (f"{block.stop:,} attachments", milliseconds(ours), *beside, *_figures(daemon))


def _cycle_row(
    make: Callable[[str, int, Pod], Program],
    pods: Sequence[Pod],
    done: tuple[int, int],
    daemon: Daemon,
    check: Callable[[], None],
) -> tuple[str, ...]:
    turns, total = done
    _cycle(make, pods, turns, check)
    return (f"after {total:,} cycles", "", "", "", *_figures(daemon))


def _cycle(
    make: Callable[[str, int, Pod], Program], pods: Sequence[Pod], turns: int, check: Callable[[], None]
) -> None:
    programs = {verb: [make(verb, *pod) for pod in enumerate(pods)] for verb in ("ADD", "DEL")}
    for _ in range(turns):
        for verb in ("ADD", "DEL"):
            check()
            at_once(programs[verb])


def _figures(daemon: Daemon) -> tuple[str, ...]:
    return (
        f"{daemon.memory() / _MIB:.1f}",
        str(daemon.files()),
        str(daemon.threads()),
        str(daemon.namespaces()),
    )
