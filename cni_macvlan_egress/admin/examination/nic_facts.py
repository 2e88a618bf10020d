"""What rtnetlink does not tell of a NIC: driver, wireless, promiscuous mode, and what machine it is in.

/sys/class/net shows the namespace that it was mounted in. So it is believed only for an interface that has index and
MAC address of ours; else the kernel is asked by ioctl, which knows less.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

from ...decide.facts import LinkFact

_NET = "/sys/class/net"
_DMI = "/sys/class/dmi/id"
# linux/sockios.h, linux/ethtool.h, linux/if.h, linux/wireless.h
_SIOCETHTOOL, _SIOCGIFFLAGS, _SIOCGIWNAME = 0x8946, 0x8913, 0x8B01
_ETHTOOL_GDRVINFO = 0x3
_DRVINFO_BYTES = 196
_IFF_PROMISC = 0x100


def driver(link: LinkFact) -> str:
    """The name of its driver; empty if nobody tells."""
    directory = _directory(link)
    if directory:
        try:
            return os.path.basename(os.readlink(f"{directory}/device/driver"))
        except OSError:  # a virtual interface has no device, but ethtool's answer has a name
            pass
    return _ethtool_driver(link.name)


def is_wireless(link: LinkFact) -> bool:
    """Whether it speaks 802.11."""
    directory = _directory(link)
    if directory:
        return any(os.path.exists(f"{directory}/{one}") for one in ("wireless", "phy80211"))
    return _ioctl(_SIOCGIWNAME, link.name, bytes(16)) is not None


def is_promiscuous(link: LinkFact) -> bool:
    """Whether it takes frames for any MAC address; by ioctl only a user's own wish is seen."""
    directory = _directory(link)
    if directory:
        return bool(int(_read(f"{directory}/flags") or "0", 16) & _IFF_PROMISC)
    answer = _ioctl(_SIOCGIFFLAGS, link.name, bytes(24))
    return bool(answer and struct.unpack_from("=H", answer, 16)[0] & _IFF_PROMISC)


def machine() -> str:
    """Who made the machine and what it is called (SMBIOS): of a virtual one, the cloud or hypervisor."""
    texts = (_read(f"{_DMI}/{name}") for name in ("sys_vendor", "product_name"))
    return " ".join(filter(None, texts))


def asset_tag() -> str:
    """The chassis' inventory number (SMBIOS), by which Azure marks its machines."""
    return _read(f"{_DMI}/chassis_asset_tag")


def _directory(link: LinkFact) -> str:
    directory = f"{_NET}/{link.name}"
    ours = _read(f"{directory}/ifindex") == str(link.index) and _read(f"{directory}/address") == link.mac
    return directory if ours else ""


def _read(path: str) -> str:
    """A file's line; empty if it is not there or says nothing (carrier of an interface that is down)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _ethtool_driver(name: str) -> str:
    buffer = ctypes.create_string_buffer(struct.pack("=I", _ETHTOOL_GDRVINFO), _DRVINFO_BYTES)
    # struct ifreq: the name, and a pointer to what ethtool fills in
    if _ioctl(_SIOCETHTOOL, name, struct.pack("@P16x", ctypes.addressof(buffer))) is None:
        return ""
    return buffer.raw[4:36].partition(b"\0")[0].decode("ascii", "replace")


def _ioctl(request: int, name: str, rest: bytes) -> bytes | None:
    """An ioctl about an interface (netdevice(7)); None if it knows no answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            return fcntl.ioctl(sock, request, struct.pack("16s", os.fsencode(name)) + rest)
        except OSError:
            return None
