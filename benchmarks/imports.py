"""Where the time of one execution goes: what it imports, by package, and the rest."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import defaultdict

from .process import BenchmarkError, Program
from .report import Result, milliseconds

_OURS = "cni_macvlan_egress"
_PYDANTIC = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection")
_STANDARD = "standard library"
_FLAGS = ("-X", "importtime", "-IBS")  # the launcher's own flags behind


def shares(program: Program, undo: Program, rounds: int) -> dict[str, float]:
    """Milliseconds of importing, by package: the median over executions of what `-X importtime` says of each.

    Args:
        program: an execution of the plugin in direct mode.
        undo: what is executed after each.

    Raises:
        BenchmarkError: it failed.
    """
    found = defaultdict(list)
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, *_FLAGS, *program.argv],
            input=program.stdin,
            env=dict(program.environment),
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise BenchmarkError(f"{' '.join(program.argv)}: {done.stdout.decode(errors='replace')}")
        undo.run()
        sums: defaultdict[str, float] = defaultdict(float)
        for line in done.stderr.decode(errors="replace").splitlines():
            own, _, name = line.removeprefix("import time:").partition("|")
            if own.strip().isdigit():
                sums[_package(name.rpartition("|")[2].strip())] += int(own) / 1e3
        for package, milliseconds_ in sums.items():
            found[package].append(milliseconds_)
    return {package: statistics.median(times) for package, times in found.items()}


def result(found: dict[str, float], interpreter: float, whole: float) -> Result:
    """A table of what a whole execution consists of."""
    rows = [
        ("the interpreter's own start and end", interpreter),
        *((f"importing {name}", found.get(name, 0.0)) for name in ("pydantic", _STANDARD, "the plugin")),
    ]
    rows.append(("all else: schemas, decisions, the kernel, files", whole - sum(time for _, time in rows)))
    return Result(
        ("part of an annotated pod's ADD", "ms", "% of it"),
        [(name, milliseconds(time), f"{100 * time / whole:.0f}") for name, time in [*rows, ("all", whole)]],
    )


def _package(module: str) -> str:
    top = module.partition(".")[0]
    if top in _PYDANTIC:
        return "pydantic"
    return "the plugin" if top == _OURS else _STANDARD
