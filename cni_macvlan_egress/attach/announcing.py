"""Tells the LAN the addresses of an attachment; the calling thread stands in the pod's namespace."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable

from ..kernel import neighbours
from ..kernel.netlink import KernelError, Netlink


def announce(netlink: Netlink, interface: str, mac: str, addresses: Iterable[str]) -> None:
    """Announce every address of an interface.

    Args:
        addresses: what they are, without prefix length, for a kernel that will not do it.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    try:
        netlink.announce(interface, mac)
    except KernelError as error:
        if error.number not in (errno.EBUSY, errno.EADDRINUSE):
            raise
        # Before Linux 5.19 a macvlan's driver is asked again, and may find its own address taken: by itself.
        neighbours.announce(interface, mac, [ipaddress.ip_address(one) for one in addresses])


def announce_again(netlink: Netlink, interface: str, mac: str, addresses: Iterable[str]) -> bool:
    """The same later on; not if the interface is gone, down, or has another MAC address by now.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    link = netlink.link(interface)
    if link is None or not link.up or link.kind != "macvlan" or link.mac != mac:
        return False
    announce(netlink, interface, mac, addresses)
    return True
