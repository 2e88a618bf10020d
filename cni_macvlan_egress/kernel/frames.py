"""Ethernet frames of address conflict detection and announcement: built and read, never sent here. Pure."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from ..model.addresses import IPAddress

ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
_BROADCAST = b"\xff" * 6
_REQUEST, _REPLY = 1, 2
_ICMPV6 = 58
_NEIGHBOUR_SOLICITATION, _NEIGHBOUR_ADVERTISEMENT = 135, 136
_TARGET_LINK_LAYER_ADDRESS = 2  # RFC 4861, section 4.6.1
_OVERRIDE = 0x20000000
_ALL_NODES = ipaddress.IPv6Address("ff02::1")
_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_ND = struct.Struct("!BBHI16s")


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody's word that an address is theirs, or that they are about to take it."""

    address: IPAddress
    mac: str
    probing: bool


def probe(address: IPAddress, mac: str) -> bytes:
    """An ARP probe (RFC 5227, section 2.1.1) or a DAD neighbour solicitation (RFC 4862, section 5.4.2)."""
    if address.version == 4:
        return _arp(_REQUEST, mac, bytes(4), address.packed)
    group = solicited_node(address)
    body = _ND.pack(_NEIGHBOUR_SOLICITATION, 0, 0, 0, address.packed)
    return _icmpv6(mac, ipaddress.IPv6Address("::"), group, body)


def announcements(address: IPAddress, mac: str) -> list[bytes]:
    """Gratuitous ARP in both usual forms (RFC 5227, section 3), or an unsolicited NA (RFC 4861, section 7.2.6)."""
    if address.version == 4:
        return [_arp(operation, mac, address.packed, address.packed) for operation in (_REQUEST, _REPLY)]
    option = struct.pack("!BB6s", _TARGET_LINK_LAYER_ADDRESS, 1, _octets(mac))
    body = _ND.pack(_NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE, address.packed) + option
    return [_icmpv6(mac, address, _ALL_NODES, body)]


def read_claim(frame: bytes) -> Claim | None:
    """The claim that a received frame makes on an address, if it makes one."""
    if len(frame) < _ETHERNET.size:
        return None
    _, sender, protocol = _ETHERNET.unpack_from(frame)
    payload = frame[_ETHERNET.size :]
    if protocol == ETH_P_ARP:
        return _read_arp(payload)
    if protocol == ETH_P_IPV6:
        return _read_nd(payload, sender)
    return None


def solicited_node(address: ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    """The multicast group at which an address is asked for (RFC 4291, section 2.7.1)."""
    return ipaddress.IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + address.packed[-3:])


def multicast_mac(group: ipaddress.IPv6Address) -> bytes:
    """RFC 2464, section 7."""
    return b"\x33\x33" + group.packed[-4:]


def _arp(operation: int, mac: str, sender: bytes, target: bytes) -> bytes:
    own = _octets(mac)
    return _ETHERNET.pack(_BROADCAST, own, ETH_P_ARP) + _ARP.pack(
        1, 0x0800, 6, 4, operation, own, sender, bytes(6), target
    )


def _icmpv6(mac: str, source: ipaddress.IPv6Address, group: ipaddress.IPv6Address, body: bytes) -> bytes:
    pseudo = source.packed + group.packed + struct.pack("!II", len(body), _ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    # Hop limit 255: receivers drop neighbour discovery that came through a router (RFC 4861, section 7.1)
    header = _IPV6.pack(6 << 28, len(body), _ICMPV6, 255, source.packed, group.packed)
    return _ETHERNET.pack(multicast_mac(group), _octets(mac), ETH_P_IPV6) + header + body


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _read_arp(payload: bytes) -> Claim | None:
    if len(payload) < _ARP.size:
        return None
    hardware, protocol, hardware_size, size, operation, mac, sender, _, target = _ARP.unpack_from(payload)
    if (hardware, protocol, hardware_size, size) != (1, 0x0800, 6, 4):
        return None
    probing = sender == bytes(4) and operation == _REQUEST
    address = ipaddress.IPv4Address(target if probing else sender)
    return Claim(address, mac.hex(":"), probing)


def _read_nd(payload: bytes, ethernet_sender: bytes) -> Claim | None:
    if len(payload) < _IPV6.size + _ND.size:
        return None
    _, _, next_header, hops, source, _ = _IPV6.unpack_from(payload)
    kind, _, _, _, target = _ND.unpack_from(payload, _IPV6.size)
    if next_header != _ICMPV6 or hops != 255:
        return None
    if kind == _NEIGHBOUR_ADVERTISEMENT:
        return Claim(ipaddress.IPv6Address(target), ethernet_sender.hex(":"), probing=False)
    if kind == _NEIGHBOUR_SOLICITATION and source == bytes(16):
        return Claim(ipaddress.IPv6Address(target), ethernet_sender.hex(":"), probing=True)
    return None


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
