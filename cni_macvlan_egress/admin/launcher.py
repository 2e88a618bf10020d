"""The executable that a node's CNI bin directory gets.

Direct mode: a file of a few lines with absolute paths: no environment variable, no site-packages scan and no virtual
environment activation stands between the runtime and the plugin. With the daemon: a native one (launcher/), whose
settings are written into it, with the other beside it for when the daemon is away.
"""

from __future__ import annotations

import argparse
import os
import platform
import struct
import sys
from typing import NamedTuple

from ..attach.files import write_atomically
from ..protocol.errors import IO_FAILURE, CniError
from .daemon import SOCKET

NAME = "macvlan-egress"
DIRECT_NAME = f"{NAME}-direct"
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


# launcher/macvlan-egress.c, `settings`: mark, socket's path, executable of direct mode, deadline in milliseconds.
_MARK = b"MVEGRESS-CONFIG\0"
_SETTINGS = struct.Struct("=108s1024sI")
_SOCKET_MAX, _DIRECT_MAX = 107, 1023
_DEADLINE_SECONDS = 90
_DEADLINE_MAX = 3600
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--write", metavar="DIRECTORY", help="write it there as macvlan-egress (usually /opt/cni/bin)"
    )
    native = parser.add_argument_group("for the daemon")
    native.add_argument(
        "--native", action="store_true", help="write the native launcher, which hands calls to the daemon"
    )
    native.add_argument(
        "--socket", default=SOCKET, metavar="PATH", help="where the daemon listens (default: %(default)s)"
    )
    direct = native.add_mutually_exclusive_group()
    direct.add_argument(
        "--direct",
        metavar="PATH",
        help=f"what serves calls while the daemon is away (default: {DIRECT_NAME}, written into the same directory)",
    )
    direct.add_argument(
        "--no-direct",
        action="store_true",
        help="nothing does: calls fail with error 11 until the daemon is back (for hosts without Python)",
    )
    native.add_argument(
        "--deadline",
        type=_deadline,
        default=_DEADLINE_SECONDS,
        metavar="SECONDS",
        help="how long the launcher waits for the daemon's answer (default: %(default)s)",
    )
    native.add_argument(
        "--machine",
        default=platform.machine(),
        help="whose launcher, as uname -m says it (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the launcher, or write it."""
    if arguments.native:
        if not arguments.write:
            raise CniError(IO_FAILURE, "--native needs --write DIRECTORY: it is no text to print")
        for path in write_native(arguments):
            print(path)
    elif arguments.write:
        print(write(arguments.write))
    else:
        print(for_this_installation(), end="")
    return 0


def write_native(arguments: argparse.Namespace) -> list[str]:
    """Put the native launcher, and the one of direct mode if that is wanted, into a directory; returns their paths.

    Raises:
        CniError: IO_FAILURE.
    """
    directory = os.path.abspath(arguments.write)
    written = []
    direct = ""
    if arguments.direct:
        direct = os.path.abspath(arguments.direct)
    elif not arguments.no_direct:
        direct = os.path.join(directory, DIRECT_NAME)
    launcher = with_settings(native(arguments.machine), arguments.socket, direct, arguments.deadline)
    if direct and not arguments.direct:
        write_atomically(direct, for_this_installation(), mode=0o755)
        written.append(direct)
    path = os.path.join(directory, NAME)
    write_atomically(path, launcher, mode=0o755)
    return [*written, path]


def with_settings(launcher: bytes, socket: str, direct: str, deadline_seconds: float) -> bytes:
    """A native launcher with a node's own settings.

    Raises:
        CniError: IO_FAILURE if one of them does not fit, or it is no launcher.
    """
    for what, path, most in (("socket", socket, _SOCKET_MAX), ("direct", direct, _DIRECT_MAX)):
        if (path or what == "socket") and (not path.startswith("/") or "\0" in path):
            raise CniError(IO_FAILURE, f"--{what}: {path!r} is not an absolute path")
        if len(os.fsencode(path)) > most:
            raise CniError(
                IO_FAILURE, f"--{what}: {path!r} has more than the {most} bytes that fit the launcher"
            )
    if launcher.count(_MARK) != 1:
        raise CniError(IO_FAILURE, "the native launcher has no place for settings: it is not this version's")
    place = _place(launcher)
    if place is None:
        raise CniError(IO_FAILURE, "the native launcher ends too early: it is damaged")
    values = _SETTINGS.pack(os.fsencode(socket), os.fsencode(direct), int(deadline_seconds * 1000))
    return launcher[: place.start] + values + launcher[place.stop :]


class Settings(NamedTuple):
    """What is written into a native launcher.

    Attributes:
        direct: what serves calls while the daemon is away; empty if nothing does.
    """

    socket: str
    direct: str


def settings_of(launcher: bytes) -> Settings | None:
    """The settings of an executable; None if it is no native launcher."""
    place = _place(launcher)
    if place is None:
        return None
    socket, direct, _ = _SETTINGS.unpack_from(launcher, place.start)
    return Settings(*(os.fsdecode(one.partition(b"\0")[0]) for one in (socket, direct)))


def without_settings(launcher: bytes) -> bytes:
    """A native launcher as far as it is the same on every node."""
    place = _place(launcher)
    return launcher if place is None else launcher[: place.start] + launcher[place.stop :]


def _place(launcher: bytes) -> range | None:
    start = launcher.find(_MARK) + len(_MARK)
    if launcher.count(_MARK) != 1 or start + _SETTINGS.size > len(launcher):
        return None
    return range(start, start + _SETTINGS.size)


def built(machine: str) -> str:
    """Where an installation has the native launcher for a kind of machine, if it has one."""
    return os.path.join(_PACKAGE, "native", f"{NAME}-{machine}")


def native(machine: str) -> bytes:
    """The native launcher as it was built; in a checkout it is built now if need be.

    Raises:
        CniError: IO_FAILURE if there is none.
    """
    path = built(machine)
    builder = os.path.join(os.path.dirname(_PACKAGE), "launcher", "build.py")
    reason = "this installation was built without a C compiler"
    source = os.path.join(os.path.dirname(builder), f"{NAME}.c")
    if os.path.exists(source) and _is_older(path, source) and machine == platform.machine():
        import subprocess

        done = subprocess.run([sys.executable, builder], capture_output=True, text=True, check=False)
        reason = done.stderr.strip() if done.returncode else reason
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise CniError(
            IO_FAILURE,
            f"there is no native launcher for {machine}: {reason}; install gcc and libc's static library (Debian: gcc "
            "libc6-dev), or 'pip install ziglang', and then the package anew",
        ) from None
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot read {path}: {error.strerror}") from None


def _is_older(path: str, source: str) -> bool:
    try:
        return os.stat(path).st_mtime < os.stat(source).st_mtime
    except OSError:
        return True


def _deadline(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= _DEADLINE_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0.1 and {_DEADLINE_MAX} seconds")
    return seconds


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
    import dns
    import pydantic_core
    import pyroute2
    import yaml

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    directories = [os.path.dirname(package)]
    for module in (dns, pydantic_core, pyroute2, yaml):
        directory = os.path.dirname(os.path.dirname(os.path.abspath(str(module.__file__))))
        if directory not in directories:
            directories.append(directory)
    return render(sys.executable, directories)


def write(directory: str) -> str:
    """Put the launcher into a CNI bin directory, atomically; returns its path."""
    path = os.path.join(directory, NAME)
    write_atomically(path, for_this_installation(), mode=0o755)
    return path
