"""Brings an attachment to the addresses that its destinations' names have now, while traffic goes on.

Under the attachment's lock, the kernel first and the record last: whoever is killed between has it done again, because
the record still says the old. Routes to new addresses are there before anything is sent to them; those to old ones stay
until no flow uses them.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Mapping, Sequence

from ..decide import renewal
from ..decide.plan import Plan, Route
from ..decide.transition import transition
from ..kernel import conntrack
from ..kernel.netlink import KernelError, Netlink
from ..kernel.nftables import Nftables
from ..model.addresses import IPAddress, IPNetwork
from ..protocol.errors import CniError
from . import locks
from .attachments import sandbox_of
from .roster import Roster

# A call that holds the lock is about this very attachment, or ends soon.
_LOCK_SECONDS = 1.0
_RENEW = "change the redirect rules"


def own_addresses() -> list[IPNetwork]:
    """The node's addresses, as networks of one."""
    with Netlink() as netlink:
        return [ipaddress.ip_network(ipaddress.ip_interface(one.address).ip) for one in netlink.addresses()]


def renew(
    roster: Roster,
    run_dir: str,
    key: str,
    answers: Mapping[str, Sequence[IPAddress]],
    own: Sequence[IPNetwork],
) -> tuple[bool, tuple[str, ...]]:
    """Follow the names of an attachment; whether anything has changed, and why some lines keep what they had.

    Raises:
        CniError: it could not be done, and all is as it was; TRY_AGAIN_LATER if a call is at work on it.
    """
    with locks.attachment(run_dir, key, _LOCK_SECONDS):
        record = roster.record(key)
        if record is None or record.plan is None or (sandbox := sandbox_of(record)) is None:
            return False, ()
        with sandbox:
            old = record.plan
            new, problems = renewal.renewed(old, answers, own)
            if new == old:
                return False, problems
            sandbox.run(lambda: _change(old, new))
            record.plan = new
            roster.records.save(record)
        return True, problems


def forget_unused(roster: Roster, run_dir: str, key: str) -> None:
    """Remove the routes to addresses that no name leads to any more and no flow uses.

    Raises:
        CniError: it could not be done; it can be repeated.
    """
    with locks.attachment(run_dir, key, _LOCK_SECONDS):
        record = roster.record(key)
        if record is None or record.plan is None or record.plan.renewal is None:
            return
        retired = record.plan.renewal.retired
        sandbox = sandbox_of(record) if retired else None
        if sandbox is None:
            return
        with sandbox:
            old = record.plan
            gone = set(retired) - sandbox.run(lambda: conntrack.with_flows(retired))
            if not gone:
                return
            new = renewal.without_retired(old, gone)
            sandbox.run(lambda: _delete_routes([one for one in old.routes if one not in new.routes]))
            record.plan = new
            roster.records.save(record)


def _change(old: Plan, new: Plan) -> None:
    added = [one for one in new.routes if one not in old.routes]
    try:
        _add_routes(added)
        _change_ruleset(old.ruleset, new.ruleset)
    except BaseException:
        _delete_routes(added)
        raise
    _delete_routes([one for one in old.routes if one not in new.routes])


def _change_ruleset(old: str, new: str) -> None:
    with Nftables() as nftables:
        if commands := transition(old, new, _counts(nftables)):
            try:
                nftables.run(commands, _RENEW)
            except CniError:  # the table is not as it should be: it is made anew
                pass
            else:
                return
        nftables.replace(new)


def _counts(nftables: Nftables) -> dict[tuple[str, str], tuple[int, int]]:
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for rule in (one["rule"] for one in nftables.objects() if "rule" in one):
        counter = next((part["counter"] for part in rule["expr"] if "counter" in part), None)
        if counter is not None and (comment := rule.get("comment")):
            packets, size = found.get((rule["chain"], comment), (0, 0))
            found[rule["chain"], comment] = packets + counter["packets"], size + counter["bytes"]
    return found


def _add_routes(routes: Sequence[Route]) -> None:
    with Netlink() as netlink:
        for route in routes:
            try:
                netlink.add_route(route)
            except KernelError as error:
                if error.number != errno.EEXIST:  # one whose record could not be written any more
                    raise


def _delete_routes(routes: Sequence[Route]) -> None:
    if routes:
        with Netlink() as netlink:
            for route in routes:
                netlink.delete_route(route)
