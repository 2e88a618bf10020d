"""DEL: the goal state is reached, however often and in whatever order it is called."""

from __future__ import annotations

from .. import passthrough
from ..kernel import netns
from ..model.configuration import Configuration
from ..protocol.call import Call
from ..protocol.errors import CniError
from . import apply, locks
from .attachments import Attachments
from .ipam import delegated_configuration
from .records import UnreadableRecord, attachment_key


def delete(call: Call, configuration: Configuration, attachments: Attachments) -> str:
    """Detach a pod by what was recorded at its ADD.

    Raises:
        CniError: something could not be removed; the record stays and DEL can be repeated.
    """
    env = call.environment
    with locks.attachment(configuration.run_dir, attachment_key(env.container_id, env.ifname)):
        try:
            record = attachments.records.load(env.container_id, env.ifname)
        except UnreadableRecord as error:
            attachments.log.warning(str(error), containerID=env.container_id)
            record = None
        if record is None and attachments.holds_to_policy(attachment_key(env.container_id, env.ifname)):
            attachments.release_policy(attachment_key(env.container_id, env.ifname))
            if passthrough.may_have_been_attached(call):
                _delete_without_record(call, configuration, attachments)
        elif record is None:
            _delete_without_record(call, configuration, attachments)
        else:
            attachments.release(record)
            attachments.log.info(
                "detached",
                containerID=env.container_id,
                ifname=env.ifname,
                pod=record.pod,
                addresses=record.addresses,
            )
    return ""


def _delete_without_record(call: Call, configuration: Configuration, attachments: Attachments) -> None:
    env = call.environment
    attachments.records.remove(env.container_id, env.ifname)  # what a write that was killed has left
    attachments.claims.release_all_of(env.container_id, env.ifname)
    attachments.release_policy(attachment_key(env.container_id, env.ifname))
    if configuration.ipam is not None:
        for chained in _ways_it_may_have_been_added(call):
            attachments.delegate(delegated_configuration(call.configuration, chained=chained)).delete()
    if not env.netns:
        return
    try:
        sandbox = netns.Sandbox(env.netns, allow_own=env.netns_override)
    except CniError:
        return  # gone, and everything in it
    with sandbox:
        for chained in _ways_it_may_have_been_added(call):
            apply.sweep(configuration.if_name if chained else env.ifname, sandbox)


def _ways_it_may_have_been_added(call: Call) -> list[bool]:
    """Chained or not; on DEL prevResult does not tell, since libcni passes a standalone plugin its own result."""
    if call.previous is None:
        return [False]
    interfaces = call.previous.get("interfaces")
    only_ours = isinstance(interfaces, list) and [
        one.get("name") for one in interfaces if isinstance(one, dict)
    ] == [call.environment.ifname]
    return [True, False] if only_ours else [True]
