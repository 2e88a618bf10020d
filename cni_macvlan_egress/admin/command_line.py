"""`macvlan-egress COMMAND …`: finds the command's module and runs it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from .. import __version__
from ..protocol.errors import CniError

# command: what it does; its module in this package has configure(parser) and run(arguments)
COMMANDS = {
    "daemon": "serve the native launcher's calls in a process that is warm",
    "demo": "attach pods in throwaway namespaces, with real packets, and show it",
    "launcher": "print or write the executable for a node's CNI bin directory",
    "metrics": "print what the daemon counts, as Prometheus reads it",
    "plan": "show what an ADD of a manifest's pods would do on this node; nothing is changed",
    "policy": "check, explain, show and enforce egress policies",
    "status": "show the attachments of this node, their drift and their counters",
    "validate": "check a conflist, or a pod's annotations, without touching anything",
    "version": "print the versions of the plugin and of CNI",
}
_DESCRIPTION = (
    "Gives a Kubernetes pod a fixed address on the physical network. Container runtimes run this executable with "
    "CNI_COMMAND set; without it, it is this command line."
)


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="macvlan-egress", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"macvlan-egress {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    chosen = next((word for word in arguments if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            importlib.import_module(f".{name}", __package__).configure(sub)
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
        sys.stderr.write(f"macvlan-egress {parsed.command}: {error.msg}\n")
        if error.details:
            sys.stderr.write(f"  {error.details}\n")
        return 1
    except BrokenPipeError:
        # Whoever read along has seen enough; stdout goes nowhere now, also at exit.
        sys.stdout = None
        return 1
    return status
