"""An egress policy as it is enforced, whatever document it came from: plain data, read without pydantic."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PortProtocol = Literal["tcp", "udp", "sctp"]
ENP_KIND, FIREWALL_KIND = "EgressNetworkPolicy", "EgressFirewall"


@dataclass(frozen=True, slots=True)
class Port:
    """A destination port of one protocol."""

    protocol: PortProtocol
    port: int


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule; exactly one of network and name is set.

    Attributes:
        number: its place in the document, from 1.
        name: a DNS name in lower case without final dot, `*.` before it for a wildcard.
        ports: what it is about, all traffic if empty.
    """

    number: int
    allow: bool
    network: Network | None = None
    name: str = ""
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of one namespace: the first rule that matches decides, and without one all is allowed.

    Attributes:
        title: where it comes from, as an admin would say it (`EgressFirewall default in /etc/…/a.yaml`).
        broken: why it cannot be enforced as written; then nothing outside the cluster can be reached.
    """

    namespace: str
    title: str
    rules: tuple[PolicyRule, ...] = ()
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the node's resolver says of a name.

    Attributes:
        addresses: IPv4 and IPv6, sorted; the last good ones if the last question failed.
        expires: when to ask again, in seconds since the epoch.
        error: why the last question failed, or what of its answer was refused; empty if all is well.
    """

    addresses: tuple[str, ...] = ()
    expires: float = 0.0
    error: str = ""
