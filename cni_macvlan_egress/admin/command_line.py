"""`macvlan-egress COMMAND …`: finds the command's module and runs it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from .. import __version__
from ..model.complaints import printable
from ..protocol.errors import CniError
from .parsing import PROGRAM, Parser

# command: what it does; its module in this package has configure(parser) and run(arguments)
COMMANDS = {
    "completion": "print a script that completes this command line in bash, zsh or fish",
    "daemon": "serve the native launcher's calls in a process that is warm",
    "demo": "attach pods in throwaway namespaces, with real packets, and show it",
    "doctor": "look for what keeps this node from attaching pods, with a cure for each finding",
    "install": "put the plugin into this node's conflist",
    "launcher": "print or write the executable for a node's CNI bin directory",
    "manual": "print the manual page",
    "metrics": "print what the daemon counts, as Prometheus reads it",
    "migrate": "turn OpenShift egress routers into unprivileged pods",
    "plan": "show what an ADD of a manifest's pods would do on this node; nothing is changed",
    "policy": "check, explain, show and enforce egress policies",
    "status": "show the attachments of this node, their drift and their counters",
    "uninstall": "take the plugin out of this node's conflist",
    "validate": "check a conflist, or a pod's annotations, without touching anything",
    "version": "print the versions of the plugin and of CNI",
}
_DESCRIPTION = (
    "Gives a Kubernetes pod a fixed address on the physical network. Container runtimes run this executable with "
    "CNI_COMMAND set; without it, it is this command line."
)


def command_parser(*names: str) -> argparse.ArgumentParser:
    """The parser of the command line, complete for the commands that are named; without a name, for all."""
    parser = Parser(prog=PROGRAM, description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name in names or not names:
            importlib.import_module(f".{name}", __package__).configure(sub)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    chosen = next((word for word in arguments if word in COMMANDS), "")
    parser = command_parser(chosen)
    if not arguments:
        parser.print_help()
        return 2
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return 2
    try:
        status: int = importlib.import_module(f".{parsed.command}", __package__).run(parsed)
    except CniError as error:
        sys.stderr.write(f"macvlan-egress {parsed.command}: {printable(error.msg)}\n")
        if error.details:
            sys.stderr.write(f"  {printable(error.details)}\n")
        return 1
    except BrokenPipeError:
        # Whoever read along has seen enough; stdout goes nowhere now, also at exit.
        sys.stdout = None
        return 1
    except OSError as error:  # such as a disk that is full under stdout
        sys.stderr.write(f"macvlan-egress {parsed.command}: {printable(str(error))}\n")
        return 1
    return status
