"""What every verb needs of a node: its records, its register of addresses, and the way to undo an attachment."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ..kernel import netns
from ..log import Log
from ..model.configuration import Configuration
from ..protocol.errors import CniError
from . import apply, files, paths, pods
from .claims import Claims
from .ipam import Delegate
from .records import Record, Records, attachment_key, boot_id

if TYPE_CHECKING:
    from .policing import Policing


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

    @cached_property
    def policing(self) -> Policing:
        """The node's egress policies."""
        from .policing import Policing

        return Policing(self.configuration, self.log)

    def release_policy(self, key: str) -> None:
        """Let an attachment go that policies may concern.

        Raises:
            CniError: what holds it could not be removed.
        """
        if self.holds_to_policy(key):
            self.policing.release(key)
        else:
            container_id, _, ifname = key.partition("@")
            files.remove(paths.pod_note(self.configuration.run_dir, container_id, ifname))

    def holds_to_policy(self, key: str) -> bool:
        """Whether rules on the node concern an attachment."""
        return pods.marked(self.configuration.run_dir, key)

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
        for part in (self._withdraw, self._release_lease, self._release_addresses, self._release_policy):
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

    def _release_policy(self, record: Record) -> None:
        self.release_policy(attachment_key(record.container_id, record.ifname))


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
