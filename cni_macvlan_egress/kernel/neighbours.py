"""Asks the LAN whether an address is taken, and tells it that one is ours.

Runs in the thread that stands in the pod's namespace; the interface is up and has no address yet.
"""

from __future__ import annotations

import errno
import random
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from ..model.addresses import IPAddress
from ..protocol.errors import KERNEL_REFUSED, CniError
from ..turns import waiting
from .frames import (
    ETH_P_ARP,
    ETH_P_IPV6,
    Claim,
    announcements,
    multicast_mac,
    probe,
    read_claim,
    solicited_node,
)

_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_MR_MULTICAST = 0
_PROBES = 3
# RFC 5227, section 1.1, seconds
_PROBE_WAIT = 1.0
_PROBE_MIN, _PROBE_MAX = 1.0, 2.0
_ANNOUNCE_WAIT = 2.0
# What an egress hook drops is told to the sender as a want of buffers.
_HINTS = {
    errno.ENOBUFS: "; if egress policies hold this NIC, this network's configuration needs 'policy' as well, or the "
    "other one's 'unknownMacs': \"pass\""
}


def fast_schedule(timeout_ms: int) -> tuple[list[float], float]:
    """When to probe and when to stop listening, in seconds: RFC 5227's form in a fraction of its time."""
    timeout = timeout_ms / 1000
    return [timeout * number / (_PROBES + 1) for number in range(_PROBES)], timeout


def strict_schedule() -> tuple[list[float], float]:
    """RFC 5227's own timing: four to seven seconds."""
    times = [random.uniform(0, _PROBE_WAIT)]
    while len(times) < _PROBES:
        times.append(times[-1] + random.uniform(_PROBE_MIN, _PROBE_MAX))
    return times, times[-1] + _ANNOUNCE_WAIT


def find_claim(
    interface: str, mac: str, addresses: Sequence[IPAddress], schedule: tuple[list[float], float]
) -> Claim | None:
    """Probe for addresses of both families at once; the first claim of somebody else ends it.

    Args:
        schedule: seconds at which to probe, and the second at which to stop waiting.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    times, end = schedule
    wanted = set(addresses)
    try:
        with ExitStack() as stack:
            sockets = {
                family: stack.enter_context(_open(interface, family, addresses))
                for family in {address.version for address in addresses}
            }
            start = time.monotonic()
            for due, until in zip(times, [*times[1:], end], strict=True):
                if claim := _listen(sockets.values(), start + due, wanted, mac):
                    return claim
                for address in addresses:
                    sockets[address.version].send(probe(address, mac))
                if claim := _listen(sockets.values(), start + until, wanted, mac):
                    return claim
    except OSError as error:
        raise CniError(
            KERNEL_REFUSED,
            f"cannot probe for {_names(addresses)} on {interface}: {error.strerror}"
            f"{_HINTS.get(error.errno or 0, '')}",
        ) from None
    return None


def announce(interface: str, mac: str, addresses: Sequence[IPAddress]) -> None:
    """Tell every host and switch of the LAN where the addresses are now.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.bind((interface, 0))
            for address in addresses:
                for frame in announcements(address, mac):
                    sender.send(frame)
    except OSError as error:
        raise CniError(
            KERNEL_REFUSED, f"cannot announce {_names(addresses)} on {interface}: {error.strerror}"
        ) from None


def _open(interface: str, family: int, addresses: Iterable[IPAddress]) -> socket.socket:
    protocol = ETH_P_ARP if family == 4 else ETH_P_IPV6
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    try:
        opened.bind((interface, protocol))
        opened.setblocking(False)
        for address in addresses:
            if address.version == 6:  # hear others that probe for it; the address itself is not ours yet
                group = multicast_mac(solicited_node(address))
                index = socket.if_nametoindex(interface)
                request = struct.pack("iHH8s", index, _PACKET_MR_MULTICAST, len(group), group)
                opened.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
    except BaseException:
        opened.close()
        raise
    return opened


def _listen(sockets: Iterable[socket.socket], until: float, wanted: set[IPAddress], mac: str) -> Claim | None:
    sockets = list(sockets)
    while (left := until - time.monotonic()) > 0:
        with waiting():
            readable, _, _ = select.select(sockets, [], [], left)
        for one in readable:
            frame, origin = one.recvfrom(2048)
            claim = read_claim(frame) if origin[2] != socket.PACKET_OUTGOING else None
            # Our own probe may come back from a reflecting switch (VEPA).
            if claim and claim.address in wanted and not (claim.probing and claim.mac == mac):
                return claim
    return None


def _names(addresses: Iterable[IPAddress]) -> str:
    return ", ".join(map(str, addresses))
