"""`python -m benchmarks`: runs benchmarks, prints what they found and puts it into the documentation."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from types import ModuleType

from cni_macvlan_egress.admin.theatre.interruption import Interrupted, Interruption
from cni_macvlan_egress.protocol.errors import CniError

from . import document, machine
from .process import BenchmarkError

BENCHMARKS = ("direct", "warm", "endurance", "failover", "redirect", "policy")
_ROUNDS = 100
_QUICK_ROUNDS = 2
_DOCUMENT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs", "benchmarks.md")


def main() -> int:
    """Run what the command line names; returns the exit status."""
    modules = {name: importlib.import_module(f".{name}", __package__) for name in BENCHMARKS}
    options = _arguments(modules)
    if os.geteuid() != 0:
        return _fail("needs root: it makes network namespaces")
    try:
        with Interruption() as interruption:
            for name in options.names or BENCHMARKS:
                result = modules[name].measure(options, interruption.check)
                text = f"{machine.sentence(options.rounds)}\n\n{result.text()}"
                print(f"{name}: {text}\n", flush=True)
                if options.document:
                    document.put(options.document, name, f"{text}\n")
    except Interrupted as interrupted:
        return interrupted.status
    except (BenchmarkError, CniError) as error:
        return _fail(str(error))
    return 0


def _arguments(modules: dict[str, ModuleType]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the plugin beside what it is compared with."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument(
        "--rounds", type=_positive, default=_ROUNDS, help="samples a row (default %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"see whether it runs: {_QUICK_ROUNDS} rounds, nothing written"
    )
    parser.add_argument(
        "--document", metavar="FILE", help="where to put the result between its markers (docs/benchmarks.md)"
    )
    for module in modules.values():
        module.configure(parser)
    options = parser.parse_args()
    for name in options.names:
        if name not in modules:
            parser.error(f"there is no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    if options.quick:
        options.rounds = _QUICK_ROUNDS
    elif options.document is None:
        options.document = _DOCUMENT
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def _fail(reason: str) -> int:
    sys.stderr.write(f"benchmarks: {reason}\n")
    return 1


sys.exit(main())
