"""bin/package: builds what is given to users."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import build, source


def main() -> int:
    """Build what the command line asks for, and say where it is."""
    parser = argparse.ArgumentParser(prog="bin/package", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=source.ROOT / "dist", metavar="DIRECTORY", help="default: %(default)s"
    )
    parser.add_argument(
        "--wheels", type=Path, metavar="DIRECTORY", help="take the locked wheels from there, without network"
    )
    parser.add_argument(
        "--own-compiler",
        action="store_true",
        help="build the native launcher with this machine's C compiler, for this machine only",
    )
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for path in build.everything(arguments.output, arguments.wheels, own_compiler=arguments.own_compiler):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
