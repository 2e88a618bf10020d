"""python3 -m release.lock: writes the lock files anew, with what pip finds now for pyproject.toml's requirements."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path

from . import wheels
from .source import ROOT

# For whom packages can be built: the interpreters of Debian 12, Ubuntu 24.04 and Debian 13, on these machines.
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
_HEAD = "# Written by 'python3 -m release.lock'; wheels are taken by hash (docs/packaging.md).\n"


def write(lock: Path, requirements: list[str], directory: Path) -> None:
    """Write one lock file: each version once, with the hashes of the wheels of every interpreter and machine."""
    for python in PYTHONS:
        for machine in MACHINES:
            _download(requirements, python, machine, directory)
    versions: dict[str, set[str]] = defaultdict(set)
    hashes: dict[str, set[str]] = defaultdict(set)
    for wheel in directory.glob("*.whl"):
        name, version = wheel.name.split("-")[:2]
        versions[name].add(version)
        hashes[name].add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    torn = {name: found for name, found in versions.items() if len(found) > 1}
    if torn:
        raise SystemExit(f"{lock.name}: interpreters would get different versions: {torn}")
    lines = [
        f"{name.replace('_', '-')}=={versions[name].pop()}"
        + "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(hashes[name]))
        for name in sorted(hashes, key=str.lower)
    ]
    lock.write_text(_HEAD + "\n".join(lines) + "\n")


def _download(requirements: list[str], python: str, machine: str, directory: Path) -> None:
    platforms = [word for one in _PLATFORMS for word in ("--platform", f"{one}_{machine}")]
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", *platforms,
            "--python-version", python, "--dest", str(directory), *requirements,
        ],
        check=True,
    )  # fmt: skip


def main() -> int:
    """Write all of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    development = project["project"]["optional-dependencies"]["dev"]
    for lock, requirements in (
        (wheels.RUNTIME, project["project"]["dependencies"]),
        (wheels.BUILD, project["build-system"]["requires"]),
        (wheels.COMPILER, [one for one in development if one.startswith("ziglang")]),
    ):
        with tempfile.TemporaryDirectory() as temporary:
            write(lock, requirements, Path(temporary))
        print(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
