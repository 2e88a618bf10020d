"""Finds the node's end of a pod's veth: by what the kernel says of the pair, and not by a name."""

from __future__ import annotations

import os

from ..decide.facts import LinkFact
from .netlink import Netlink
from .netns import Sandbox

_VETH = "veth"


def host_end(sandbox: Sandbox, ifname: str) -> tuple[LinkFact | None, LinkFact | None]:
    """The pod's interface, and its other end in the caller's namespace; None for what is not there.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:

        def look() -> tuple[LinkFact | None, int | None]:
            with Netlink() as netlink:
                return netlink.link(ifname), netlink.netns_id(own)

        inner, own_id = sandbox.run(look)
    finally:
        os.close(own)
    if inner is None or inner.kind != _VETH or own_id is None or inner.parent_netns != own_id:
        return inner, None
    with Netlink() as netlink:
        outer = netlink.link_at(inner.parent)
    if outer is None or outer.kind != _VETH or outer.parent != inner.index:
        return inner, None
    return inner, outer
