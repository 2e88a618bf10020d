"""The directory of Python packages that archive and .deb bring along: ours and all that it needs, from wheels."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from .source import PACKAGE

# What is told of an installation that this is not: where it came from and which files it has.
_LEFT_OUT = frozenset(("RECORD", "WHEEL", "INSTALLER", "REQUESTED", "direct_url.json", "entry_points.txt"))
# The kernel runs it as `interpreter()` names it, whatever python3 is.
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


def interpreter() -> str:
    """The interpreter's path on a node: byte code and compiled modules fit no other minor version."""
    return f"/usr/bin/python{MINOR}"


def build(directory: Path, wheels: list[Path]) -> None:
    """Unpack the wheels, and compile what they have.

    Byte code is there from the start because nothing writes it later (a call may be killed at any time), and it is
    not compared with the source, whose time and size would cost two system calls a module.
    """
    directory.mkdir(parents=True)
    for wheel in wheels:
        _unpack(wheel, directory)
    native = directory / PACKAGE / "native"
    for other in native.glob("macvlan-egress-*"):
        if other.name != f"macvlan-egress-{platform.machine()}":
            other.unlink()
    subprocess.run(
        [
            sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
            "-s", str(directory), "-p", "/", str(directory),
        ],
        check=True,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
    )  # fmt: skip


def _unpack(wheel: Path, directory: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        for member in content.infolist():
            top, _, rest = member.filename.partition("/")
            if member.is_dir() or (top.endswith(".dist-info") and rest in _LEFT_OUT):
                continue
            if top.endswith(".data"):
                _allow(wheel, rest)
                continue
            content.extract(member, directory)
            if member.external_attr >> 16 & 0o100:  # zipfile forgets what may be executed
                (directory / member.filename).chmod(0o755)


def _allow(wheel: Path, rest: str) -> None:
    """Of a wheel's other parts, pages and command lines are not needed; modules would be."""
    if rest.partition("/")[0] not in ("data", "scripts", "headers"):
        raise SystemExit(f"{wheel.name}: {rest} would belong into the library, which nothing here does")


def copied(tree: Path, to: Path, *names: str) -> None:
    """Copy pages and examples of the source tree, links as what they lead to."""
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = tree / name
        if path.is_dir():
            shutil.copytree(path, to / name, ignore=shutil.ignore_patterns("__pycache__", "debian", "*.py"))
        else:
            shutil.copy(path, to / path.name)
