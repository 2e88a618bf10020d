"""An address that another host of the LAN has taken while its attachment could not be heard.

So it is when a node was cut off, its pod was replaced on another node, and it comes back: both would answer for the
address, and whoever announces last gets the traffic (RFC 5227, section 2.4).
"""

from __future__ import annotations

import ipaddress

from ..kernel import neighbours
from ..kernel.frames import Claim
from ..kernel.netlink import Netlink
from . import locks
from .attachments import sandbox_of
from .roster import Attachment, Roster

# Whoever has an address answers at once; one that does not is asked again before the next announcement.
_ASK_MS = 50
_LOCK_SECONDS = 0.5


def other_holder(one: Attachment) -> Claim | None:
    """Who else holds one of an attachment's addresses; the calling thread stands in the pod's namespace.

    Whoever only asks for it, as an ADD on another node does, hears the pod's own answer and lets it be.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    addresses = [ipaddress.ip_address(address) for address in one.addresses]
    claim = neighbours.find_claim(one.interface, one.mac, addresses, neighbours.fast_schedule(_ASK_MS))
    return claim if claim is not None and claim.mac != one.mac and not claim.probing else None


def step_back(roster: Roster, run_dir: str, key: str, claim: Claim) -> bool:
    """Take an address off an attachment so that one host alone answers for it; whether it was there.

    Raises:
        CniError: it could not be done; TRY_AGAIN_LATER if a call is at work on the attachment.
    """
    with locks.attachment(run_dir, key, _LOCK_SECONDS):
        record = roster.record(key)
        if record is None or record.plan is None or (sandbox := sandbox_of(record)) is None:
            return False
        link = record.plan.link.name
        planned = [one.address for one in record.plan.addresses]
        mine = [one for one in planned if ipaddress.ip_interface(one).ip == claim.address]

        def take_off() -> bool:
            with Netlink() as netlink:
                held = {one.address for one in netlink.addresses() if one.interface == link}
                for address in mine:
                    netlink.delete_address(link, address)
                return not held.isdisjoint(mine)

        with sandbox:
            return sandbox.run(take_off)
