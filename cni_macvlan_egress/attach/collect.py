"""GC: what belongs to no valid attachment goes."""

from __future__ import annotations

from ..model.complaints import show
from ..model.configuration import Configuration
from ..protocol.call import Call
from ..protocol.errors import INVALID_CONFIGURATION, CniError
from . import locks
from .attachments import Attachments
from .ipam import delegated_configuration
from .policy_state import PolicyState
from .records import UnreadableRecord, attachment_key

_VALID = "cni.dev/valid-attachments"


def collect(call: Call, configuration: Configuration, attachments: Attachments) -> str:
    """Remove as much as possible of this network's stale attachments.

    Raises:
        CniError: what could not be removed, all in one.
    """
    valid = _valid_attachments(call)
    errors: list[CniError] = []
    for container_id, ifname in list(attachments.records.keys()):
        if (container_id, ifname) in valid:
            continue
        try:
            _collect_one(call, configuration, attachments, container_id, ifname)
        except CniError as error:
            errors.append(error)
    for key in PolicyState(configuration.run_dir).notes_of(call.network):
        container_id, _, ifname = key.partition("@")
        if (container_id, ifname) not in valid:
            try:
                with locks.attachment(configuration.run_dir, key):
                    attachments.release_policy(key)
            except CniError as error:
                errors.append(error)
    try:
        attachments.claims.release_orphans()
        for container_id, ifname in list(attachments.records.unfinished()):
            # Under its lock, because the write may be going on.
            with locks.attachment(configuration.run_dir, attachment_key(container_id, ifname)):
                attachments.records.remove_unfinished(container_id, ifname)
        if configuration.ipam is not None:
            # GC does not say whether the plugin stands in a chain, so both names under which it leases are given.
            for chained in (True, False):
                stdin = delegated_configuration(call.configuration, chained=chained)
                attachments.delegate(stdin).collect(call.configuration.get(_VALID) or [])
    except CniError as error:
        errors.append(error)
    if errors:
        raise CniError(
            errors[0].code,
            f"not all could be collected: {errors[0].msg}",
            "; ".join(str(error) for error in errors),
        )
    return ""


def _collect_one(
    call: Call, configuration: Configuration, attachments: Attachments, container_id: str, ifname: str
) -> None:
    with locks.attachment(configuration.run_dir, attachment_key(container_id, ifname)):
        try:
            record = attachments.records.load(container_id, ifname)
        except UnreadableRecord as error:
            attachments.log.warning(str(error), containerID=container_id)
            attachments.claims.release_all_of(container_id, ifname)
            return
        if record is None:
            attachments.records.remove(container_id, ifname)  # what a power cut has left
            return
        # Another network's attachments are another list's business.
        if record.network != call.network:
            return
        attachments.release(record)
        attachments.log.info("collected", containerID=container_id, ifname=ifname, addresses=record.addresses)


def _valid_attachments(call: Call) -> set[tuple[str, str]]:
    if _VALID not in call.configuration:
        raise CniError(
            INVALID_CONFIGURATION, f"{_VALID} is missing; without it GC would remove every attachment"
        )
    given = call.configuration[_VALID] or []
    valid = set()
    for one in given if isinstance(given, list) else [None]:
        container_id, ifname = (
            (one.get("containerID"), one.get("ifname")) if isinstance(one, dict) else (None, None)
        )
        if not isinstance(container_id, str) or not isinstance(ifname, str):
            raise CniError(
                INVALID_CONFIGURATION,
                f"{_VALID}: {show(given)}: a list of objects with containerID and ifname is expected",
            )
        valid.add((container_id, ifname))
    return valid
