"""What a benchmark ran on, as far as it matters for the figures; neither names nor paths."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from importlib.metadata import version


def sentence(rounds: int) -> str:
    """One line for the documentation."""
    kernel = re.match(r"[\d.]*\d", os.uname().release)
    facts = [
        f"Linux {kernel.group() if kernel else 'of unknown version'}",
        f"{platform.python_implementation()} {platform.python_version()}",
        *(f"{name} {version(name)}" for name in ("pyroute2", "pydantic")),
        f"Debian's plugins {_plugins()}",
        f"{os.cpu_count()} cores ({platform.machine()})",
        f"state on {_file_system(tempfile.gettempdir())}",
        f"{rounds} rounds",
        f"load {os.getloadavg()[0]:.1f} at the end (the benchmark's own is about 1)",
    ]
    return ", ".join(facts) + "."


def _plugins() -> str:
    if shutil.which("dpkg-query") is None:
        return "of unknown version"
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Version}", "containernetworking-plugins"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "of unknown version"


def _file_system(directory: str) -> str:
    """The type of the file system that a directory lies on (proc(5), mountinfo)."""
    path = os.path.realpath(directory)
    best = ("", "an unknown file system")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            point = left.split()[4]
            if os.path.commonpath((point, path)) == point and len(point) >= len(best[0]):
                best = (point, right.split()[0])
    return best[1]
