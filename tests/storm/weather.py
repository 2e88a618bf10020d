"""What comes from outside while calls go on: the NIC's fate, the disk's, the daemon's workers'."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from lab import Lab

from .ledger import Ledger
from .schedule import Theme

NIC, RENAMED = "eth0", "lan7"
_ATTEMPTS = 200
_BLOCK = 1 << 16

Spell = Callable[[Ledger], AbstractContextManager[None]]


class Weather:
    """Spells of each theme, for one lab.

    Args:
        kill_worker: kills one of the daemon's workers and waits for another one in its place.
    """

    def __init__(self, lab: Lab, kill_worker: Callable[[], None] | None = None) -> None:
        self._lab = lab
        self._kill_worker = kill_worker
        self.spells: Mapping[Theme, Spell] = {
            "master-down": self._down,
            "master-gone": self._gone,
            "master-renamed": self._renamed,
            "disk-full": self._full,
            "read-only": self._read_only,
            "workers": self._worker,
        }

    @contextmanager
    def _down(self, ledger: Ledger) -> Iterator[None]:
        ledger.disturb()
        self._lab.node.ip(f"link set {NIC} down")
        yield
        self._lab.node.ip(f"link set {NIC} up")
        self._configure()
        ledger.calm()

    @contextmanager
    def _renamed(self, ledger: Ledger) -> Iterator[None]:
        ledger.disturb(shaking=True)  # what is attached now is recorded as on the other name
        self._lab.node.ip(f"link set {NIC} name {RENAMED}")
        yield
        self._lab.node.ip(f"link set {RENAMED} name {NIC}")
        ledger.calm()

    @contextmanager
    def _gone(self, ledger: Ledger) -> Iterator[None]:
        node, lan = self._lab.node, self._lab.lan
        (link,) = node.show(f"link show dev {NIC}")
        port = lan.port(node)
        ledger.disturb()
        ledger.shake()
        lan.ip(f"link delete {port}")
        ledger.shake()
        yield
        lan.ip(
            f"link add {port} index {link['link_index']} type veth peer name {NIC} index {link['ifindex']} "
            f"address {link['address']} netns {node.name}",
            f"link set {port} master br0 up",
        )
        node.ip(f"link set {NIC} up")
        self._configure()
        ledger.calm()

    def _configure(self) -> None:
        """What the node's own network configuration does when its NIC comes up."""
        node = self._lab.node
        node.settle(NIC)
        node.ip(
            f"address replace 192.168.12.10/24 dev {NIC}",
            f"address replace fd00:12::10/64 dev {NIC}",
            "route replace default via 192.168.12.1",
            "route replace default via fd00:12::1",
        )

    @contextmanager
    def _full(self, ledger: Ledger) -> Iterator[None]:
        filler = f"{self._lab.node.state_dir}/filler"
        ledger.disturb()
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while file.write(bytes(_BLOCK)):
                pass
        yield
        os.unlink(filler)
        ledger.calm()

    @contextmanager
    def _read_only(self, ledger: Ledger) -> Iterator[None]:
        ledger.disturb(dirty=True)
        _remount(self._lab.node.state_dir, "ro")
        yield
        _remount(self._lab.node.state_dir, "rw")
        ledger.calm()

    @contextmanager
    def _worker(self, ledger: Ledger) -> Iterator[None]:
        assert self._kill_worker
        ledger.disturb(dirty=True)
        self._kill_worker()
        ledger.calm()
        yield


@contextmanager
def small_disk(path: str, megabytes: int) -> Iterator[None]:
    """Have a file system of its own under a directory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def kill(pid: int) -> None:
    """End a process that may have ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _remount(path: str, mode: str) -> None:
    """Have a file system read-only, or not; it cannot be while a file is open for writing."""
    for _ in range(_ATTEMPTS):
        done = subprocess.run(["mount", "-o", f"remount,{mode}", path], capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.005)
    raise AssertionError(f"{path} cannot be remounted {mode}: {done.stderr.decode()}")
