"""What every verb needs of a node: its records, its register of addresses, and the way to undo an attachment."""

from __future__ import annotations

from collections.abc import Callable

from ..kernel import netns
from ..log import Log
from ..model.configuration import Configuration
from ..protocol.errors import CniError
from . import apply
from .claims import Claims
from .ipam import Delegate
from .records import Record, Records, boot_id

ReleaseLease = Callable[[Record], None]


class Attachments:
    """The attachments of a node.

    Args:
        configuration: where state, locks and log are.
        variables: the CNI_… environment, for the IPAM plugin.
        search: the directories of CNI_PATH.
    """

    def __init__(self, configuration: Configuration, variables: dict[str, str], search: list[str]) -> None:
        self.configuration = configuration
        self.records = Records(configuration.state_dir)
        self.claims = Claims(self.records, configuration.run_dir, is_alive)
        self.log = Log(configuration.log_file, configuration.log_level)
        self._variables = variables
        self._search = search

    def delegate(self, configuration: dict[str, object], record: Record | None = None) -> Delegate:
        """The IPAM plugin of a configuration, called for a record's attachment or for the present one."""
        variables = dict(self._variables)
        if record is not None:
            variables |= {
                "CNI_CONTAINERID": record.container_id,
                "CNI_IFNAME": record.ifname,
                "CNI_NETNS": record.netns,
            }
        return Delegate(configuration, variables, self._search)

    def release(self, record: Record) -> None:
        """Take back all of an attachment, as far as it is there; the record goes last.

        Every part is tried even if another fails.

        Raises:
            CniError: what could not be taken back; the record stays, so that the next DEL can go on.
        """
        errors = []
        for part in (self._withdraw, self._release_lease, self._release_addresses):
            try:
                part(record)
            except CniError as error:
                errors.append(error)
        if errors:
            first = errors[0]
            raise CniError(
                first.code, first.msg, "; ".join(str(error) for error in errors[1:]) or first.details
            )
        self.records.remove(record.container_id, record.ifname)

    def _withdraw(self, record: Record) -> None:
        if record.plan is None:
            return
        sandbox = sandbox_of(record)
        if sandbox is None:
            return
        with sandbox:
            apply.withdraw(record.plan, sandbox, finished=record.phase == "ready")

    def _release_lease(self, record: Record) -> None:
        if record.ipam is not None:
            self.delegate(record.ipam, record).delete()

    def _release_addresses(self, record: Record) -> None:
        self.claims.release(record.addresses, record.container_id, record.ifname)


def sandbox_of(record: Record) -> netns.Sandbox | None:
    """The namespace of a record, None if it is gone (or the node has been booted since)."""
    if record.boot_id != boot_id():
        return None
    return netns.find(record.netns, netns.Identity(record.netns_device, record.netns_inode))


def is_alive(record: Record) -> bool:
    """Whether a record's namespace still exists."""
    sandbox = sandbox_of(record)
    if sandbox is None:
        return False
    sandbox.close()
    return True
