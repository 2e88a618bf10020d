"""Looks after attachments at leisure: CHECK's comparison again and again, and what can be put back without harm.

No socket is kept open in a pod to hear of changes: it would keep the namespace, and so the macvlan on the LAN, after
the pod has gone.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from hashlib import sha256

from ..decide.mending import Mending, mending
from ..decide.plan import Address, Plan
from ..kernel import neighbours, sysctl
from ..kernel.netlink import Netlink
from ..kernel.netns import Sandbox
from ..kernel.nftables import Nftables
from ..protocol.errors import ADDRESS_CONFLICT, CniError
from . import locks
from .announcing import announce_again
from .attachments import is_alive, sandbox_of
from .check import drift_of
from .claims import Claims
from .records import Record
from .roster import Roster

_LOCK_SECONDS = 0.5
# Each round may bring to light what the next one needs: addresses before routes, an interface that is up before both.
_ROUNDS = 3


class Inspection:
    """The attachments of a roster.

    Args:
        run_dir: where the locks are.
    """

    def __init__(self, roster: Roster, run_dir: str) -> None:
        self._roster = roster
        self._run_dir = run_dir
        self._claims = Claims(roster.records, run_dir, is_alive)
        # What a ruleset that was found to be right looks like: to have it printed takes a new namespace each time.
        self._sound: dict[str, tuple[bytes, bytes]] = {}

    def forget_others(self, keys: set[str]) -> None:
        """Keep nothing of attachments that are gone."""
        for key in self._sound.keys() - keys:
            del self._sound[key]

    def differences(self, key: str) -> tuple[str, ...] | None:
        """What is not as ADD left it; None if the attachment is gone.

        Raises:
            CniError: it cannot be looked at; TRY_AGAIN_LATER if a call is at work on it.
        """
        record = self._roster.record(key)
        found = self._look(record) if record else None
        if not found:
            return found
        # Perhaps a call was in the middle of it.
        with locks.attachment(self._run_dir, key, _LOCK_SECONDS):
            record = self._roster.record(key)
            return self._look(record) if record else None

    def mend(self, key: str) -> tuple[str, ...] | None:
        """Put back what can be, and return what is still different; None if the attachment is gone.

        Raises:
            CniError: a step failed; TRY_AGAIN_LATER if a call is at work on it.
        """
        with locks.attachment(self._run_dir, key, _LOCK_SECONDS):
            record = self._roster.record(key)
            if record is None or record.plan is None or (sandbox := sandbox_of(record)) is None:
                return None
            plan = record.plan
            with sandbox:
                for _ in range(_ROUNDS):
                    steps = _steps(plan, sandbox)
                    if steps is None or steps == Mending():
                        break
                    sandbox.run(lambda steps=steps: _take(steps, plan))  # type: ignore[misc]
            return self._look(record)

    def _look(self, record: Record) -> tuple[str, ...] | None:
        sandbox = sandbox_of(record)
        if sandbox is None or record.plan is None:
            return None
        with sandbox:
            found = self._drift(record.key, record.plan, sandbox)
        lost = self._claims.lost(record.addresses, record.container_id, record.ifname)
        found += [
            f"address {one}: expected to be held by this attachment in the node's register, found it is not"
            for one in lost
        ]
        return tuple(found)

    def _drift(self, key: str, plan: Plan, sandbox: Sandbox) -> list[str]:
        if not plan.ruleset:
            return drift_of(plan, sandbox)
        seen = _digest(plan.ruleset), _digest(sandbox.run(_listing))
        if self._sound.get(key) == seen:
            return drift_of(replace(plan, ruleset=""), sandbox)
        found = drift_of(plan, sandbox)
        if not found:
            self._sound[key] = seen
        return found


def _steps(plan: Plan, sandbox: Sandbox) -> Mending | None:
    def look() -> Mending | None:
        with Netlink() as netlink:
            facts = netlink.facts(rules=True)
        settings = {one.key: sysctl.read(one.key) for one in plan.sysctls}
        return mending(plan, facts, settings, index, ruleset_differs=ruleset_differs)

    with Netlink() as netlink:
        master = netlink.link(plan.link.master)
    index = master.index if master else None
    others = drift_of(replace(plan, ruleset=""), sandbox)
    ruleset_differs = bool(plan.ruleset) and set(drift_of(plan, sandbox)) > set(others)
    return sandbox.run(look)


def _take(steps: Mending, plan: Plan) -> None:
    name = plan.link.name
    if steps.ruleset:
        with Nftables() as nftables:
            nftables.replace(plan.ruleset)
    with Netlink() as netlink:
        for setting in steps.sysctls:
            sysctl.write(setting.key, setting.value)
        if steps.up:
            netlink.set_up(name)
        if steps.addresses:
            _add_addresses(netlink, plan, steps.addresses)
        for route in steps.stale:
            netlink.delete_route(route)
        for route in steps.routes:
            netlink.add_route(route)
        for rule in steps.rules:
            netlink.add_rule(rule)
        if plan.addresses and (steps.up or steps.addresses):
            announce_again(
                netlink, name, plan.link.mac, (one.address.partition("/")[0] for one in plan.addresses)
            )


def _add_addresses(netlink: Netlink, plan: Plan, addresses: tuple[Address, ...]) -> None:
    """Put addresses back, if nobody on the LAN has taken them meanwhile."""
    link = plan.link
    if plan.conflicts.detection != "off":
        hosts = [ipaddress.ip_interface(one.address).ip for one in addresses]
        schedule = neighbours.fast_schedule(plan.conflicts.timeout_ms)
        if claim := neighbours.find_claim(link.name, link.mac, hosts, schedule):
            raise CniError(
                ADDRESS_CONFLICT,
                f"address {claim.address} is not put back: the host with MAC address {claim.mac} on the LAN of "
                f"{link.master} has it now",
            )
    for one in addresses:
        netlink.add_address(link.name, one, kernel_dad=plan.conflicts.detection == "strict")


def _listing() -> str:
    with Nftables() as nftables:
        return nftables.listing()


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()
