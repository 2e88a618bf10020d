"""The executable that a node's CNI bin directory gets.

A file of a few lines with absolute paths: no environment variable, no site-packages scan and no virtual
environment activation stands between the runtime and the plugin.
"""

from __future__ import annotations

import argparse
import os
import sys

from ..protocol.errors import IO_FAILURE, CniError

NAME = "macvlan-egress"
# -I: PYTHON… variables and the current directory count for nothing; -B: no byte code is written, so that a killed
# call leaves no half-written file; -S: site-packages are named below instead of being searched for.
_TEMPLATE = """\
#!{interpreter} -IBS
import sys

sys.path += {directories!r}
from cni_macvlan_egress.entry import launch

launch()
"""
# The kernel reads that much of a script's first line (BINPRM_BUF_SIZE).
_FIRST_LINE_MAX = 255


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--write", metavar="DIRECTORY", help="write it there as macvlan-egress (usually /opt/cni/bin)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the launcher, or write it."""
    if arguments.write:
        print(write(arguments.write))
    else:
        print(for_this_installation(), end="")
    return 0


def render(interpreter: str, library_directories: list[str]) -> str:
    """The launcher's text.

    Args:
        interpreter: absolute path of the Python interpreter.
        library_directories: where the package and its dependencies are, absolute paths.

    Raises:
        CniError: IO_FAILURE if the interpreter's path cannot stand in a script's first line.
    """
    if (
        not interpreter.startswith("/")
        or " " in interpreter
        or len(f"#!{interpreter} -IBS") > _FIRST_LINE_MAX
    ):
        raise CniError(
            IO_FAILURE,
            f"the interpreter's path {interpreter!r} cannot stand in a script's first line: it must be absolute, "
            "short and without spaces; make the virtual environment somewhere like /opt/cni-macvlan-egress",
        )
    return _TEMPLATE.format(interpreter=interpreter, directories=library_directories)


def for_this_installation() -> str:
    """The launcher for the interpreter and packages that run now."""
    import pydantic_core
    import pyroute2
    import yaml

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    directories = [os.path.dirname(package)]
    for module in (pydantic_core, pyroute2, yaml):
        directory = os.path.dirname(os.path.dirname(os.path.abspath(str(module.__file__))))
        if directory not in directories:
            directories.append(directory)
    return render(sys.executable, directories)


def write(directory: str) -> str:
    """Put the launcher into a CNI bin directory, atomically; returns its path."""
    from ..attach.files import write_atomically

    path = os.path.join(directory, NAME)
    write_atomically(path, for_this_installation(), mode=0o755)
    return path
