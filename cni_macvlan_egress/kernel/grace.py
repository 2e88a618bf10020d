"""Waiting until no packet is on its way any more that has begun before."""

from __future__ import annotations

import socket

from ..protocol.errors import KERNEL_REFUSED, CniError
from ..turns import waiting


def grace_period() -> None:
    """Wait for an RCU grace period (Documentation/RCU): packet_release() does, in net/packet/af_packet.c.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    try:
        with waiting(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0):
            pass
    except OSError as error:
        raise CniError(KERNEL_REFUSED, f"cannot open a packet socket: {error.strerror}") from None
