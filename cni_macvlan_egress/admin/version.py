"""`macvlan-egress version`."""

from __future__ import annotations

import argparse
import json
import platform

from .. import __version__
from ..protocol.versions import SUPPORTED


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print versions."""
    import pydantic
    import pyroute2

    versions = {
        "macvlan-egress": __version__,
        "CNI": list(SUPPORTED),
        "python": platform.python_version(),
        "pyroute2": pyroute2.__version__,
        "pydantic": pydantic.VERSION,
    }
    if arguments.json:
        print(json.dumps(versions))
        return 0
    for name, value in versions.items():
        print(f"{name:15} {', '.join(value) if isinstance(value, list) else value}")
    return 0
