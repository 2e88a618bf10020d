"""When something is to be done again for an attachment, and what is wrong with a NIC. Pure."""

from __future__ import annotations

from .facts import LinkFact

# Switches and hosts may have missed the first announcement while a port was still coming up.
FIRST_ANNOUNCEMENTS = (1.0, 3.0, 10.0)


def next_announcement(age: float, every: float) -> float:
    """At what age an attachment is to be announced next.

    Args:
        age: seconds since it was attached, or since its NIC came back.
        every: seconds between announcements after the first ones.
    """
    return next((one for one in FIRST_ANNOUNCEMENTS if one > age), age + every)


def trouble_of_master(link: LinkFact | None, index: int) -> str:
    """What keeps the macvlans of a NIC from working; empty if nothing does.

    Args:
        link: the NIC of that name, if there is one.
        index: that of the NIC on which the macvlans were made; 0 if it is not known.
    """
    if link is None:
        return "it is gone, or has another name now"
    if index and link.index != index:
        return "it is another one under the same name; the macvlans went with the old one"
    if not link.up:
        return "it is down"
    return "" if link.carrier else "it has no carrier"
