"""The destination grammar: the lines that say where traffic sent to the pod goes.

Everything that a line may say must live here; which families, addresses and packets follow from it is decided
elsewhere. A superset of what OpenShift's egress router and egress-router-cni take.

    IP-or-NAME                               everything that no other line takes, ports kept; last
    PORT PROTO IP-or-NAME [TARGETPORT]       PORT may be a range 8000-8010; several addresses: 192.0.2.1,192.0.2.2
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Literal

from .addresses import IPAddress, parse_host_address
from .complaints import show

Protocol = Literal["tcp", "udp", "sctp"]
PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp", "sctp")
_PORT_MAX = 65535
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAME_MAX = 253  # RFC 1035, section 2.3.4, less the root's own dot and length byte


class DestinationError(ValueError):
    """A line that breaks the grammar: says number, token and rule."""

    def __init__(self, line: int, token: str, rule: str) -> None:
        super().__init__(f"line {line}: {show(token)}: {rule}")


@dataclass(frozen=True, slots=True)
class Destination:
    """One line.

    Attributes:
        line: its number, from 1.
        protocol: None for the line that takes everything else.
        ports: first and last local port, None with protocol None.
        target_port: the port at the destination, None where the local one is kept.
        addresses: where to, all of one family; empty with a name.
        name: a DNS name in lower case without the last dot, None with addresses.
    """

    line: int
    protocol: Protocol | None
    ports: tuple[int, int] | None
    target_port: int | None
    addresses: tuple[IPAddress, ...] = ()
    name: str | None = None

    @property
    def target(self) -> str:
        """The addresses or the name, as the line gives them."""
        return self.name or ",".join(map(str, self.addresses))

    def __str__(self) -> str:
        words = [self.target]
        if self.protocol and self.ports:
            first, last = self.ports
            words = [str(first) if first == last else f"{first}-{last}", self.protocol, *words]
        if self.target_port is not None:
            words.append(str(self.target_port))
        return " ".join(words)


def parse(text: str) -> tuple[Destination, ...]:
    """Read all lines; blank ones and those that start with # say nothing.

    Raises:
        DestinationError: the first line that breaks a rule.
    """
    found: list[Destination] = []
    taken = _Taken()
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        destination = _parse_line(number, words)
        taken.take(destination, line.strip())
        found.append(destination)
    if not found:
        raise DestinationError(1, text, "there is no destination in it; name at least one")
    return tuple(found)


def _parse_line(number: int, words: list[str]) -> Destination:
    if len(words) == 1:
        addresses, name = _target(number, words[0])
        return Destination(number, None, None, None, addresses, name)
    if len(words) not in (3, 4):
        raise DestinationError(
            number, " ".join(words), "a line is IP-or-NAME or PORT PROTO IP-or-NAME [TARGETPORT]"
        )
    ports = _ports(number, words[0])
    protocol = _protocol(number, words[1])
    addresses, name = _target(number, words[2])
    target_port = _port(number, words[3]) if len(words) == 4 else None
    return Destination(number, protocol, ports, target_port, addresses, name)


class _Taken:
    """Which line has which ports; a look costs as much for the thousandth line as for the second."""

    def __init__(self) -> None:
        self._ports: dict[tuple[str, int], list[tuple[int, int, int]]] = {}  # first, last, line; sorted
        self._everything: dict[int, int] = {}  # line by family

    def take(self, new: Destination, text: str) -> None:
        """Give a line its ports.

        Raises:
            DestinationError: another one has them already, or takes everything.
        """
        # What families a name has is not known yet, so that it counts for both.
        families = (new.addresses[0].version,) if new.addresses else (4, 6)
        if new.protocol is not None and new.ports is not None:
            first, last = new.ports
            found = [
                one for family in families for one in self._overlapping(new.protocol, family, first, last)
            ]
            if found:
                line, port = min((one[2], max(first, one[0])) for one in found)
                raise DestinationError(
                    new.line, text, f"port {port} {new.protocol} is taken by line {line} already"
                )
        lines = [self._everything[family] for family in families if family in self._everything]
        if lines:
            rule = (
                f"line {min(lines)} takes everything already; only one line a family may"
                if new.protocol is None
                else f"line {min(lines)} takes everything else and has to be the last"
            )
            raise DestinationError(new.line, text, rule)
        for family in families:
            if new.protocol is None or new.ports is None:
                self._everything[family] = new.line
            else:
                insort(self._ports.setdefault((new.protocol, family), []), (*new.ports, new.line))

    def _overlapping(self, protocol: str, family: int, first: int, last: int) -> list[tuple[int, int, int]]:
        taken = self._ports.get((protocol, family), [])
        # Those taken do not overlap each other: of those that begin before it only the last can reach into it.
        begin, end = bisect_left(taken, (first,)), bisect_left(taken, (last + 1,))
        return [one for one in taken[max(0, begin - 1) : end] if one[1] >= first]


def _ports(number: int, token: str) -> tuple[int, int]:
    first, dash, last = token.partition("-")
    if not dash:
        port = _port(number, token)
        return port, port
    ports = _port(number, first, token), _port(number, last, token)
    if ports[0] > ports[1]:
        raise DestinationError(number, token, "a range of ports goes from the lower to the higher")
    return ports


def _port(number: int, text: str, token: str = "") -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= _PORT_MAX):
        raise DestinationError(number, token or text, f"a port is a number from 1 to {_PORT_MAX}")
    return int(text)


def _protocol(number: int, token: str) -> Protocol:
    for protocol in PROTOCOLS:
        if token.lower() == protocol:
            return protocol
    raise DestinationError(number, token, f"a protocol is one of {', '.join(PROTOCOLS)}")


def _target(number: int, token: str) -> tuple[tuple[IPAddress, ...], str | None]:
    parts = token.split(",")
    if len(parts) == 1 and not _looks_like_an_address(token):
        return (), _name(number, token)
    addresses: list[IPAddress] = []
    seen: set[IPAddress] = set()
    for part in parts:
        try:
            address = parse_host_address(part)
        except ValueError as error:
            raise DestinationError(number, token, str(error)) from None
        if address.is_link_local:
            raise DestinationError(number, token, f"{address} is a link-local address, which has no route")
        if address in seen:
            raise DestinationError(number, token, f"{address} is named twice")
        if addresses and address.version != addresses[0].version:
            raise DestinationError(
                number, token, "the addresses of a line are of one family; write a line for each family"
            )
        seen.add(address)
        addresses.append(address)
    return tuple(addresses), None


def _looks_like_an_address(token: str) -> bool:
    # No top-level domain is a number (RFC 3696, section 2), so that 203.0.113.999 is a mistyped address.
    return ":" in token or "/" in token or token.rstrip(".").rpartition(".")[2].isdigit()


def _name(number: int, token: str) -> str:
    name = token.lower().removesuffix(".")
    labels = name.split(".")
    if not token.isascii() or len(name) > _NAME_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise DestinationError(
            number,
            token,
            "neither an IP address nor a DNS name: labels of letters, digits and '-', separated by dots",
        )
    if len(labels) < 2:
        raise DestinationError(number, token, "a DNS name is given in full, with at least one dot")
    return name
