"""Direct mode, one process a call: what a pod's start and end wait for.

Beside the plugin run what its cost is made of (an interpreter that does nothing, the import of its two large
dependencies, the kernel's part) and what it is compared with (the reference plugin, written in Go).
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable

from . import calls, imports
from .calls import Installation
from .cluster import Cluster, Pod, inside
from .floor import Floor
from .process import BenchmarkError, Program, Sample
from .report import Result, Sections, milliseconds, ratio
from .sampling import Contender, Series, interleave

INTERPRETER = "python3 -I -S -c pass"
IMPORTS = "import pyroute2 and pydantic"
PLAIN_ADD = "unannotated pod: ADD"
PLAIN_DEL = "unannotated pod: DEL"
ADD = "annotated pod: ADD, conflictDetection off"
ADD_FAST = "annotated pod: ADD, conflictDetection fast"
DEL = "annotated pod: DEL"
GO_ADD = "Go macvlan, static IPAM: ADD"
GO_DEL = "Go macvlan, static IPAM: DEL"
PEER_ADD = "peer macvlan, static IPAM: ADD"
PEER_DEL = "peer macvlan, static IPAM: DEL"
KERNEL_ADD = "kernel requests alone: ADD"
KERNEL_DEL = "kernel requests alone: DEL"

# What has been promised; milliseconds or times.
PLAIN_MOST = 2.0
ADD_MOST = 60.0

_OTHER_PODS = 20
_PARTS_ROUNDS = 10
_GO = os.path.join(calls.PLUGINS, "macvlan")
_COMPILED = ("cni_macvlan_egress", "pyroute2", "pydantic")
_SOURCE, _SOURCE_FAST, _GO_SOURCE, _PEER_SOURCE = (calls.near(last) for last in (99, 98, 97, 96))


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's own arguments."""
    parser.add_argument(
        "--peer-macvlan", metavar="PATH", help="another macvlan plugin to measure beside Debian's"
    )
    parser.add_argument(
        "--other-pods",
        type=int,
        metavar="N",
        default=_OTHER_PODS,
        help="pods that the node runs besides (default %(default)s)",
    )


def measure(options: argparse.Namespace, check: Callable[[], None]) -> Sections:
    """Run it.

    Raises:
        BenchmarkError: something that was to be measured failed, or is missing.
    """
    for executable in (_GO, options.peer_macvlan):
        if executable and not os.access(executable, os.X_OK):
            raise BenchmarkError(
                f"there is no plugin {executable}; Debian's come with the package containernetworking-plugins"
            )
    _compile()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="macvlan-egress-bench-"))
        cluster = stack.enter_context(Cluster())
        cluster.crowd(options.other_pods)
        installation = Installation(directory)
        stack.enter_context(inside(cluster.node))  # every process starts here, as the runtime's do
        contenders = [
            *_interpreter(),
            *_plugin(installation, cluster),
            *_reference(_GO, cluster.pod("go"), _GO_SOURCE, GO_ADD, GO_DEL),
        ]
        if options.peer_macvlan:
            peer = os.path.abspath(options.peer_macvlan)
            contenders += _reference(peer, cluster.pod("peer"), _PEER_SOURCE, PEER_ADD, PEER_DEL)
        floor = stack.enter_context(_floor(installation, cluster))
        contenders += [Contender(KERNEL_ADD, floor.add), Contender(KERNEL_DEL, floor.delete)]
        found = interleave(contenders, options.rounds, check)
        parts = _parts(installation, cluster.pod("parts"), options.rounds)
    return Sections(
        (
            ("Whole calls", _result(found, floor.requests, options.other_pods)),
            (
                "Where an ADD's time goes",
                imports.result(parts, found[INTERPRETER].median, found[ADD].median),
            ),
        )
    )


def _parts(installation: Installation, pod: Pod, rounds: int) -> dict[str, float]:
    add, delete = (
        installation.call(verb, pod, calls.source(_SOURCE), conflictDetection="off")
        for verb in ("ADD", "DEL")
    )
    return imports.shares(add, delete, min(rounds, _PARTS_ROUNDS))


def _compile() -> None:
    """Write the byte code that an installation has; the launcher's -B would compile at every execution."""
    for name in _COMPILED:
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            compileall.compile_dir(folder, quiet=2)


def _interpreter() -> list[Contender]:
    """Python alone, and Python with what the plugin imports; the latter ends as abruptly as the plugin."""
    found = [importlib.util.find_spec(name) for name in ("pyroute2", "pydantic", "pydantic_core")]
    folders = {os.path.dirname(os.path.dirname(str(spec.origin))) for spec in found if spec}
    code = (
        f"import sys; sys.path += {sorted(folders)!r}; from pyroute2 import IPRoute; "
        "from pydantic import BaseModel; import posix; posix._exit(0)"
    )
    return [
        _contender(INTERPRETER, Program((sys.executable, "-I", "-S", "-c", "pass"), {})),
        _contender(IMPORTS, Program((sys.executable, "-IBS", "-c", code), {})),
    ]


def _plugin(installation: Installation, cluster: Cluster) -> list[Contender]:
    plain = cluster.pod("plain")
    pod, probed = cluster.pod("off"), cluster.pod("fast")
    off, fast = {"conflictDetection": "off"}, {"conflictDetection": "fast"}
    wanted, other = calls.source(_SOURCE), calls.source(_SOURCE_FAST)
    same = _expect(lambda output: json.loads(output) == plain.previous, "prevResult unchanged")
    attached = _expect(lambda output: b'"macvlan0"' in output, "an interface macvlan0")
    return [
        _contender(PLAIN_ADD, installation.call("ADD", plain, {}), same),
        _contender(PLAIN_DEL, installation.call("DEL", plain, {})),
        _contender(ADD, installation.call("ADD", pod, wanted, **off), attached),
        _contender(DEL, installation.call("DEL", pod, wanted, **off)),
        _contender(ADD_FAST, installation.call("ADD", probed, other, **fast), attached),
        _contender(DEL, installation.call("DEL", probed, other, **fast)),
    ]


def _reference(executable: str, pod: Pod, where: calls.Place, add: str, delete: str) -> list[Contender]:
    attached = _expect(lambda output: b'"net1"' in output, "an interface net1")
    return [
        _contender(add, calls.macvlan(executable, "ADD", pod, where), attached),
        _contender(delete, calls.macvlan(executable, "DEL", pod, where)),
    ]


def _floor(installation: Installation, cluster: Cluster) -> Floor:
    """Attach a pod once to see what is asked of the kernel, then ask for the same in another."""
    model = cluster.pod("model")
    conf = {"conflictDetection": "off"}
    installation.call("ADD", model, calls.source(_SOURCE), **conf).run()
    attached = model.namespace.facts()
    installation.call("DEL", model, calls.source(_SOURCE), **conf).run()
    return Floor(cluster, cluster.pod("kernel"), attached, "macvlan0")


def _contender(name: str, program: Program, look: Callable[[bytes], None] | None = None) -> Contender:
    def take() -> Sample:
        sample, output = program.run()
        if look is not None:
            look(output)
        return sample

    return Contender(name, take)


def _expect(holds: Callable[[bytes], bool], what: str) -> Callable[[bytes], None]:
    def look(output: bytes) -> None:
        if not holds(output):
            raise BenchmarkError(f"{what} was expected, the answer is: {output.decode(errors='replace')}")

    return look


def _result(found: dict[str, Series], requests: str, other_pods: int) -> Result:
    def row(name: str) -> tuple[str, ...]:
        series = found[name]
        base = {"ADD": GO_ADD, "DEL": GO_DEL}.get(name.partition(": ")[2][:3])
        return (
            name,
            milliseconds(series.median),
            milliseconds(series.p99),
            milliseconds(series.cpu),
            ratio(series.median, found[INTERPRETER].median),
            ratio(series.median, found[base].median) if base else "",
        )

    times = found[PLAIN_ADD].median / found[INTERPRETER].median
    above = found[ADD].median - found[IMPORTS].median
    above_cpu = found[ADD].cpu - found[IMPORTS].cpu
    return Result(
        ("process, start to end", "median ms", "p99 ms", "CPU ms", "× interpreter", "× Go macvlan"),
        [row(name) for name in found],
        (
            f"ADD of an unannotated pod: {times:.2f} × the bare interpreter; promised: at most {PLAIN_MOST}. "
            f"{_verdict(times <= PLAIN_MOST)}",
            f"ADD of an annotated pod, conflict detection off: {above:.1f} ms ({above_cpu:.1f} ms of processor time) "
            f"above importing pyroute2 and pydantic; promised: at most {ADD_MOST:.0f}. "
            f"{_verdict(above <= ADD_MOST)}",
            f"The kernel requests of an ADD are: {requests}. They are made in the benchmark's own process, "
            "by sockets that are open already.",
            f"The node runs {other_pods} other pods.",
        ),
    )


def _verdict(kept: bool) -> str:
    return "Kept." if kept else "Not kept."
