"""What is found on the node and in the pod before anything is decided: plain data, read by the kernel layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAIN_TABLE = 254  # RT_TABLE_MAIN
ETHERNET = 1  # ARPHRD_ETHER


@dataclass(frozen=True, slots=True)
class LinkFact:
    """An interface.

    Attributes:
        kind: rtnetlink's link kind (`macvlan`, `bridge`, `veth` …), empty for a physical NIC.
        hardware: ARPHRD_… number.
        controller: name of the bridge or bond that the interface is a port of.
        parent: index of the interface a macvlan sits on or of a veth's other end, in that one's namespace.
        parent_netns: ID that this namespace has for that one; None if it is this one.
    """

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    kind: str = ""
    mode: str = ""
    hardware: int = ETHERNET
    loopback: bool = False
    carrier: bool = True
    controller: str = ""
    parent: int = 0
    parent_netns: int | None = None


@dataclass(frozen=True, slots=True)
class AddressFact:
    """An address with its prefix length on an interface."""

    interface: str
    address: str
    tentative: bool = False
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class RouteFact:
    """A unicast route; a default route's destination is 0.0.0.0/0 or ::/0."""

    destination: str
    interface: str
    gateway: str | None = None
    table: int = MAIN_TABLE
    source: str | None = None
    onlink: bool = False
    metric: int = 0
    protocol: int = 0


@dataclass(frozen=True, slots=True)
class RuleFact:
    """A policy routing rule."""

    family: int
    priority: int
    table: int
    source: str | None = None
    oif: str | None = None
    iif: str | None = None
    suppress_prefix_length: int | None = None


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One network namespace: the node's, or a pod's.

    Attributes:
        ipv6: whether its kernel speaks IPv6 at all.
        settings: values below /proc/sys that were asked for and exist.
    """

    links: tuple[LinkFact, ...] = ()
    addresses: tuple[AddressFact, ...] = ()
    routes: tuple[RouteFact, ...] = ()
    rules: tuple[RuleFact, ...] = ()
    ipv6: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)

    def link(self, name: str) -> LinkFact | None:
        """The interface of a name."""
        return next((link for link in self.links if link.name == name), None)

    def addresses_of(self, interface: str) -> list[str]:
        """The addresses of an interface, with prefix lengths."""
        return [one.address for one in self.addresses if one.interface == interface]
