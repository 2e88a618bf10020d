"""Which attachment of this node holds which source address.

A claim is a symbolic link, named by the address, to the holder's state file: made and read in one step, and
dangling as soon as the holder is gone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable

from ..protocol.errors import ADDRESS_HELD, IO_FAILURE, CniError
from . import files, locks
from .records import Record, Records, UnreadableRecord


class Claims:
    """The register of addresses.

    Args:
        records: the state files that the claims point to.
        run_dir: where the lock is.
        is_alive: whether a record's namespace still exists.
    """

    def __init__(self, records: Records, run_dir: str, is_alive: Callable[[Record], bool]) -> None:
        self._records = records
        self._directory = f"{records.state_dir}/addresses"
        self._run_dir = run_dir
        self._is_alive = is_alive

    def take(self, addresses: Iterable[str], container_id: str, ifname: str) -> None:
        """Hold addresses for an attachment whose record has been written.

        Raises:
            CniError: ADDRESS_HELD, naming who holds one of them.
        """
        files.make_directory(self._directory)
        with locks.addresses(self._run_dir):
            for address in addresses:
                self._take(address, f"../attachments/{container_id}@{ifname}.json")

    def lost(self, addresses: Iterable[str], container_id: str, ifname: str) -> list[str]:
        """Those of an attachment's addresses that it does not hold (any more)."""
        return [address for address in addresses if self._holder(address) != (container_id, ifname)]

    def release(self, addresses: Iterable[str], container_id: str, ifname: str) -> None:
        """Let go of those addresses that the attachment holds."""
        addresses = tuple(addresses)
        if not addresses:
            return
        with locks.addresses(self._run_dir):
            for address in addresses:
                if self._holder(address) == (container_id, ifname):
                    files.remove(f"{self._directory}/{address}")

    def release_all_of(self, container_id: str, ifname: str) -> None:
        """The same where nobody knows any more which addresses these were."""
        self.release(self._names(), container_id, ifname)

    def release_orphans(self) -> None:
        """Drop the claims of attachments that have no record."""
        with locks.addresses(self._run_dir):
            for address in self._names():
                if not os.path.exists(f"{self._directory}/{address}"):
                    files.remove(f"{self._directory}/{address}")

    def _take(self, address: str, target: str) -> None:
        path = f"{self._directory}/{address}"
        try:
            holder = self._holder(address)
            if holder is not None:
                if os.readlink(path) == target:
                    return
                self._refuse_if_alive(address, *holder)
                os.unlink(path)
            os.symlink(target, path)
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot write {path}: {error.strerror}") from None

    def _refuse_if_alive(self, address: str, container_id: str, ifname: str) -> None:
        try:
            record = self._records.load(container_id, ifname)
        except UnreadableRecord:
            return
        if record is None or not self._is_alive(record):
            return
        who = (
            f"pod {record.pod} (container {container_id[:12]})" if record.pod else f"container {container_id}"
        )
        raise CniError(
            ADDRESS_HELD,
            f"source address {address} is held by {who} on this node; an egress address has one holder: delete that "
            "pod, or give this one another address",
        )

    def _holder(self, address: str) -> tuple[str, str] | None:
        path = f"{self._directory}/{address}"
        try:
            name = os.path.basename(os.readlink(path))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):  # nothing there, or no link and so nobody's claim
                return None
            raise CniError(IO_FAILURE, f"cannot read {path}: {error.strerror}") from None
        except ValueError:  # no address, but what somebody has made of a state file
            return None
        container_id, _, rest = name.partition("@")
        return container_id, rest.removesuffix(".json")

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot list {self._directory}: {error.strerror}") from None
