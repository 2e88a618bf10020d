"""What is really on the wire: the frames at the switch's port that the node is plugged into."""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from .namespace import Namespace

_ETH_P_ALL = 0x0003
_ETH_P_IP, _ETH_P_ARP = 0x0800, 0x0806
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP"}
_ARP_REQUEST = 1
_IPV4_MULTICAST = b"\x01\x00\x5e"  # RFC 1112, section 6.4
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("ll")
_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True)
class Frame:
    """One ARP or IPv4 frame.

    Attributes:
        time: seconds since the capture began.
        mac, to_mac: Ethernet source and destination.
        source, destination: IP addresses, or ARP's sender and target address.
        what: ARP's meaning, or the IP protocol.
    """

    time: float
    mac: str
    to_mac: str
    source: str
    destination: str
    what: str

    @property
    def text(self) -> str:
        """What it says, in a few words."""
        return {
            "probe": f"ARP probe {self.destination}",
            "announcement": f"ARP announce {self.source}",
            "request": f"ARP who has {self.destination}?",
            "reply": f"ARP {self.source} is here",
        }.get(self.what, f"{self.what} {self.source} → {self.destination}")


class Capture:
    """Frames of one interface, both ways, from construction to close."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        self._socket = namespace.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setblocking(False)
        self._start = time.time()  # the clock of the kernel's time stamps
        self._socket.bind((interface, _ETH_P_ALL))
        self._frames: list[Frame] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def restart(self) -> None:
        """Forget what was seen so far, and start the clock anew."""
        self.frames()
        self._frames.clear()
        self._start = time.time()

    def frames(self) -> list[Frame]:
        """All that was seen so far, in order."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(2048, socket.CMSG_SPACE(_TIMESPEC.size))
            except BlockingIOError:
                return list(self._frames)
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            frame = read(data, seconds + nanoseconds / 1e9 - self._start)
            if frame is not None:
                self._frames.append(frame)

    def wait(self, wanted: Callable[[Frame], bool]) -> Frame | None:
        """The first frame of a kind, which may be still to come; None if it does not come in time."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while True:
            found = next((frame for frame in self.frames() if wanted(frame)), None)
            left = deadline - time.monotonic()
            if found is not None or left <= 0:
                return found
            select.select([self._socket], [], [], left)


def read(data: bytes, when: float) -> Frame | None:
    """An ARP or IPv4 frame; None for any other, and for multicast: a host's IGMP at any time."""
    if len(data) < 34 or data.startswith(_IPV4_MULTICAST):
        return None
    to_mac, mac, protocol = data[:6].hex(":"), data[6:12].hex(":"), struct.unpack("!H", data[12:14])[0]
    body = data[14:]
    if protocol == _ETH_P_ARP and len(body) >= 28:
        source, destination = _address(body[14:18]), _address(body[24:28])
        operation = struct.unpack("!H", body[6:8])[0]
        return Frame(when, mac, to_mac, source, destination, _arp(operation, source, destination))
    if protocol == _ETH_P_IP:
        what = _PROTOCOLS.get(body[9], f"IP {body[9]}")
        source, destination = _address(body[12:16]), _address(body[16:20])
        return Frame(when, mac, to_mac, source, destination, what)
    return None


def _arp(operation: int, source: str, destination: str) -> str:
    """RFC 5227: a probe claims nothing yet, an announcement is about the sender's own address."""
    if source == destination:
        return "announcement"
    if operation == _ARP_REQUEST:
        return "probe" if source == "0.0.0.0" else "request"  # noqa: S104
    return "reply"


def _address(data: bytes) -> str:
    return str(ipaddress.IPv4Address(data))
