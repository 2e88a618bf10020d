"""A plan: everything that an ADD does to the kernel, as data.

ADD applies it, DEL takes it back, CHECK compares the kernel with it, state files store it. It holds nothing but
names, numbers and addresses in their usual spelling. Plain dataclasses: they are made at every ADD, and pydantic, which
reads them back from a state file, would take some milliseconds for each class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .facts import MAIN_TABLE

# Marks routes and rules as ours (rt_protos of iproute2 leaves these numbers free).
PROTOCOL = 77


class _Step:
    """What the steps have in common: a state file that says more than is known here is not understood."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(_Step):
    """The macvlan; its MAC address is set beforehand, so that a half-finished one can be told from others'."""

    name: str
    master: str
    mode: str
    mtu: int
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl(_Step):
    """A setting below /proc/sys, in the pod's namespace.

    Attributes:
        before: what DEL puts back, None for a setting that goes with the macvlan.
    """

    key: str
    value: str
    before: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Address(_Step):
    """An address of the macvlan; without prefix route it draws no other traffic to the interface."""

    address: str
    prefix_route: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(_Step):
    """A route in the pod."""

    destination: str
    interface: str
    gateway: str | None = None
    table: int = MAIN_TABLE
    source: str | None = None
    onlink: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(_Step):
    """A policy routing rule in the pod."""

    family: Literal[4, 6]
    priority: int
    table: int
    source: str | None = None
    oif: str | None = None
    iif: str | None = None
    suppress_prefix_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward(_Step):
    """Where one line of the destinations sends one family.

    Attributes:
        line: its number.
        text: the line as it was understood.
        protocol, ports: what it takes; None for everything that no other line takes.
        target_port: None where the port is kept.
        addresses: where to; several are chosen from by the client's address.
    """

    line: int
    text: str
    family: Literal[4, 6]
    protocol: Literal["tcp", "udp", "sctp"] | None = None
    ports: tuple[int, int] | None = None
    target_port: int | None = None
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts(_Step):
    """How to find out whether another host holds the addresses."""

    detection: Literal["fast", "strict", "off"] = "off"
    timeout_ms: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal(_Step):
    """What has to be known of a request to follow its destinations' names to other addresses.

    Attributes:
        inside: the interface at which traffic comes in.
        mtus: its own and the macvlan's.
        gateways: one of each family that has one.
        cluster_networks: where no name may lead.
        retired: addresses that a name had before; their routes stay for the flows that still use them.
    """

    inside: str
    mtus: tuple[int, int]
    only_destinations: bool
    gateways: tuple[str, ...]
    cluster_networks: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(_Step):
    """The steps in the order in which they are taken.

    Attributes:
        forwards: what the ruleset does, line by line.
        ruleset: the nftables table as text, empty without destinations.
        renewal: None where no destination is a name.
    """

    link: Link
    forwards: tuple[Forward, ...] = ()
    ruleset: str = ""
    sysctls: tuple[Sysctl, ...] = ()
    conflicts: Conflicts = Conflicts()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    renewal: Renewal | None = None
