"""Thousands of ADDs and DELs after each other, direct and warm: what is used up must not grow with them."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import calls
from benchmarks.burst import at_once
from benchmarks.calls import Installation
from benchmarks.cluster import Cluster, Pod, inside
from benchmarks.process import Program
from benchmarks.report import Result
from benchmarks.warm_daemon import Daemon
from cni_macvlan_egress.model import keys

from . import resources

_BLOCKS = 20
_SHOWN = 10
_PODS_DIRECT, _PODS_WARM = 4, 40
_HEADINGS = (
    "cycles",
    "kernel KiB",
    "machine's slab MiB",
    "its network namespaces",
    "stray processes",
    "files",
    "network",
)
_MIB, _KIB = 1 << 20, 1 << 10
# The first blocks fill pools that stay: arenas of threads, per-CPU lists, dentries.
_WARM_UP = 4
# So often a turn is made under a policy, which puts a table on the node and takes it away again.
_HELD_EVERY = 20
# Until IPv6 addresses of new links are no longer tentative, and the daemon has all its processes.
_SETTLING_SECONDS = 5
_HELD_AT_ONCE = 4  # they wait for each other
_QUICK = {"conflictTimeoutMs": 20}
_DESTINATIONS = "443 tcp 203.0.113.25\n8000-8010 udp 203.0.113.26,203.0.113.27\n203.0.113.28"
_POLICY = {
    "apiVersion": "network.openshift.io/v1",
    "kind": "EgressNetworkPolicy",
    "metadata": {"name": "policy", "namespace": "bench"},
    "spec": {
        "egress": [
            {"type": "Allow", "to": {"cidrSelector": "203.0.113.0/24"}},
            {"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}},
        ]
    },
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What is in use between two cycles, when no call runs.

    Attributes:
        cycles: done so far.
        kernel: bytes of the kernel's memory for the harness, the calls and the daemon; None if it cannot be told.
        slab: bytes of the machine's unreclaimable slab.
        namespaces: of the kernel, the whole machine's; None if it cannot be told.
        processes: that are neither the harness nor the daemon's.
        files: in the state and the run-time directory.
        log: bytes of the log file.
        network: a fingerprint of the node and the pods.
        memory, descriptors, threads: of the daemon (memory as its proportional set size).
    """

    cycles: int
    kernel: int | None
    slab: int
    namespaces: int | None
    processes: int
    files: int
    log: int
    network: str
    memory: int = 0
    descriptors: int = 0
    threads: int = 0


def direct(cycles: int, seconds: float, check: Callable[[], None]) -> Result:
    """Run it with a process a call, until all is done or the time is over."""
    return _run(cycles, seconds, None, _PODS_DIRECT, check)


def warm(cycles: int, seconds: float, check: Callable[[], None]) -> Result:
    """Run it with a daemon."""
    return _run(cycles, seconds, Daemon, _PODS_WARM, check)


def _run(
    cycles: int,
    seconds: float,
    make_daemon: Callable[[str], Daemon] | None,
    count: int,
    check: Callable[[], None],
) -> Result:
    block = max(1, cycles // count // _BLOCKS)
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(resources.MemoryGroup())
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="macvlan-egress-storm-"))
        cluster = stack.enter_context(Cluster())
        pods = []
        for number in range(count):
            check()
            pods.append(cluster.pod(f"pod{number}"))
        stack.enter_context(inside(cluster.node))
        daemon = stack.enter_context(make_daemon(directory)) if make_daemon else None
        plugin = os.path.join(directory, "plugin")
        installation = Installation(plugin, daemon.socket if daemon else "")
        held = {"policy": {"directory": _write_policies(directory)}, "clusterNetworks": ["10.88.0.0/16"]}
        free_turn, held_turn = (
            [
                [_call(installation, verb, number, pod, **conf) for number, pod in enumerate(pods[:most])]
                for verb in ("ADD", "DEL")
            ]
            for conf, most in (({}, count), (held, _HELD_AT_ONCE))
        )
        names = [cluster.node.name, *(pod.namespace.name for pod in pods)]

        for programs in (*held_turn, *free_turn):
            at_once(programs)
        time.sleep(_SETTLING_SECONDS)
        idle = len(group.processes())

        def take(done: int) -> Sample:
            return _sample(done, group, idle, plugin, names, daemon)

        began = time.monotonic()
        samples = []
        for turn in range(max(1, cycles // count) + 1):
            is_held = turn % _HELD_EVERY == 0
            for programs in held_turn if is_held else free_turn:
                at_once(programs)
            if turn % block == 0:
                samples.append(take(turn * count))
            check()
            if time.monotonic() - began > seconds:
                break
        return _result(samples, time.monotonic() - began, daemon is not None)


def _call(installation: Installation, verb: str, number: int, pod: Pod, **conf: Any) -> Program:
    """Three kinds of pods in turn: with an address, with destinations as well, with a bare interface."""
    if number % 3 == 2:
        return installation.call(verb, pod, {keys.ASSIGN: "true"}, **_QUICK, **conf)
    annotations = calls.source(calls.far(number))
    if number % 3 == 1:
        annotations[f"{keys.PREFIX}destination"] = _DESTINATIONS
    return installation.call(verb, pod, annotations, **_QUICK, **conf)


def _write_policies(directory: str) -> str:
    policies = os.path.join(directory, "policies")
    os.mkdir(policies)
    with open(os.path.join(policies, "policy.json"), "w", encoding="ascii") as file:
        json.dump(_POLICY, file)
    return policies


def _sample(
    done: int,
    group: resources.MemoryGroup,
    idle: int,
    plugin: str,
    names: Sequence[str],
    daemon: Daemon | None,
) -> Sample:
    stray = len(group.processes()) - idle
    log = os.path.join(plugin, "plugin.log")
    return Sample(
        done,
        group.kernel(),
        resources.unreclaimable_slab(),
        resources.namespace_objects(),
        stray,
        resources.files(os.path.join(plugin, "state"), os.path.join(plugin, "run")),
        os.path.getsize(log) if os.path.exists(log) else 0,
        resources.network(names),
        daemon.memory() if daemon else 0,
        daemon.files() if daemon else 0,
        daemon.threads() if daemon else 0,
    )


def _result(samples: Sequence[Sample], seconds: float, with_daemon: bool) -> Result:
    first, last = samples[0], samples[-1]
    shown = samples[:: max(1, (len(samples) - 1) // _SHOWN)]
    headings = (*_HEADINGS, "daemon MiB", "its files", "its threads") if with_daemon else _HEADINGS
    rows = [_row(sample, first, with_daemon) for sample in shown]
    steady = samples[min(_WARM_UP, len(samples) - 2) :]
    sentences = [
        f"{last.cycles:,} cycles (ADD and DEL of one pod each) took {seconds:.0f} s.",
        f"From cycle {steady[0].cycles:,} on: {_slopes(steady, with_daemon)}.",
        f"The log grew by {(last.log - first.log) / max(1, last.cycles):.0f} bytes a cycle, as it has to.",
    ]
    return Result(headings, rows, sentences)


def _row(sample: Sample, first: Sample, with_daemon: bool) -> tuple[str, ...]:
    cells: tuple[str, ...] = (
        f"{sample.cycles:,}",
        "" if sample.kernel is None else f"{sample.kernel / _KIB:.0f}",
        f"{sample.slab / _MIB:.1f}",
        "" if sample.namespaces is None else str(sample.namespaces),
        str(sample.processes),
        str(sample.files),
        "as at first" if sample.network == first.network else "different",
    )
    if with_daemon:
        cells += (f"{sample.memory / _MIB:.2f}", str(sample.descriptors), str(sample.threads))
    return cells


def _slopes(samples: Sequence[Sample], with_daemon: bool) -> str:
    found = []
    kernel = [(one.cycles, one.kernel) for one in samples if one.kernel is not None]
    if kernel:
        found.append(f"kernel memory {resources.slope(kernel):+.2f} bytes a cycle")
    found.append(f"machine's slab {resources.slope([(one.cycles, one.slab) for one in samples]):+.0f}")
    if with_daemon:
        memory = resources.slope([(one.cycles, one.memory) for one in samples])
        files = resources.slope([(one.cycles, one.descriptors) for one in samples])
        found += [f"daemon's memory {memory:+.2f}", f"its files {files * 1000:+.2f} a thousand cycles"]
    return ", ".join(found)
