"""What the tests of the redirect ask for, and the look at the wire that goes with it."""

from __future__ import annotations

from lab import Capture, Pod, source
from lab.sockets import version_of

EGRESS4, EGRESS6 = "192.168.12.99", "fd00:12::99"
GATEWAY4, GATEWAY6 = "192.168.12.1", "fd00:12::1"
DRIFT, INVALID_ANNOTATION, TRY_AGAIN_LATER = 107, 106, 11
OFF = {"conflictDetection": "off"}
_SOURCES = {4: (f"{EGRESS4}/24", GATEWAY4), 6: (f"{EGRESS6}/64", GATEWAY6)}


def redirect(*lines: str, families: tuple[int, ...] = (4, 6), **others: str) -> dict[str, str]:
    """The annotations of an egress pod with some lines of destinations."""
    addresses, gateways = zip(*(_SOURCES[family] for family in families), strict=True)
    return source(",".join(addresses), ",".join(gateways), destination="\n".join(lines), **others)


def egress(address: str) -> str:
    """The source address of the family of another address."""
    return EGRESS6 if version_of(address) == 6 else EGRESS4


def own(pod: Pod, version: int) -> str:
    """The pod's address on eth0."""
    return pod.address6 if version == 6 else pod.address


def senders(wire: Capture, *destinations: str) -> set[tuple[str, str]]:
    """MAC and IP address of all that was sent to some destinations over the node's port of the switch."""
    return {(frame.src, frame.source) for frame in wire.frames(lambda f: f.destination in destinations)}


def of_the_macvlan(pod: Pod, *addresses: str) -> set[tuple[str, str]]:
    """What `senders` has to be if the pod alone has sent, under its egress addresses."""
    return {(pod.mac("macvlan0"), address) for address in addresses}
