"""Packets that are not what they seem: options, extension headers, fragments, tunnels, tags."""

from __future__ import annotations

import ipaddress
import secrets
import struct
from collections.abc import Callable

from lab.attacker import udp

ETH_P_IP, ETH_P_ARP, ETH_P_8021Q, ETH_P_IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
ETH_P_MPLS, ETH_P_PPPOE, ETH_P_8021AD = 0x8847, 0x8864, 0x88A8
# Next headers and protocols, https://www.iana.org/assignments/protocol-numbers
HOP_BY_HOP, IPIP, UDP, IN6, ROUTING, FRAGMENT, GRE, ESP, AH = 0, 4, 17, 41, 43, 44, 47, 50, 51
ICMPV6, DESTINATION_OPTIONS, SCTP, MOBILITY = 58, 60, 132, 135
LOOSE, STRICT, NO_OPERATION, RECORD_ROUTE, TIMESTAMP = 131, 137, 1, 7, 68  # options of IPv4, RFC 791
MORE_FRAGMENTS = 0x2000

# From source, destination and token to a packet.
Form = Callable[[str, str, bytes], bytes]


def version(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def datagram(source: str, destination: str, token: bytes, port: int = 53) -> bytes:
    """What every other form hides: an ordinary UDP datagram."""
    return udp(source, destination, (40_000, port), token)


def body(source: str, destination: str, token: bytes, port: int = 53) -> bytes:
    """The UDP part of it, with a checksum over these addresses."""
    return datagram(source, destination, token, port)[40 if version(source) == 6 else 20 :]


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    content: bytes,
    *,
    options: bytes = b"",
    fragment: int = 0,
    identifier: int = 4711,
) -> bytes:
    """A packet of IPv4; `fragment` is the whole field of flags and offset."""
    options += bytes(-len(options) % 4)
    length = 20 + len(options)
    head = struct.pack(
        "!BBHHHBBH", 0x40 | length // 4, 0, length + len(content), identifier, fragment, 64, protocol, 0
    )
    head += ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed + options
    total = sum(struct.unpack(f"!{length // 2}H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + content


def ipv6(source: str, destination: str, next_header: int, content: bytes, *, hops: int = 64) -> bytes:
    """A packet of IPv6."""
    head = struct.pack("!IHBB", 6 << 28, len(content), next_header, hops)
    return head + ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed + content


def carried(protocol: int) -> Form:
    """Some other protocol that has a denied packet inside."""

    def form(source: str, destination: str, token: bytes) -> bytes:
        inner = datagram(source, destination, token)
        head = {
            GRE: struct.pack("!HH", 0, ETH_P_IPV6 if version(source) == 6 else ETH_P_IP),
            SCTP: struct.pack("!HHII", 40_000, 53, 1, 0),
            ESP: struct.pack("!II", 1, 1),
            AH: struct.pack("!BBHIII", UDP, 2, 0, 1, 1, 0),
        }.get(protocol, b"")
        make = ipv6 if version(source) == 6 else ipv4
        return make(source, destination, protocol, head + inner)

    return form


def with_options(options: bytes) -> Form:
    """IPv4 with options."""
    return lambda source, destination, token: ipv4(
        source, destination, UDP, body(source, destination, token), options=options
    )


def fragment4(offset: int, *, more: bool) -> Form:
    """A part of a datagram, at an offset in units of 8 bytes."""
    field = offset | (MORE_FRAGMENTS if more else 0)

    def form(source: str, destination: str, token: bytes) -> bytes:
        whole = body(source, destination, token) if offset == 0 else token
        return ipv4(source, destination, UDP, whole + bytes(-len(whole) % 8), fragment=field)

    return form


def padding_options(next_header: int, units: int = 0) -> bytes:
    """A header of hop-by-hop or destination options that says nothing, of 8 bytes and some units of 8 more."""
    size = 6 + 8 * units
    return bytes((next_header, units, 1, size - 2)) + bytes(size - 2)


def fragment_header(
    next_header: int, offset: int = 0, *, more: bool = False, identifier: int = 4711
) -> bytes:
    return struct.pack("!BBHI", next_header, 0, offset << 3 | more, identifier)


def routing_header(next_header: int, kind: int, *segments: str, left: int = 1) -> bytes:
    """Of type 0 (RFC 5095), 2 (RFC 6275) or 4 (segment routing, RFC 8754)."""
    addresses = b"".join(ipaddress.IPv6Address(one).packed for one in segments)
    last = len(segments) - 1 if kind == 4 else 0
    return struct.pack("!BBBBBBH", next_header, len(addresses) // 8, kind, left, last, 0, 0) + addresses


def chained(*headers: tuple[int, Callable[[int], bytes]]) -> Form:
    """IPv6 with extension headers before the datagram."""

    def form(source: str, destination: str, token: bytes) -> bytes:
        content, following = body(source, destination, token), UDP
        for number, make in reversed(headers):
            content, following = make(following) + content, number
        return ipv6(source, destination, following, content)

    return form


def neighbour_discovery(kind: int, hops: int, target: str = "") -> Form:
    """A message of neighbour discovery or MLD about some address, and something else after it."""

    def form(source: str, destination: str, token: bytes) -> bytes:
        content = (
            struct.pack("!BBHI", kind, 0, 0, 0) + ipaddress.IPv6Address(target or destination).packed + token
        )
        pseudo = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
        data = pseudo + struct.pack("!II", len(content), ICMPV6) + content
        data += bytes(len(data) % 2)
        total = sum(struct.unpack(f"!{len(data) // 2}H", data))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        content = content[:2] + struct.pack("!H", ~total & 0xFFFF) + content[4:]
        return ipv6(source, destination, ICMPV6, content, hops=hops)

    return form


def source_route(kind: int, *addresses: str, pointer: int = 4) -> bytes:
    """The option, with a pointer to the address that comes next."""
    listed = b"".join(ipaddress.IPv4Address(one).packed for one in addresses)
    return bytes((kind, 3 + len(listed), pointer)) + listed


def frame(source: str, destination: str, packet: bytes, ethertype: int = 0) -> bytes:
    """An Ethernet frame; of the packet's own type if no other is given."""
    own = ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP
    return (
        bytes.fromhex((destination + source).replace(":", "")) + struct.pack("!H", ethertype or own) + packet
    )


def tagged(plain: bytes, *tags: tuple[int, int]) -> bytes:
    """A frame with VLAN tags: pairs of ethertype and VLAN, the outermost first."""
    return plain[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + plain[12:]


def labelled(plain: bytes) -> bytes:
    """A frame with an MPLS label at the bottom of its stack."""
    return plain[:12] + struct.pack("!HI", ETH_P_MPLS, 16 << 12 | 1 << 8 | 64) + plain[14:]


def in_session(plain: bytes) -> bytes:
    """A frame of PPPoE (RFC 2516)."""
    packet = plain[14:]
    protocol = 0x57 if packet[0] >> 4 == 6 else 0x21
    return plain[:12] + struct.pack("!HBBHHH", ETH_P_PPPOE, 0x11, 0, 1, len(packet) + 2, protocol) + packet


def encapsulated(plain: bytes) -> bytes:
    """A frame of IEEE 802.3 with LLC and SNAP (RFC 1042)."""
    content = bytes.fromhex("aaaa03000000") + plain[12:]
    return plain[:12] + struct.pack("!H", len(content)) + content


def arp(mac: str, claimed: str, *, sender_mac: str = "", target: str = "", operation: int = 2) -> bytes:
    """A frame to everybody that says where an address is, with a trailer for a token."""
    own, said = (bytes.fromhex(one.replace(":", "")) for one in (mac, sender_mac or mac))
    address = ipaddress.IPv4Address(claimed).packed
    wanted = ipaddress.IPv4Address(target or claimed).packed
    content = struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, operation) + said + address + bytes(6) + wanted
    return b"\xff" * 6 + own + struct.pack("!H", ETH_P_ARP) + content


def random_mac() -> str:
    """One of nobody's."""
    return "02:" + secrets.token_bytes(5).hex(":")
