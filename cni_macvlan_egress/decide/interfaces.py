"""Where the traffic of a pod's main interface is held: at the node's end of its veth, as nft commands.

Frames are judged by what they are and not by what their sender called them: on the way out through a NIC skb->protocol
is the word of whoever opened the packet socket, so that it and the type in the frame have to agree.
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .enforcement import KINDS, TABLE, fixed, quoted

FORGED = "forged"
PRIORITY = "filter"
# The sender of an ARP probe (RFC 5227, section 2.1.1)
_UNKNOWN_YET = "0.0.0.0"  # noqa: S104
_ANY_NEIGHBOUR = ("fe80::/10", "::")

Side = Literal["host", "pod"]


@dataclass(frozen=True, slots=True)
class MainInterface:
    """A pod's main interface.

    Attributes:
        device: the host end of the veth, or the interface itself where there is no such end.
        side: on which of the two that is.
        addresses: those that the pod may send from.
    """

    key: str
    namespace: str
    device: str
    side: Side
    mac: str
    addresses: tuple[str, ...]


def put_main_interface(held: MainInterface) -> str:
    """Lead a pod's traffic to its namespace's policy.

    Raises:
        CniError: INVALID_CONFIGURATION for an interface name that nftables cannot write.
    """
    outgoing, incoming = ("ingress", "egress") if held.side == "host" else ("egress", "ingress")
    chain, device = _chain(held.key), quoted(held.device)
    base = f"priority {PRIORITY}; policy accept;"
    lines = [
        f"add chain {TABLE} {chain} {{ type filter hook {outgoing} device {device} {base} }}",
        f"add chain {TABLE} {chain}-in {{ type filter hook {incoming} device {device} {base} }}",
        f"flush chain {TABLE} {chain}",
        f"flush chain {TABLE} {chain}-in",
        f"add rule {TABLE} {chain}-in goto {fixed(held.namespace, 'in')}",
        f"add rule {TABLE} {chain} ether saddr != {held.mac} counter drop comment {quoted(FORGED)}",
    ]
    rules = by_source(
        held.mac, held.addresses, {one: f"goto {fixed(held.namespace, f'ip{one}')}" for one in KINDS}
    )
    lines += [f"add rule {TABLE} {chain} {rule}" for rule in rules]
    return "\n".join((*lines, ""))


def drop_main_interface(key: str) -> str:
    """Let a pod's traffic be."""
    chain = _chain(key)
    return f"delete chain {TABLE} {chain}\ndelete chain {TABLE} {chain}-in\n"


def by_source(
    mac: str, addresses: Sequence[str], verdicts: dict[int, str], near: Sequence[str] = ()
) -> Iterator[str]:
    """Rules for frames of the two families and of ARP that have a source of the pod's own; all else is dropped.

    Args:
        addresses: those that it may send from; empty if that is not known.
        verdicts: what happens to them, by family.
        near: IPv6 networks on the link, where neighbours are looked for whatever the policy says of them.
    """
    for family, (word, _, _) in KINDS.items():
        own = sorted(one for one in addresses if ipaddress.ip_address(one).version == family)
        if family == 6 and addresses:
            yield _claims(own)
        sources = (*own, *_ANY_NEIGHBOUR) if family == 6 else own
        match = f"ether type {word} meta protocol {word}"
        if addresses:
            match += f" {word} saddr {{ {', '.join(sources)} }}"
        if family == 6 and near:
            yield f"{match} ip6 daddr {{ {', '.join(near)} }} icmpv6 type {{ 135, 136 }} ip6 hoplimit 255 accept"
        if sources or not addresses:
            yield f"{match} {verdicts[family]}"
    ipv4 = sorted(one for one in addresses if ipaddress.ip_address(one).version == 4)
    claims = f" arp saddr ip {{ {', '.join((*ipv4, _UNKNOWN_YET))} }}" if addresses else ""
    yield f"ether type arp meta protocol arp arp saddr ether {mac}{claims} accept"
    yield f"counter drop comment {quoted(FORGED)}"


def short(key: str) -> str:
    """An attachment's key within nft's alphabet, with a checksum of what had to go."""
    plain = "".join(char if char.isalnum() and char.isascii() else "_" for char in key[:24])
    return f"{plain}-{zlib.crc32(key.encode()):08x}"


def _claims(own: Sequence[str]) -> str:
    """Drops neighbour advertisements of others' addresses; the target follows 4 reserved bytes (RFC 4861, 4.4)."""
    mine = ", ".join(f"0x{int(ipaddress.IPv6Address(one)):032x}" for one in own)
    targets = f" @th,64,128 != {{ {mine} }}" if mine else ""
    return f"icmpv6 type 136{targets} @th,64,10 != 0x3fa counter drop comment {quoted(FORGED)}"


def _chain(key: str) -> str:
    return f"pod-{short(key)}"
