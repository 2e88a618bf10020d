"""What a container runtime leaves outside its directory, taken away when it could not do so itself.

Everything is known by the runtime's directory, whose name is random, or by the ID of a container.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time

# A socket's path has at most 107 bytes, which is too little below pytest's own directory.
_BASE = "/tmp"
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/*")  # version 2; version 1 and both together
_RESULTS = "/var/lib/cni/results"  # libcni's cache: NETWORK-CONTAINERID-IFNAME
_RUNC = "/run/runc"  # runc's state unless it is told where else


def new_directory() -> str:
    """A directory for a runtime's configuration, state and sockets; its name is its cgroup's, too."""
    return tempfile.mkdtemp(prefix="cme-rt-", dir=_BASE)


def remove(directory: str, container_ids: list[str]) -> None:
    """Remove a runtime's directory and all that belongs to it."""
    cgroups = [path for place in _CGROUPS for path in glob.glob(f"{place}/{os.path.basename(directory)}")]
    folders = [folder for cgroup in cgroups for folder, _, _ in os.walk(cgroup, topdown=False)]
    # First the processes that watch others (shims, conmon), lest they act when those end.
    processes = [pid for pid in names("/proc/[0-9]*") if f"{directory}/" in read(f"/proc/{pid}/cmdline")]
    processes += [pid for folder in folders for pid in read(f"{folder}/cgroup.procs").split()]
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    for target in reversed([line.split()[1] for line in read("/proc/self/mounts").splitlines()]):
        if target.startswith(f"{directory}/"):
            subprocess.run(["umount", "-l", target], capture_output=True, check=False)
    for container_id in container_ids:
        shutil.rmtree(f"{_RUNC}/{container_id}", ignore_errors=True)
        for path in glob.glob(f"{_RESULTS}/*-{container_id}-*"):
            unlink(path)
    for folder in folders:
        _remove_cgroup(folder)
    shutil.rmtree(directory, ignore_errors=True)


def files(directory: str) -> list[str]:
    """Every file below a directory that need not exist."""
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names)


def names(pattern: str) -> list[str]:
    """The last parts of the paths that match."""
    return sorted(os.path.basename(path) for path in glob.glob(pattern))


def read(path: str) -> str:
    """A file's text; nothing if it is gone, as a process may be."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _remove_cgroup(folder: str) -> None:
    """Remove a cgroup as soon as its killed processes are gone."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        if not os.path.exists(folder):
            return
        time.sleep(0.02)
