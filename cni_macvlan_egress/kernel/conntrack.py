"""Which addresses have flows: a look at the connection tracking of the calling thread's namespace (ctnetlink)."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from struct import Struct

from ..protocol.errors import KERNEL_REFUSED, CniError

# linux/netlink.h, linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
_NETLINK_NETFILTER = 12
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_GET_CONNTRACK = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_SOURCES = {4: 1, 6: 3}  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
_NUMBER = Struct("=i")
_BUFFER = 1 << 16


def with_flows(addresses: Iterable[str]) -> set[str]:
    """Those of the addresses that packets of a known flow come from, in either direction.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    # An address is looked for as the attribute that holds it: no entry is taken apart, however many there are.
    wanted = {address: _as_source(address) for address in addresses}
    found: set[str] = set()
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        ) as sock:
            sock.send(
                _HEADER.pack(_HEADER.size + 4, _GET_CONNTRACK, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0) + bytes(4)
            )
            done = False
            while not done:
                data = sock.recv(_BUFFER)
                done = _is_last(data)
                found |= {address for address, attribute in wanted.items() if attribute in data}
    except OSError as error:
        raise CniError(KERNEL_REFUSED, f"cannot list the flows (ctnetlink): {error.strerror}") from None
    return found


def _as_source(address: str) -> bytes:
    one = ipaddress.ip_address(address)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(one.packed), _SOURCES[one.version]) + one.packed


def _is_last(data: bytes) -> bool:
    """Whether a part of a dump ends it.

    Raises:
        OSError: it ends it with an error.
    """
    position = 0
    while position < len(data):
        length, kind, *_ = _HEADER.unpack_from(data, position)
        if kind in (_NLMSG_ERROR, _NLMSG_DONE):
            number = -_NUMBER.unpack_from(data, position + _HEADER.size)[0]
            if number > 0:
                raise OSError(number, os.strerror(number))
            return True
        position += length + 3 & ~3
    return False
