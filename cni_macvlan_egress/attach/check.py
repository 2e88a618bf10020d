"""CHECK: the kernel against what ADD recorded, item by item."""

from __future__ import annotations

from ..decide.drift import differences, ruleset_differences, shortened
from ..decide.facts import HostFacts
from ..decide.plan import Plan
from ..kernel import sysctl
from ..kernel.netlink import Netlink
from ..kernel.netns import Sandbox, in_new_namespace
from ..kernel.nftables import Nftables
from ..model.configuration import Configuration
from ..protocol.call import Call
from ..protocol.errors import DRIFT, UNKNOWN_CONTAINER, CniError
from . import locks
from .attachments import Attachments
from .records import Record, UnreadableRecord, attachment_key


def check(call: Call, configuration: Configuration, attachments: Attachments) -> str:
    """Compare an attachment with its record.

    Raises:
        CniError: DRIFT with every difference in the details; UNKNOWN_CONTAINER if there is no record.
    """
    env = call.environment
    with locks.attachment(configuration.run_dir, attachment_key(env.container_id, env.ifname)):
        try:
            record = attachments.records.load(env.container_id, env.ifname)
        except UnreadableRecord as error:
            raise CniError(UNKNOWN_CONTAINER, f"container {env.container_id}: {error}") from None
        key = attachment_key(env.container_id, env.ifname)
        marked = attachments.holds_to_policy(key)
        policy = attachments.policing.differences(key) if marked else []
        if record is None and marked:
            _report(policy)
            return ""
        if record is None:
            raise CniError(
                UNKNOWN_CONTAINER,
                f"there is no record of container {env.container_id}, interface {env.ifname}",
            )
        found = _differences(call, record)
        found += [
            f"address {address}: expected to be held by this attachment in the node's register, found it is not"
            for address in attachments.claims.lost(record.addresses, record.container_id, record.ifname)
        ]
        _report([*found, *policy])
        if record.ipam is not None:
            attachments.delegate(record.ipam).check()
    return ""


def _report(found: list[str]) -> None:
    if found:
        raise CniError(
            DRIFT,
            f"{len(found)} difference{'s' if len(found) > 1 else ''} from what ADD made; first: {found[0]}",
            "; ".join(shortened(found)),
        )


def _differences(call: Call, record: Record) -> list[str]:
    if record.phase != "ready" or record.plan is None:
        return ["attachment: expected a finished ADD, found one that was interrupted"]
    with Sandbox(call.environment.netns, allow_own=call.environment.netns_override) as sandbox:
        if (sandbox.identity.device, sandbox.identity.inode) != (record.netns_device, record.netns_inode):
            return [
                f"namespace: expected the one of ADD ({record.netns}), found another under {sandbox.path}"
            ]
        return drift_of(record.plan, sandbox)


def drift_of(plan: Plan, sandbox: Sandbox) -> list[str]:
    """The differences between a plan and what is in a pod's namespace now."""

    def look() -> tuple[HostFacts, dict[str, str | None], str]:
        with Netlink() as netlink:
            facts = netlink.facts(rules=True)
        settings = {one.key: sysctl.read(one.key) for one in plan.sysctls}
        return facts, settings, _listing() if plan.ruleset else ""

    pod, settings, listing = sandbox.run(look)
    with Netlink() as netlink:
        master = netlink.link(plan.link.master)
    found = differences(plan, pod, settings, master.index if master else None)
    if plan.ruleset:
        found += ruleset_differences(_as_listed(plan.ruleset), listing)
    return found


def _listing() -> str:
    with Nftables() as nftables:
        return nftables.listing()


def _as_listed(ruleset: str) -> str:
    """A ruleset as nft prints it: put into an empty namespace and read back, so that both are in the same words."""

    def install() -> str:
        with Nftables() as nftables:
            nftables.replace(ruleset)
            return nftables.listing()

    return in_new_namespace(install)
