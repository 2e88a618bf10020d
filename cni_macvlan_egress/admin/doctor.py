"""`macvlan-egress doctor`: what keeps this node from attaching pods, and what to do about it. Changes nothing."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..model.keys import DEFAULT_LOG_FILE, DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, nearest
from ..sources.conflists import DIRECTORY
from .examination.finding import RANK, STATUS, Finding

# area: its modules in the package examination
_MODULES = {
    "kernel": ("kernel_features",),
    "nic": ("nics",),
    "runtime": ("runtimes",),
    "executable": ("executables",),
    "conflist": ("conflists", "policies"),
    "state": ("storage", "leftovers", "enforcement"),
    "clock": ("clock",),
}
_EXIT = (
    "exit status: 0 all is well, or notes only; 1 warnings; 2 errors. docs/doctor.md explains every finding."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EXIT
    parser.add_argument(
        "areas", nargs="*", metavar="AREA", help=f"look at these only: {', '.join(_MODULES)} (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("-q", "--quiet", action="store_true", help="leave out what is well")
    parser.add_argument(
        "--root",
        default="/",
        metavar="DIR",
        help="where the node's file system is mounted (default: %(default)s)",
    )
    for option, default in (
        ("--cni-dir", f"the runtime's, else {DIRECTORY}"),
        ("--bin-dir", "the runtime's, else /opt/cni/bin"),
        ("--state-dir", f"stateDir of the entry, else {DEFAULT_STATE_DIR}"),
        ("--run-dir", f"runDir of the entry, else {DEFAULT_RUN_DIR}"),
    ):
        parser.add_argument(option, default="", metavar="DIR", help=f"default: {default}")
    parser.add_argument(
        "--log-file",
        default="",
        metavar="FILE",
        help=f"default: logFile of the entry, else {DEFAULT_LOG_FILE}",
    )


def run(arguments: argparse.Namespace) -> int:
    """Look at everything, and print what was found."""
    unknown = [one for one in arguments.areas if one not in _MODULES]
    if unknown:
        sys.stderr.write(
            f"macvlan-egress doctor: there is no area {unknown[0]!r}{nearest(unknown[0], _MODULES)}\n"
        )
        return 2
    found = [one for one in _examine(arguments) if not arguments.quiet or one.severity != "ok"]
    severities = {one.severity for one in found}
    worst = next((one for one in reversed(RANK) if one in severities), RANK[0])
    if arguments.json:
        print(json.dumps({"severity": worst, "findings": [_document(one) for one in found]}, indent=2))
    else:
        from .examination.page import Page

        Page(sys.stdout).show(found)
    return STATUS[worst]


def _examine(arguments: argparse.Namespace) -> Sequence[Finding]:
    from .examination.check import examine
    from .examination.node import Node, Places
    from .progress import Progress

    places = {
        name: os.path.abspath(value) if (value := getattr(arguments, name)) else ""
        for name in ("root", "cni_dir", "bin_dir", "state_dir", "run_dir", "log_file")
    }
    modules = [name for area in _MODULES if area in (arguments.areas or _MODULES) for name in _MODULES[area]]
    checks = [
        check
        for name in modules
        for check in importlib.import_module(f".examination.{name}", __package__).CHECKS
    ]
    with Progress() as progress:
        return examine(Node(Places(**places)), checks, progress.begin)


def _document(found: Finding) -> dict[str, Any]:
    return {"area": found.area, **asdict(found)}
