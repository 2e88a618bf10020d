"""IP addresses, prefixes and MAC addresses as configuration and annotations write them."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Annotated

from pydantic import BeforeValidator

from .complaints import show

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@lru_cache(maxsize=4096)
def parsed(text: str) -> IPInterface:
    """An address with its prefix length as the kernel and plans spell it; one that comes again costs nothing.

    Raises:
        ValueError: it is none.
    """
    return ipaddress.ip_interface(text)


def parse_mac(text: str) -> str:
    """A unicast MAC address in the kernel's spelling.

    Raises:
        ValueError: with the rule that is broken.
    """
    mac = text.strip().lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise ValueError("a MAC address is six hexadecimal bytes like 02:00:5e:10:00:01")
    if int(mac[:2], 16) & 1:
        raise ValueError("a multicast MAC address (odd first byte) cannot belong to an interface")
    if mac == "00:00:00:00:00:00":
        raise ValueError("the MAC address cannot be all zero")
    return mac


def parse_network(value: object) -> IPNetwork:
    """A CIDR without host bits; a bare address is a CIDR of one.

    Raises:
        ValueError: with the rule that is broken.
    """
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError("a CIDR like 10.0.0.0/8 is expected")
    _refuse_zone(value)
    try:
        return ipaddress.ip_network(value.strip())
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(value.strip(), strict=False)
    except ValueError:
        raise ValueError("not a CIDR; write it like 10.0.0.0/8 or fd00::/8") from None
    raise ValueError(f"a CIDR has no host bits; did you mean {meant}?")


def parse_host_interface(text: str) -> IPInterface:
    """An address that a host can have, with its prefix length (/32 or /128 if it names none).

    Raises:
        ValueError: with the rule that is broken.
    """
    _refuse_zone(text)
    length = text.partition("/")[2]
    try:
        if length and not (length.isascii() and length.isdigit()):
            raise ValueError
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(
            f"{show(text)} is not an IP address; write it like 192.168.12.99, 192.168.12.99/24 or fd00::99/64"
        ) from None
    reason = not_a_host(interface.ip)
    if not reason and interface.ip.is_link_local:
        reason = "is a link-local address, which no firewall beyond the link will ever see"
    network = interface.network
    wide = network.prefixlen < network.max_prefixlen - 1
    if not reason and wide and interface.ip == network.network_address:
        reason = f"is the network's own address in /{network.prefixlen}"
    if not reason and wide and interface.version == 4 and interface.ip == network.broadcast_address:
        reason = f"is the broadcast address in /{network.prefixlen}"
    if not reason and network.prefixlen == 0:
        reason = "has a prefix length of 0, which would put the whole Internet on the link"
    if reason:
        raise ValueError(f"{interface} {reason}; a host's address is expected")
    return interface


def parse_host_address(text: str) -> IPAddress:
    """An address that a host can have, without prefix length.

    Raises:
        ValueError: with the rule that is broken.
    """
    _refuse_zone(text)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        hint = "leave out the prefix length" if "/" in text else "write it like 192.168.12.1 or fd00::1"
        raise ValueError(f"{show(text)} is not an IP address; {hint}") from None
    if reason := not_a_host(address):
        raise ValueError(f"{address} {reason}; a host's address is expected")
    return address


def _refuse_zone(text: str) -> None:
    if "%" in text:
        raise ValueError(f"{show(text)} names a zone; leave out everything from '%' on")


def not_a_host(address: IPAddress) -> str:
    """Why no other host can have an address; empty if one can."""
    if address.version == 6 and address.ipv4_mapped:
        return "is an IPv4-mapped IPv6 address"
    for kind, is_of_kind in (
        ("the unspecified address", address.is_unspecified),
        ("a loopback address", address.is_loopback),
        ("a multicast address", address.is_multicast),
        ("the broadcast address", address == ipaddress.IPv4Address("255.255.255.255")),
        ("in 0.0.0.0/8", address.version == 4 and address in ipaddress.IPv4Network("0.0.0.0/8")),
    ):
        if is_of_kind:
            return f"is {kind}"
    return ""


Network = Annotated[IPNetwork, BeforeValidator(parse_network)]
