"""Waiting until no packet is on its way any more that has begun before."""

from __future__ import annotations

import socket

from ..turns import waiting


def grace_period() -> None:
    """Wait for an RCU grace period (Documentation/RCU): packet_release() does, in net/packet/af_packet.c."""
    with waiting(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0):
        pass
