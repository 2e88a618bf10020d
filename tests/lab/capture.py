"""What is really on the wire: every frame that passes a port of the LAN's switch."""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

ETH_P_ALL = 0x0003
ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 0x0800, 0x0806, 0x86DD
ICMPV6 = 58
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
ARP_REQUEST, ARP_REPLY = 1, 2
BUFFER_BYTES = 4 << 20
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35


@dataclass(frozen=True)
class Frame:
    """One Ethernet frame.

    Attributes:
        src: MAC address it comes from.
        dst: MAC address it goes to.
        ethertype: 0x0800, 0x0806, 0x86dd, …
        source: IP source, or ARP's sender address.
        destination: IP destination, or ARP's target address.
        proto: IP protocol or next header; ARP's operation.
        icmp: ICMPv6 type.
        target: address that a neighbour message is about.
        time: when the kernel saw it, in seconds.
    """

    src: str
    dst: str
    ethertype: int
    source: str = ""
    destination: str = ""
    proto: int = 0
    icmp: int = 0
    target: str = ""
    time: float = field(default=0.0, compare=False)

    @property
    def is_gratuitous_arp(self) -> bool:
        """An announcement: sender and target address are the same (RFC 5227, section 2.3)."""
        return self.ethertype == ETH_P_ARP and self.source == self.destination

    @property
    def is_arp_probe(self) -> bool:
        """A question for an address without claiming it: the sender's address is all zero."""
        return self.ethertype == ETH_P_ARP and self.proto == ARP_REQUEST and self.source == "0.0.0.0"

    @property
    def is_unsolicited_na(self) -> bool:
        return self.icmp == NEIGHBOUR_ADVERTISEMENT and self.destination == "ff02::1"

    @property
    def is_nd_probe(self) -> bool:
        """A neighbour solicitation from the unspecified address, as duplicate address detection sends it."""
        return self.icmp == NEIGHBOUR_SOLICITATION and self.source == "::"


class Capture:
    """Frames of one interface, both ways, from construction to close."""

    def __init__(self, sock: socket.socket, interface: str) -> None:
        self._socket = sock
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.bind((interface, ETH_P_ALL))
        sock.setblocking(False)
        self._frames: list[Frame] = []

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.frames()
        self._socket.close()

    def frames(self, wanted: Callable[[Frame], bool] = lambda _: True) -> list[Frame]:
        """The frames seen so far that a test asks for, in order."""
        while self._socket.fileno() >= 0:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(2048, 64)
            except BlockingIOError:
                break
            seconds, nanoseconds = struct.unpack("ll", ancillary[0][2])
            self._frames.append(replace(_parse(data), time=seconds + nanoseconds / 1e9))
        return [frame for frame in self._frames if wanted(frame)]

    def wait(self, wanted: Callable[[Frame], bool], what: str, timeout: float = 3.0) -> Frame:
        """The first frame of a kind, which may be still to come."""
        deadline = time.monotonic() + timeout
        while not (found := self.frames(wanted)):
            left = deadline - time.monotonic()
            assert left > 0, f"not seen on the LAN: {what}; seen were\n" + "\n".join(map(str, self._frames))
            select.select([self._socket], [], [], left)
        return found[0]


def _parse(data: bytes) -> Frame:
    dst, src, ethertype = _mac(data[:6]), _mac(data[6:12]), struct.unpack("!H", data[12:14])[0]
    body = data[14:]
    if ethertype == ETH_P_ARP and len(body) >= 28:
        return Frame(
            src, dst, ethertype, _ip(body[14:18]), _ip(body[24:28]), struct.unpack("!H", body[6:8])[0]
        )
    if ethertype == ETH_P_IP and len(body) >= 20:
        return Frame(src, dst, ethertype, _ip(body[12:16]), _ip(body[16:20]), body[9])
    if ethertype == ETH_P_IPV6 and len(body) >= 40:
        icmp = body[40] if body[6] == ICMPV6 and len(body) > 40 else 0
        about_neighbour = icmp in (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT) and len(body) >= 64
        target = _ip(body[48:64]) if about_neighbour else ""
        return Frame(src, dst, ethertype, _ip(body[8:24]), _ip(body[24:40]), body[6], icmp, target)
    return Frame(src, dst, ethertype)


def _mac(data: bytes) -> str:
    return data.hex(":")


def _ip(data: bytes) -> str:
    return str(ipaddress.ip_address(data))
