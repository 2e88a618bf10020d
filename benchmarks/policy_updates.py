"""What a change of policy takes on a node with many pods, and what a pod's start takes there.

The pods are network namespaces with a veth to the node's bridge, each added by the plugin's own ADD while there is no
policy; one sync then holds all of them. They belong to ten namespaces, of which each has a policy; the one that is
changed has the number of rules in question, the others ten.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence

from . import policy_documents
from .cluster import Cluster, Pod, inside
from .policy_node import PolicyNode
from .process import BenchmarkError, Program, Sample
from .redirect import OUTSIDE
from .report import Result, milliseconds, ratio
from .sampling import Contender, Series, interleave

_CHANGED, _FREE = "changed", "free"
_NAMESPACES = (_CHANGED, *(f"other{number}" for number in range(9)))
_OTHER_RULES = 10
_TARGETS = (OUTSIDE, "203.0.113.26")
_PORT = 9000
_WITHOUT_KEY, _WITHOUT_POLICY = "no key policy", "a namespace without a policy"
# ru_maxrss of a child that was made by vfork counts its parent too; so the parent is one that is smaller.
_PEAK = "import os, sys; c = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ); print(os.wait4(c, 0)[2].ru_maxrss)"

Rules = Callable[[str], list[dict[str, object]]]


def measure(
    directory: str, sizes: Sequence[int], pods: int, rounds: int, check: Callable[[], None]
) -> Result:
    """Run it.

    Args:
        sizes: numbers of rules; the middle one is looked at with ports too.
        pods: how many the node has.

    Raises:
        BenchmarkError: something that was to be measured failed.
    """
    stages: dict[str, Rules] = {f"{size:,} rules": _networks(size) for size in sizes}
    middle = sizes[len(sizes) // 2]
    stages[f"{middle:,} rules with ports, of as many addresses"] = _ports(middle)
    found: dict[str, Series] = {}
    peaks: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        node = PolicyNode(os.path.join(directory, "updates"))
        stack.enter_context(inside(cluster.node))
        _fill(cluster, node, pods, check)
        starts = _Starts(node, cluster.pod("started"))
        for namespace in _NAMESPACES[1:]:
            node.documents.write(namespace, policy_documents.networks(OUTSIDE, _OTHER_RULES))
        free: list[Contender] = [
            *starts.contenders(_WITHOUT_KEY, _FREE, policies=False),
            *starts.contenders(_WITHOUT_POLICY, _FREE),
        ]
        for name, rules in stages.items():
            change = _Change(node, name, rules)
            change.make()
            node.sync()
            found |= interleave(
                [
                    *free,
                    *change.contenders(),
                    *starts.contenders(name, _CHANGED),
                ],
                rounds,
                check,
            )
            free = []
            peaks[change.command] = change.peak()
    return _result(found, peaks, pods)


class _Change:
    """A namespace whose policy is changed by one rule, again and again."""

    def __init__(self, node: PolicyNode, name: str, rules: Rules) -> None:
        self._node = node
        self._name = name
        self._documents = itertools.cycle([rules(target) for target in _TARGETS])
        self._program = node.command("sync")
        self.command = f"change: {name}: policy sync"

    def make(self) -> None:
        """Write the other of the two documents."""
        self._node.documents.write(_CHANGED, next(self._documents))

    def contenders(self) -> list[Contender]:
        """A running process, a process of its own, and the former without a change."""
        return [
            Contender(f"change: {self._name}: running process", self._warm),
            Contender(self.command, self._process),
            Contender(f"no change: {self._name}: running process", self._idle),
        ]

    def peak(self) -> int:
        """The most memory that the command holds, in KiB."""
        self.make()
        command = self._program.argv
        program = Program((sys.executable, "-ISc", _PEAK, *command), self._program.environment)
        _, output = program.run()
        return int(output.split()[-1])

    def _warm(self) -> Sample:
        self.make()
        return self._sync(1)

    def _idle(self) -> Sample:
        return self._sync(0)

    def _sync(self, expected: int) -> Sample:
        start, cpu = time.perf_counter_ns(), time.process_time_ns()
        report = self._node.sync()
        sample = Sample((time.perf_counter_ns() - start) / 1e6, (time.process_time_ns() - cpu) / 1e6)
        if len(report.changes) != expected:
            raise BenchmarkError(f"{self._name}: {expected} changes were expected, not {report.changes}")
        return sample

    def _process(self) -> Sample:
        self.make()
        sample, output = self._program.run()
        if output.count(b"\n") != 1 or b"has changed" not in output:
            raise BenchmarkError(f"{self._name}: one change was expected, not {output.decode()}")
        return sample


class _Starts:
    """Pods that start and end while the others run."""

    def __init__(self, node: PolicyNode, pod: Pod) -> None:
        self._node = node
        self._pod = pod

    def contenders(self, name: str, namespace: str, *, policies: bool = True) -> list[Contender]:
        """An ADD and its DEL."""
        add, delete = (
            self._node.call(verb, self._pod, namespace, policies=policies) for verb in ("ADD", "DEL")
        )
        return [
            Contender(f"ADD: {name}", lambda: add.run()[0]),
            Contender(f"DEL: {name}", lambda: delete.run()[0]),
        ]


def _fill(cluster: Cluster, node: PolicyNode, pods: int, check: Callable[[], None]) -> None:
    for number in range(pods):
        check()
        node.call("ADD", cluster.pod(f"pod{number}"), _NAMESPACES[number % len(_NAMESPACES)]).run()


def _networks(count: int) -> Rules:
    return lambda target: policy_documents.networks(target, count)


def _ports(count: int) -> Rules:
    return lambda target: policy_documents.of_many_addresses(target, count, _PORT)


def _result(found: dict[str, Series], peaks: dict[str, int], pods: int) -> Result:
    def row(name: str) -> tuple[str, ...]:
        one = found[name]
        peak = f"{peaks[name] / 1024:.0f}" if name in peaks else ""
        return (name, milliseconds(one.median), milliseconds(one.p99), milliseconds(one.cpu), peak)

    with_key, without = (found[f"ADD: {name}"] for name in (_WITHOUT_POLICY, _WITHOUT_KEY))
    return Result(
        ("deed", "median ms", "p99 ms", "CPU ms", "peak MiB"),
        [row(name) for name in found],
        (
            f"The node runs {pods} pods; of each {len(_NAMESPACES)} one is of the namespace that is changed.",
            "ADD of a pod that no policy concerns, beside a configuration without the key: "
            f"{ratio(with_key.median, without.median)} × the time, {ratio(with_key.cpu, without.cpu)} × the processor "
            "time.",
        ),
    )
