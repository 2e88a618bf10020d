"""Builds the native launcher: python3 launcher/build.py [--all] [--output DIRECTORY]

With the machine's own C compiler if it links statically, else with the one that the Python package ziglang brings,
which also builds for other machines. The same source and compiler give the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "macvlan-egress.c"
NATIVE = HERE.parent / "cni_macvlan_egress" / "native"
TARGETS = {"x86_64": "x86_64-linux-musl", "aarch64": "aarch64-linux-musl"}
FLAGS = (
    "-std=gnu11", "-O2", "-static", "-s", "-Wall", "-Wextra", "-fno-ident", "-fstack-protector-strong",
    f"-ffile-prefix-map={HERE}=.", "-Wl,--build-id=none",
)  # fmt: skip


class BuildError(Exception):
    """No compiler could build it."""


def build(directory: Path, machine: str = "", *, cross: bool = False) -> Path:
    """Build it for a machine, by default this one; returns the executable's path.

    Args:
        machine: as `uname -m` says it, a key of TARGETS.
        cross: use ziglang only, so that every machine gets the same bytes.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    machine = machine or platform.machine()
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"macvlan-egress-{machine}"
    reasons = []
    for command in _compilers(machine, cross=cross):
        temporary = target.with_suffix(".new")
        done = subprocess.run(
            [*command, *FLAGS, "-o", str(temporary), str(SOURCE)],
            env={**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            temporary.chmod(0o755)
            temporary.replace(target)
            return target
        reasons.append(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    raise BuildError(
        "\n".join(reasons) or f"there is no compiler for {machine}: install gcc, or ziglang with pip"
    )


def _compilers(machine: str, *, cross: bool) -> list[list[str]]:
    found = []
    own = shutil.which(os.environ.get("CC") or "cc")
    if own and machine == platform.machine() and not cross:
        found.append([own])
    if machine in TARGETS and importlib.util.find_spec("ziglang"):
        found.append([sys.executable, "-m", "ziglang", "cc", "-target", TARGETS[machine]])
    return found


def main() -> int:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(
        description="Build the native launcher into the package, for this machine."
    )
    parser.add_argument("--all", action="store_true", help=f"for {' and '.join(TARGETS)}, with ziglang")
    parser.add_argument(
        "--output", type=Path, default=NATIVE, metavar="DIRECTORY", help="default: %(default)s"
    )
    arguments = parser.parse_args()
    try:
        for machine in TARGETS if arguments.all else [""]:
            print(build(arguments.output, machine, cross=arguments.all))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
