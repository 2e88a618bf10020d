"""Warm mode, the daemon behind the native launcher: what a pod's start and end wait for, alone and in a crowd."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from cni_macvlan_egress.model import keys

from . import calls
from .burst import at_once
from .calls import Installation, Place
from .cluster import Cluster, Pod, inside
from .picture import distributions
from .process import BenchmarkError, Program, Sample
from .report import Result, milliseconds, ratio
from .sampling import Contender, Series, interleave
from .warm_daemon import Daemon

FAILING = "Go plugin that only fails"
PLAIN = "warm: unannotated pod"
STATIC = "warm: static address"
REDIRECT = "warm: static address, 1 destination"
MACVLAN = "Go macvlan"
BRIDGE = "Go bridge"
ROUTER = "egress-router-cni, 1 destination"
PICTURE = "warm.svg"

_PLUGINS = {name: os.path.join(calls.PLUGINS, name) for name in ("macvlan", "bridge")}
_OFF = {"conflictDetection": "off"}
_DESTINATION = "203.0.113.25"
_BURST = 100
_QUICK_BURST = 4
_BURST_ROUNDS = 10  # rounds of single calls to one of crowds

Make = Callable[[str, Pod, Place], Program]


@dataclass(frozen=True, slots=True)
class Promise:
    """A row that may take so many times as long as another one."""

    row: str
    base: str
    most: float
    cpu: bool = False

    def sentence(self, found: dict[str, Series]) -> str:
        """Whether it is kept."""
        mine, other = found[self.row], found[self.base]
        times = mine.cpu / other.cpu if self.cpu else mine.median / other.median
        what = "processor time" if self.cpu else "time"
        verdict = "Kept." if times <= self.most else "Not kept."
        return (
            f"{self.row}: {times:.2f} × the {what} of {self.base}; promised: at most {self.most}. {verdict}"
        )


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's own arguments."""
    parser.add_argument(
        "--peer-egress-router", metavar="PATH", help="egress-router-cni, to measure beside it"
    )
    parser.add_argument(
        "--burst", type=int, default=_BURST, metavar="N", help="pods attached at once (default %(default)s)"
    )


def measure(options: argparse.Namespace, check: Callable[[], None]) -> Result:
    """Run it.

    Raises:
        BenchmarkError: something that was to be measured failed, or is missing.
    """
    peer = options.peer_egress_router and os.path.abspath(options.peer_egress_router)
    for executable in (*_PLUGINS.values(), peer):
        if executable and not os.access(executable, os.X_OK):
            raise BenchmarkError(
                f"there is no plugin {executable}; Debian's come with the package containernetworking-plugins"
            )
    crowd = _QUICK_BURST if options.quick else options.burst
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="macvlan-egress-bench-"))
        cluster = stack.enter_context(Cluster())
        cluster.crowd(options.other_pods)
        pods = [cluster.pod(f"burst{number}") for number in range(crowd)]
        stack.enter_context(inside(cluster.node))
        daemon = stack.enter_context(Daemon(directory))
        ours = _Ours(Installation(os.path.join(directory, "plugin"), daemon.socket), daemon)
        contenders = _singles(ours, cluster, peer)
        found = interleave(contenders, options.rounds, check)
        turns = max(1, options.rounds // _BURST_ROUNDS)
        if options.document:
            _draw(options.document, found)
        found |= interleave(_crowds(ours, pods), turns, check)
    return _result(found, _promises(crowd, peer), options, crowd, turns)


@dataclass(frozen=True, slots=True)
class _Ours:
    """Calls of this plugin, whose work is done in the daemon's processes."""

    installation: Installation
    daemon: Daemon

    def program(self, verb: str, pod: Pod, where: Place) -> Program:
        return self.installation.call(verb, pod, calls.source(where), **_OFF)

    def contender(
        self, name: str, verb: str, pod: Pod, annotations: dict[str, str], word: bytes
    ) -> Contender:
        call = _checked(self.installation.call(verb, pod, annotations, **_OFF), word)

        def take() -> Sample:
            before = self.daemon.cpu()
            sample = call()
            return replace(sample, cpu=sample.cpu + self.daemon.cpu() - before)

        return Contender(name, take)


def _singles(ours: _Ours, cluster: Cluster, peer: str | None) -> list[Contender]:
    plain, static, redirecting = (cluster.pod(name) for name in ("plain", "static", "redirect"))
    wanted = calls.source(calls.near(99))
    forwarding = {**calls.source(calls.near(98)), f"{keys.PREFIX}destination": f"80 tcp {_DESTINATION}"}
    reference = partial(calls.macvlan, _PLUGINS["macvlan"])
    failing = replace(reference("ADD", plain, calls.near(95)), stdin=b"", fails=True)
    contenders = [
        Contender(FAILING, _checked(failing)),
        ours.contender(f"{PLAIN}: ADD", "ADD", plain, {}, b'"ips"'),
        ours.contender(f"{PLAIN}: DEL", "DEL", plain, {}, b""),
        ours.contender(f"{STATIC}: ADD", "ADD", static, wanted, b'"macvlan0"'),
        ours.contender(f"{STATIC}: DEL", "DEL", static, wanted, b""),
        ours.contender(f"{REDIRECT}: ADD", "ADD", redirecting, forwarding, b'"macvlan0"'),
        ours.contender(f"{REDIRECT}: DEL", "DEL", redirecting, forwarding, b""),
        *_pair(MACVLAN, reference, cluster.pod("macvlan"), calls.near(97)),
        *_pair(
            BRIDGE,
            partial(calls.bridge, _PLUGINS["bridge"]),
            cluster.pod("bridge"),
            Place("10.89.0.2/16", "10.89.0.1"),
        ),
    ]
    if peer:
        make = partial(calls.egress_router, peer, destination=_DESTINATION)
        contenders += _pair(ROUTER, make, cluster.pod("router"), calls.near(96))
    return contenders


def _pair(name: str, make: Make, pod: Pod, where: Place) -> list[Contender]:
    return [
        Contender(f"{name}: ADD", _checked(make("ADD", pod, where), b'"interfaces"')),
        Contender(f"{name}: DEL", _checked(make("DEL", pod, where))),
    ]


def _checked(program: Program, word: bytes = b"") -> Callable[[], Sample]:
    def take() -> Sample:
        sample, output = program.run()
        if word not in output:
            raise BenchmarkError(f"{word!r} was expected, the answer is: {output.decode(errors='replace')}")
        return sample

    return take


def _crowds(ours: _Ours, pods: Sequence[Pod]) -> list[Contender]:
    """Attach and detach many pods at once, with us and with the reference plugin in turns."""
    reference = partial(calls.macvlan, _PLUGINS["macvlan"])
    return [
        Contender(
            _crowd(name, verb, len(pods)),
            partial(at_once, [make(verb, pod, calls.far(number)) for number, pod in enumerate(pods)], served),
        )
        for name, make, served in ((STATIC, ours.program, ours.daemon.cpu), (MACVLAN, reference, None))
        for verb in ("ADD", "DEL")
    ]


def _crowd(name: str, verb: str, count: int) -> str:
    return f"{name}: {count} {verb}s at once"


def _draw(document: str, found: dict[str, Series]) -> None:
    path = os.path.join(os.path.dirname(os.path.abspath(document)), PICTURE)
    curves = {name: series for name, series in found.items() if name.endswith(("ADD", "DEL"))}
    groups = [one for one in (PLAIN, STATIC, REDIRECT, MACVLAN, BRIDGE, ROUTER) if f"{one}: ADD" in curves]
    distributions(path, "Time of one call, from start to end of its process", curves, groups)


def _promises(crowd: int, peer: str | None) -> list[Promise]:
    found = [
        Promise(f"{PLAIN}: ADD", FAILING, 1.2),
        Promise(f"{STATIC}: ADD", f"{MACVLAN}: ADD", 0.7),
        Promise(f"{STATIC}: DEL", f"{MACVLAN}: DEL", 1.0),
        Promise(f"{REDIRECT}: ADD", f"{MACVLAN}: ADD", 1.0),
    ]
    if peer:
        found.append(Promise(f"{REDIRECT}: ADD", f"{ROUTER}: ADD", 0.15))
    row, base = (_crowd(name, "ADD", crowd) for name in (STATIC, MACVLAN))
    return [*found, Promise(row, base, 0.7), Promise(row, base, 0.7, cpu=True)]


def _result(
    found: dict[str, Series], promises: Sequence[Promise], options: argparse.Namespace, crowd: int, turns: int
) -> Result:
    def row(name: str) -> tuple[str, ...]:
        series = found[name]
        own, _, verb = name.rpartition(": ")
        base = found.get(f"{MACVLAN}: {verb}")
        return (
            name,
            milliseconds(series.median),
            milliseconds(series.p99),
            milliseconds(series.cpu),
            ratio(series.median, base.median) if own and base else "",
            ratio(series.cpu, base.cpu) if own and base else "",
        )

    return Result(
        ("process, start to end", "median ms", "p99 ms", "CPU ms", "× Go macvlan", "× its CPU"),
        [row(name) for name in found],
        (
            *(promise.sentence(found) for promise in promises),
            f"The {crowd} calls at once were made {turns} times each.",
            f"The node runs {options.other_pods} other pods, and {crowd} that the calls at once are made for.",
        ),
    )
