"""The finished attachments of this node, as their state files tell them: looked at often, read when they change.

Little of each is kept, so that a thousand take little memory; whoever needs the whole record reads it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ..decide import renewal
from ..kernel.netns import Identity, Sandbox, find
from . import files, paths
from .records import Record, Records, boot_id, from_json

# A directory's time is that of the kernel's last tick: what changes within it may not show.
_TICK_SECONDS = 0.05
# A file that is written in place does not show in its directory.
_SCAN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Attachment:
    """One of them.

    Attributes:
        since: when its state file was last written, in seconds since the epoch.
        interface: the macvlan's name in the pod.
        master: the NIC's name.
        addresses: the source addresses, without prefix length.
        asks: whether ADD asked the LAN for its addresses before it used them.
        names: those among its destinations, with the addresses that they lead to.
        retired: addresses that a name had before.
    """

    key: str
    container_id: str
    ifname: str
    pod: str
    since: float
    netns: str
    identity: Identity
    interface: str
    mac: str
    master: str
    addresses: tuple[str, ...]
    asks: bool = True
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    retired: tuple[str, ...] = ()

    def sandbox(self) -> Sandbox | None:
        """Its namespace, None if it is gone."""
        return find(self.netns, self.identity)


class Roster:
    """Those that are there.

    Args:
        state_dir: absolute path.
    """

    def __init__(self, state_dir: str) -> None:
        self.state_dir = state_dir
        self._directory = f"{state_dir}/attachments"
        self._boot_id = boot_id()
        self._files: dict[str, tuple[int, int]] = {}
        self._seen = -1
        self._scanned = 0.0
        # Replaced as a whole, so that other threads may look at it.
        self.attachments: dict[str, Attachment] = {}

    def scan(self) -> bool:
        """Look at what has changed; whether anything has. Files that cannot be read are left out."""
        now = time.monotonic()
        changed = self._changed_at()
        if changed == self._seen and now - self._scanned < _SCAN_SECONDS:
            return False
        self._scanned = now
        files = dict(self._list())
        found = dict(self.attachments)
        for name in [name for name in self._files if name not in files]:
            found.pop(_key(name), None)
        fresh = [name for name, stamp in files.items() if self._files.get(name) != stamp]
        for name in fresh:
            one = self._read(name, files[name][0])
            if one is None:
                found.pop(_key(name), None)
            else:
                found[one.key] = one
        is_settled = changed < time.time_ns() - int(_TICK_SECONDS * 1e9)
        self._seen = changed if is_settled else -1
        altered = bool(fresh) or len(files) != len(self._files)
        self._files = files
        self.attachments = found
        return altered

    def record(self, key: str) -> Record | None:
        """The whole record of one, read now; None if it is gone or no finished one of this boot."""
        return self._load(f"{key}.json")

    @property
    def records(self) -> Records:
        """Where changed records are saved."""
        return Records(self.state_dir)

    def _changed_at(self) -> int:
        try:
            return os.stat(self._directory).st_mtime_ns
        except OSError:  # nothing has been attached yet
            return 0

    def _list(self) -> Iterator[tuple[str, tuple[int, int]]]:
        try:
            with os.scandir(self._directory) as entries:
                for one in entries:
                    if one.name.endswith(".json") and "@" in one.name and not one.name.startswith("."):
                        try:
                            status = one.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        yield one.name, (status.st_mtime_ns, status.st_ino)
        except OSError:  # not there yet, or not to be read now: the next scan tells
            return

    def _read(self, name: str, changed: int) -> Attachment | None:
        record = self._load(name)
        if record is None or record.plan is None:
            return None
        plan = record.plan
        try:
            names = tuple(renewal.names(plan).items())
        except ValueError:  # a line that no ADD has written
            return None
        return Attachment(
            key=record.key,
            container_id=record.container_id,
            ifname=record.ifname,
            pod=record.pod,
            since=changed / 1e9,
            netns=record.netns,
            identity=Identity(record.netns_device, record.netns_inode),
            interface=plan.link.name,
            mac=plan.link.mac,
            master=plan.link.master,
            addresses=tuple(one.address.partition("/")[0] for one in plan.addresses),
            asks=plan.conflicts.detection != "off",
            names=names,
            retired=plan.renewal.retired if plan.renewal else (),
        )

    def _load(self, name: str) -> Record | None:
        container_id, _, ifname = _key(name).partition("@")
        try:
            record = from_json(files.read(paths.record(self.state_dir, container_id, ifname)))
        except (OSError, ValueError):  # what cannot be read is the next DEL's or GC's to move aside
            return None
        finished = record.phase == "ready" and record.plan is not None and record.boot_id == self._boot_id
        return record if finished and record.key == _key(name) else None


def _key(name: str) -> str:
    return name.removesuffix(".json")
