"""Strategies for destination lines, built so that every text is a valid one without asking the parser."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from hypothesis import strategies as st

PORTS = st.integers(1, 65535)
PROTOCOLS = ("tcp", "udp", "sctp")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Networks in which every address is a host's.
_NETWORKS = {4: ("192.0.2.0/24", "10.0.0.0/8", "172.16.0.0/12"), 6: ("2001:db8::/32", "fd00::/8")}


def addresses(family: int) -> st.SearchStrategy[str]:
    """A host's address in any spelling of it."""

    def within(text: str) -> st.SearchStrategy[str]:
        network = ipaddress.ip_network(text)
        numbers = st.integers(1, network.num_addresses - 2)
        return numbers.map(lambda number: str(network[number]))

    found = st.sampled_from(_NETWORKS[family]).flatmap(within)
    if family == 4:
        return found
    return found | found.map(str.upper) | found.map(lambda text: ipaddress.IPv6Address(text).exploded)


_label = st.builds(
    lambda first, middle, last: first + middle + last,
    st.sampled_from(_LETTERS),
    st.text(_LETTERS + "0123456789-", max_size=10),
    st.sampled_from(_LETTERS + "0123456789"),
)
# The last label is a word, never a number.
names = st.builds(
    lambda labels, top, dot: ".".join([*labels, top]) + dot,
    st.lists(_label, min_size=1, max_size=3),
    st.sampled_from(["com", "example", "Test", "LOCAL"]),
    st.sampled_from(["", "."]),
)


def _few_addresses(family: int) -> st.SearchStrategy[str]:
    return st.sampled_from([{4: "192.0.2.{}", 6: "2001:db8::{}"}[family].format(number) for number in (1, 2)])


def lists_of_addresses(family: int, most: int = 4, few: bool = False) -> st.SearchStrategy[str]:
    """Several addresses of a line."""
    return st.lists(addresses(family), min_size=1, max_size=most, unique_by=ipaddress.ip_address).map(
        ",".join
    )


@dataclass(frozen=True)
class Line:
    """A line by its parts.

    Attributes:
        ports: None for the line that takes everything.
    """

    target: str
    ports: tuple[int, int] | None = None
    protocol: str = ""
    target_port: int | None = None

    def written(self, gap: str = " ", upper: bool = False) -> str:
        """The line with a gap between its words."""
        if self.ports is None:
            return self.target
        first, last = self.ports
        local = str(first) if first == last else f"{first}-{last}"
        protocol = self.protocol.upper() if upper else self.protocol
        words = [local, protocol, self.target]
        return gap.join(words + ([str(self.target_port)] if self.target_port is not None else []))


@st.composite
def documents(draw: st.DrawFn, with_names: bool = True, most: int = 6, few: bool = False) -> list[Line]:
    """Lines that go together: no port twice for a protocol and family, a family's line for everything last.

    Args:
        few: only a handful of addresses and ports, so that lines often have the same target.
    """
    ports = st.integers(1, 14) if few else PORTS
    families = draw(st.sampled_from([(4,), (6,), (4, 6)]))
    use_names = with_names and draw(st.booleans())
    found: list[Line] = []
    for protocol in draw(st.sets(st.sampled_from(PROTOCOLS), min_size=1)):
        # A name counts for both families, so that then the ranges have to be disjoint across them.
        pools = [families] if use_names else [(family,) for family in families]
        for pool in pools:
            cuts = sorted(draw(st.sets(ports, min_size=2, max_size=2 * most).map(sorted)))
            for first, last in zip(cuts[::2], cuts[1::2], strict=False):
                family = draw(st.sampled_from(pool))
                named = use_names and draw(st.booleans())
                found.append(
                    Line(
                        target=draw(names if named else lists_of_addresses(family, few=few)),
                        ports=(first, draw(st.sampled_from([first, last]))),
                        protocol=protocol,
                        target_port=draw(st.none() | ports),
                    )
                )
    found = list(draw(st.permutations(found)))
    for family in families:
        if draw(st.booleans()):
            found.append(Line(target=draw(lists_of_addresses(family, few=few))))
    if not found:
        found.append(Line(target=draw(addresses(families[0]))))
    return found


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, list[tuple[int, Line]]]:
    """A document as somebody writes it, with comments, gaps and blank lines, and each line with its number."""
    rows: list[str] = []
    numbered: list[tuple[int, Line]] = []
    fillers = st.sampled_from(["", "   ", "\t", "# a comment", "  #80 tcp 192.0.2.1", "\r"])
    for line in draw(documents()):
        rows += draw(st.lists(fillers, max_size=2))
        gap, upper = draw(st.sampled_from([" ", "  ", "\t", " \t "])), draw(st.booleans())
        margin, end = draw(st.sampled_from(["", " ", "\t"])), draw(st.sampled_from(["", " ", "\r"]))
        rows.append(f"{margin}{line.written(gap, upper)}{end}")
        numbered.append((len(rows), line))
    rows += draw(st.lists(fillers, max_size=1))
    return "\n".join(rows), numbered
