"""What a container runtime leaves outside its directory, taken away when it could not do so itself.

Everything is known by the runtime's directory, whose name is random, or by what lies in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable

# A socket's path has at most 107 bytes, which is too little below pytest's own directory.
_BASE = "/tmp"
_PREFIX = "cme-rt-"
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/*")  # version 2; version 1 and both together
_RESULTS = "/var/lib/cni/results"  # libcni's cache: NETWORK-CONTAINERID-IFNAME
_RUNC = "/run/runc"  # runc's state unless it is told where else
_NETNS = "/run/netns/"
# Named by their containers' IDs: containerd's sandboxes, podman's containers.
_CONTAINERS = ("state/io.containerd.grpc.v1.cri/sandboxes/*", "storage/vfs-containers/*")
_SHIM_SOCKETS = "state/io.containerd.runtime.v2.task/k8s.io/*/address"  # each file says where
_PODMAN_CONTAINERS = "storage/vfs-containers/*/userdata/config.json"
_WAIT_SECONDS = 10.0


def new_directory() -> str:
    """A directory for a runtime's configuration, state and sockets; its name is its cgroup's, too.

    What a test run that was killed has left goes first: a directory is named after the process that made it.
    """
    for directory in glob.glob(f"{_BASE}/{_PREFIX}*-*"):
        pid = os.path.basename(directory).removeprefix(_PREFIX).partition("-")[0]
        if not os.path.exists(f"/proc/{pid}"):
            remove(directory)
    return tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_BASE)


def remove(directory: str) -> None:
    """Remove a runtime's directory and all that belongs to it, its processes first."""
    container_ids = {name for pattern in _CONTAINERS for name in names(f"{directory}/{pattern}")}
    outside = [read(path).removeprefix("unix://") for path in glob.glob(f"{directory}/{_SHIM_SOCKETS}")]
    outside += [path for one in container_ids for path in glob.glob(f"{_RESULTS}/*-{one}-*")]
    namespaces = _named_namespaces(directory)
    # Processes that watch others (shims, conmon) go together with those, lest they act when these end.
    _until_empty(lambda: _processes(directory), lambda pid: os.kill(int(pid), signal.SIGKILL))
    _until_empty(lambda: _mounts(directory), _unmount)
    for path in namespaces:
        _unmount(path)
    for path in outside + namespaces:
        unlink(path)
    for container_id in container_ids:
        shutil.rmtree(f"{_RUNC}/{container_id}", ignore_errors=True)
    _until_empty(lambda: _cgroups(directory), os.rmdir)
    shutil.rmtree(directory, ignore_errors=True)


def files(directory: str) -> list[str]:
    """Every file below a directory that need not exist."""
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names)


def locked(directory: str) -> list[str]:
    """The files there on which a process holds a lock."""
    found = []
    for path in files(directory):
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(path)
    return found


def names(pattern: str) -> list[str]:
    """The last parts of the paths that match."""
    return sorted(os.path.basename(path) for path in glob.glob(pattern))


def read(path: str) -> str:
    """A file's text; nothing if it is gone, as a process may be, or is another's, as a process's environment."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _until_empty(find: Callable[[], list[str]], act: Callable[[str], None]) -> None:
    """Act on what is found until nothing is: a killed process takes a moment, and may have made another."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while (found := find()) and time.monotonic() < deadline:
        for one in found:
            with contextlib.suppress(OSError):
                act(one)
        time.sleep(0.02)


def _processes(directory: str) -> list[str]:
    """Those that name it on their command line or, as a plugin does, in their environment; and the containers'."""
    found = [
        pid
        for pid in names("/proc/[0-9]*")
        if any(f"{directory}/" in read(f"/proc/{pid}/{file}") for file in ("cmdline", "environ"))
    ]
    return found + [pid for folder in _cgroups(directory) for pid in read(f"{folder}/cgroup.procs").split()]


def _cgroups(directory: str) -> list[str]:
    """The innermost first."""
    tops = [path for place in _CGROUPS for path in glob.glob(f"{place}/{os.path.basename(directory)}")]
    return [folder for top in tops for folder, _, _ in os.walk(top, topdown=False)]


def _mounts(directory: str) -> list[str]:
    """The last one first."""
    targets = [line.split()[1] for line in read("/proc/self/mounts").splitlines()]
    return [target for target in reversed(targets) if target.startswith(f"{directory}/")]


def _named_namespaces(directory: str) -> list[str]:
    """The network namespaces of podman's containers, which lie where ip(8) has its own."""
    found = []
    for path in glob.glob(f"{directory}/{_PODMAN_CONTAINERS}"):
        with contextlib.suppress(ValueError):
            namespaces = json.loads(read(path))["linux"]["namespaces"]
            found += [item["path"] for item in namespaces if item["type"] == "network" and "path" in item]
    return [path for path in found if path.startswith(_NETNS)]


def _unmount(path: str) -> None:
    subprocess.run(["umount", "-l", path], capture_output=True, check=False)
