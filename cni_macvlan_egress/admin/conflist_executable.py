"""The executable in a node's CNI bin directory, as install puts it there and uninstall takes it away."""

from __future__ import annotations

import argparse
import os

from ..attach.files import remove
from ..protocol.errors import IO_FAILURE, CniError
from . import launcher

BIN_DIRECTORY = "/opt/cni/bin"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the executable to install."""
    executable = parser.add_argument_group("the executable")
    executable.add_argument(
        "--bin-dir",
        default=BIN_DIRECTORY,
        metavar="DIRECTORY",
        help="where runtimes look for plugins (default: %(default)s)",
    )
    executable.add_argument(
        "--no-executable", action="store_true", help="it is there already: leave it alone"
    )
    executable.add_argument(
        "--native", action="store_true", help="the native launcher, which hands calls to the daemon"
    )
    executable.add_argument(
        "--no-direct",
        action="store_true",
        help="with --native: nothing serves calls while the daemon is away",
    )
    executable.add_argument("--socket", metavar="PATH", help="with --native: where the daemon listens")


def install(arguments: argparse.Namespace) -> list[str]:
    """Write what has been asked for; returns the paths of what was not there yet.

    Raises:
        CniError: IO_FAILURE.
    """
    directory = os.path.abspath(arguments.bin_dir)
    if not os.path.isdir(directory):
        raise CniError(
            IO_FAILURE,
            f"there is no directory {directory}; name the one where the runtime looks for plugins with --bin-dir "
            "(Debian's CRI-O and podman: /usr/lib/cni), or use --no-executable",
        )
    before = {path: _content(path) for path in paths(directory)}
    parser = argparse.ArgumentParser()
    launcher.configure(parser)
    words = ["--write", directory, *(["--native"] if arguments.native else [])]
    if arguments.native and arguments.no_direct:
        words.append("--no-direct")
    if arguments.native and arguments.socket:
        words += ["--socket", arguments.socket]
    options = parser.parse_args(words)
    written = launcher.write_native(options) if arguments.native else [launcher.write(directory)]
    return [path for path in written if before[path] != _content(path)]


def uninstall(directory: str) -> list[str]:
    """Remove what install has written; returns the paths of what was there.

    Raises:
        CniError: IO_FAILURE.
    """
    found = [path for path in paths(os.path.abspath(directory)) if os.path.lexists(path)]
    for path in found:
        remove(path)
    return found


def paths(directory: str) -> list[str]:
    """What there may be of ours in a CNI bin directory."""
    return [os.path.join(directory, name) for name in (launcher.NAME, launcher.DIRECT_NAME)]


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # it is not there; if it cannot be written either, that is told
        return None
