"""The wheels that go into a package or build it: exactly those that a lock file names, by hash, from a cache.

A directory of the cache is complete or absent, so that once there nothing is asked of the network again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RUNTIME = Path(__file__).with_name("runtime.lock")
BUILD = Path(__file__).with_name("build.lock")
COMPILER = Path(__file__).with_name("compiler.lock")
_SECONDS = 900


def cache() -> Path:
    """Where downloads and clean roots are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(base) / "cni-macvlan-egress"
    path.mkdir(parents=True, exist_ok=True)
    return path


def gather(lock: Path, offered: Path | None = None) -> list[Path]:
    """The lock's wheels for this interpreter and machine, downloaded if the cache has them not.

    Args:
        lock: requirements with hashes, as pip reads them.
        offered: a directory of wheels to take them from instead of the network; hashes count all the same.

    Raises:
        SystemExit: pip cannot get them.
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    machine = f"cp{sys.version_info.major}{sys.version_info.minor}-{platform.machine()}"
    directory = cache() / f"{lock.stem}-{machine}-{digest}"
    with locked(cache() / "wheels.lock"):
        if not directory.is_dir():
            with tempfile.TemporaryDirectory(dir=cache(), prefix=".wheels-") as temporary:
                download = Path(temporary) / "wheels"
                _download(lock, download, offered)
                download.rename(directory)
    return sorted(directory.glob("*.whl"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time fills the same place of the cache."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(lock: Path, directory: Path, offered: Path | None) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
        "--only-binary=:all:", "--dest", str(directory), "--requirement", str(lock),
    ]  # fmt: skip
    if offered:
        command += ["--no-index", "--find-links", str(offered)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode:
        raise SystemExit(f"the wheels of {lock.name} cannot be had:\n{done.stderr.strip()}")
