"""What processes use up of the kernel's memory, of descriptors and of files, so that a leak is seen as a slope."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

_MOUNT = "/sys/fs/cgroup/memory"
_NETWORK = (
    ("ip", "-o", "link", "show"),
    ("ip", "-o", "address", "show"),
    ("ip", "-4", "route", "show", "table", "all"),
    ("ip", "-6", "route", "show", "table", "all"),
    ("ip", "-4", "rule", "show"),
    ("ip", "-6", "rule", "show"),
    ("nft", "list", "ruleset"),
)


class MemoryGroup:
    """A memory cgroup for this process and all it starts: what the kernel keeps for them, and for nobody else.

    Without a memory controller of version 1 it is there all the same, and knows nothing.
    """

    def __init__(self) -> None:
        self._before = _own_group()
        self._path = f"{self._before}/macvlan-egress-{os.getpid()}" if self._before else ""

    def __enter__(self) -> Self:
        if self._path:
            try:
                os.mkdir(self._path)
            except OSError:
                self._path = ""
            else:
                _write(f"{self._path}/cgroup.procs", str(os.getpid()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path:
            _write(f"{self._before}/cgroup.procs", str(os.getpid()))
            for pid in self.processes():
                _write(f"{self._before}/cgroup.procs", str(pid))
            os.rmdir(self._path)

    def kernel(self) -> int | None:
        """Bytes of the kernel's memory: slab, stacks, page tables; first what can be given back is."""
        if not self._path:
            return None
        _write(f"{self._path}/memory.force_empty", "0")
        with open(f"{self._path}/memory.kmem.usage_in_bytes", encoding="ascii") as file:
            return int(file.read())

    def processes(self) -> list[int]:
        """All that run in it; only this one if there is no group."""
        if not self._path:
            return [os.getpid()]
        with open(f"{self._path}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file]


def unreclaimable_slab() -> int:
    """Bytes of the whole machine's slab that cannot be given back; whatever else runs on it is in it."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("SUnreclaim:"))


def namespace_objects() -> int | None:
    """How many network namespaces the kernel of the whole machine keeps, dying ones among them; None if it hides it."""
    try:
        with open("/proc/slabinfo", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("net_namespace ")), None)
    except OSError:
        return None


def files(*directories: str) -> int:
    """How many files and links lie below some directories."""
    return sum(len(names) for directory in directories for _, _, names in os.walk(directory))


def network(names: Iterable[str]) -> str:
    """A fingerprint of some namespaces: links, addresses, routes, rules, nftables."""
    digest = hashlib.sha256()
    for name in names:
        for command in _NETWORK:
            words = ["ip", "netns", "exec", name, *command]
            digest.update(subprocess.run(words, capture_output=True, check=True).stdout)
    return digest.hexdigest()


def slope(points: Sequence[tuple[float, float]]) -> float:
    """By how much the second value grows when the first does by one (least squares)."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _own_group() -> str:
    """The directory of this process's memory cgroup; empty if there is none of version 1."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if "memory" in controllers.split(",") and os.path.isdir(_MOUNT + path):
                return _MOUNT + path.rstrip("/")
    return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
