"""A clean Debian root that nothing but its packages is in, and running commands in it without touching the machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import wheels

_SECONDS = 600
# Mounts, processes and network of its own: what is run sees neither the machine's interfaces nor its processes, and
# all of it ends with the command.
_APART = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private")
_ENTER = """
mount -t proc proc "$0/proc"
mount -t sysfs -o ro sysfs "$0/sys"
mount -t tmpfs -o mode=0755 tmpfs "$0/run"
exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
"""


class Root:
    """A root directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *command: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        words = [f"{name}={value}" for name, value in variables.items()]
        return subprocess.run(
            [*_APART, "sh", "-ec", _ENTER, str(self.path), *words, *command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )


@contextmanager
def clean(packages: tuple[str, ...], *, fresh: bool = False) -> Iterator[Root]:
    """A root with Debian's minimum and these packages; it goes when it is done with.

    Args:
        fresh: ask Debian's mirror again instead of taking what is in the cache.
    """
    packed = _packed(packages, fresh=fresh)
    with tempfile.TemporaryDirectory(dir=wheels.cache(), prefix=".root-") as temporary:
        path = Path(temporary) / "root"
        path.mkdir()
        unpack = ["tar", "-C", str(path), "-xf", str(packed)]
        subprocess.run(unpack, check=True)
        yield Root(path)


def _packed(packages: tuple[str, ...], *, fresh: bool) -> Path:
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    digest = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
    path = wheels.cache() / f"root-{release}-{platform.machine()}-{digest}.tar"
    with wheels.locked(wheels.cache() / "roots.lock"):
        if fresh or not path.exists():
            new = path.with_suffix(".new.tar")
            command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
            done = subprocess.run(
                [*command, release, str(new)],
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(f"{' '.join(command)}:\n{done.stderr[-4000:]}")
            new.replace(path)
    return path
