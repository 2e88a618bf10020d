"""The redirect's nftables table, as text.

What a packet meets in the pod's namespace, and nothing else, is decided here. Rules are found through verdict maps,
so that a packet's cost does not grow with their number; each line of the destinations has a chain of its own with
counter and comment, which only the first packet of a flow passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..protocol.errors import INVALID_CONFIGURATION, CniError
from .plan import Forward

TABLE = "inet macvlan_egress"
# Comments of the rules that count what passed and what did not.
PASSED = _OUT, _BACK = "out", "back"
REFUSED = _ASTRAY, _PASSING, _STRAY, _ENTERING, _LEAVING = (
    "astray",
    "passing",
    "stray",
    "entering",
    "leaving",
)
LINE_CHAIN = re.compile(r"line-(\d+)-(ip6?)")
_COMMENT_MAX = 120  # nft's own limit is 128 bytes
# nft has no way to escape a quote, and reads a star at the end as a wildcard.
_QUOTABLE = re.compile(r"[A-Za-z0-9._@+=,-]+")
_SPREAD_SEED = "0x6d766c6e"  # the same on every node, so that a client keeps its address when the pod moves
_FAMILIES = {4: ("ip", "ipv4", "ipv4_addr"), 6: ("ip6", "ipv6", "ipv6_addr")}
_HEADERS = {4: 40, 6: 60}  # IP and TCP without options


@dataclass(frozen=True, slots=True)
class Passage:
    """The pod's two sides.

    Attributes:
        inside: the main CNI's interface, where the traffic comes in.
        outside: the macvlan.
        sources: the macvlan's address of each family.
        mtus: those of both interfaces.
        only_destinations: the pod's own traffic through the macvlan is held to the destinations as well.
    """

    inside: str
    outside: str
    sources: dict[int, str]
    mtus: tuple[int, int]
    only_destinations: bool


def render(passage: Passage, forwards: Sequence[Forward]) -> str:
    """The table for a passage and its forwards.

    Raises:
        CniError: INVALID_CONFIGURATION for an interface name that nftables cannot write.
    """
    families = sorted({one.family for one in forwards})
    blocks = []
    for family in families:
        mine = [one for one in forwards if one.family == family]
        blocks += [*_maps(family, mine, passage.only_destinations), *(_line_chain(one) for one in mine)]
    blocks += [
        _arriving(passage),
        _prerouting(passage, forwards, families),
        _postrouting(passage, families),
        _forward(passage, families),
        _input(passage),
    ]
    if passage.only_destinations:
        blocks.append(_output(passage, forwards, families))
    return f"table {TABLE} {{\n" + "\n\n".join(blocks) + "\n}\n"


def _block(head: str, lines: Iterable[str]) -> str:
    return "\n".join((f"\t{head} {{", *(f"\t\t{line}" for line in lines), "\t}"))


def _maps(family: int, forwards: Sequence[Forward], only_destinations: bool) -> Iterable[str]:
    by_port = [one for one in forwards if one.protocol]
    kind = _FAMILIES[family][2]
    if by_port:
        elements = [f"{one.protocol} . {_range(one.ports)} : goto {_chain_name(one)}" for one in by_port]
        yield _set(f"map lines{family}", "inet_proto . inet_service : verdict", elements)
    if not only_destinations:
        return
    if by_port:
        yield _set(f"set targets{family}", f"{kind} . inet_proto . inet_service", _targets(by_port))
    whole = {address for one in forwards if not one.protocol for address in one.addresses}
    if whole:
        yield _set(f"set hosts{family}", kind, sorted(whole))


def _set(name: str, kind: str, elements: Sequence[str]) -> str:
    lines = [f"type {kind}"]
    if any(_has_range(element) for element in elements):
        lines.append("flags interval")
    return _block(name, [*lines, "elements = { " + ", ".join(elements) + " }"])


def _targets(forwards: Sequence[Forward]) -> list[str]:
    """What the pod may reach; lines may lead to the same ports, but the kernel takes no elements that overlap."""
    ports: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for one in forwards:
        for address in one.addresses:
            ports.setdefault((address, str(one.protocol)), []).append(_target_ports(one))
    return [
        f"{address} . {protocol} . {_range(merged)}"
        for (address, protocol), ranges in sorted(ports.items())
        for merged in _merge(ranges)
    ]


def _merge(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _has_range(element: str) -> bool:
    return re.search(r"\d-\d", element) is not None


def _line_chain(forward: Forward) -> str:
    match = f"meta l4proto {forward.protocol} " if forward.protocol else ""
    target = _translation(forward)
    text = f"line {forward.line}: {forward.text}"
    if len(text) > _COMMENT_MAX:
        text = text[: _COMMENT_MAX - 3] + "..."
    return _block(f"chain {_chain_name(forward)}", [f'{match}counter dnat {target} comment "{text}"'])


def _translation(forward: Forward) -> str:
    word = _FAMILIES[forward.family][0]
    port = forward.target_port
    if len(forward.addresses) == 1:
        (address,) = forward.addresses
        if port is None:
            return f"{word} to {address}"
        return f"{word} to {address}:{port}" if forward.family == 4 else f"{word} to [{address}]:{port}"
    spread = f"jhash {word} saddr mod {len(forward.addresses)} seed {_SPREAD_SEED}"
    suffix = f" . {port}" if port is not None else ""
    what = f"{word} addr . port" if port is not None else word
    choices = ", ".join(f"{number} : {address}{suffix}" for number, address in enumerate(forward.addresses))
    return f"{what} to {spread} map {{ {choices} }}"


def _arriving(passage: Passage) -> str:
    """What comes from the LAN for another address than the macvlan's own gets no further (RFC 1122, 3.3.4.2).

    Before connection tracking: otherwise forged packets of a flow of the main interface would pass as part of it.
    """
    lines = [
        "type filter hook prerouting priority raw; policy accept;",
        f"iifname != {_quoted(passage.outside)} accept",
    ]
    if 4 in passage.sources:
        lines.append(f"ip daddr {passage.sources[4]} accept")
    if 6 in passage.sources:
        # Neighbour discovery needs the link-local and multicast ones.
        lines.append(f"ip6 daddr {{ {passage.sources[6]}, fe80::/10, ff00::/8 }} accept")
    return _block("chain arriving", [*lines, f'counter drop comment "{_ASTRAY}"'])


def _prerouting(passage: Passage, forwards: Sequence[Forward], families: Sequence[int]) -> str:
    lines = [
        "type nat hook prerouting priority dstnat; policy accept;",
        f"iifname != {_quoted(passage.inside)} accept",
        # Only what is sent to the pod itself: it is no router for anybody.
        "fib daddr type != local accept",
    ]
    for family in families:
        mine = [one for one in forwards if one.family == family]
        name = _FAMILIES[family][1]
        if any(one.protocol for one in mine):
            lines.append(f"meta nfproto {name} meta l4proto . th dport vmap @lines{family}")
        lines += [f"meta nfproto {name} goto {_chain_name(one)}" for one in mine if not one.protocol]
    return _block("chain prerouting", lines)


def _postrouting(passage: Passage, families: Sequence[int]) -> str:
    lines = ["type nat hook postrouting priority srcnat; policy accept;"]
    for family in families:
        word, source = _FAMILIES[family][0], passage.sources[family]
        lines.append(f"oifname {_quoted(passage.outside)} {word} saddr != {source} snat {word} to {source}")
    return _block("chain postrouting", lines)


def _forward(passage: Passage, families: Sequence[int]) -> str:
    inside, outside = _quoted(passage.inside), _quoted(passage.outside)
    lines = [
        "type filter hook forward priority filter; policy drop;",
        f'ct state invalid counter drop comment "{_STRAY}"',
    ]
    if passage.mtus[0] != passage.mtus[1]:
        for family in families:
            size = min(passage.mtus) - _HEADERS[family]
            lines.append(
                f"meta nfproto {_FAMILIES[family][1]} tcp flags syn tcp option maxseg size set {size}"
            )
    lines += [
        f'iifname {inside} oifname {outside} ct status dnat counter accept comment "{_OUT}"',
        f"iifname {outside} oifname {inside} ct state established,related ct direction reply counter accept "
        f'comment "{_BACK}"',
        f'counter comment "{_PASSING}"',
    ]
    return _block("chain forward", lines)


def _input(passage: Passage) -> str:
    return _block(
        "chain input",
        [
            "type filter hook input priority filter; policy accept;",
            f"iifname != {_quoted(passage.outside)} accept",
            "ct state established,related accept",
            # Without these no neighbour, and no switch that snoops, would find the address.
            "icmpv6 type { mld-listener-query, nd-neighbor-solicit, nd-neighbor-advert } accept",
            f'counter drop comment "{_ENTERING}"',
        ],
    )


def _output(passage: Passage, forwards: Sequence[Forward], families: Sequence[int]) -> str:
    outside = _quoted(passage.outside)
    lines = [
        "type filter hook output priority filter; policy accept;",
        # A process may choose its interface: nothing leaves under the source address by another one.
        *(
            f'oifname != {{ "lo", {outside} }} {_FAMILIES[family][0]} saddr {source} counter reject with icmpx '
            f'admin-prohibited comment "{_LEAVING}"'
            for family, source in sorted(passage.sources.items())
        ),
        f"oifname != {outside} accept",
        "ct state established,related accept",
    ]
    for family in families:
        mine = [one for one in forwards if one.family == family]
        word = _FAMILIES[family][0]
        if any(one.protocol for one in mine):
            lines.append(f"{word} daddr . meta l4proto . th dport @targets{family} accept")
        if any(not one.protocol for one in mine):
            lines.append(f"{word} daddr @hosts{family} accept")
    lines += [
        "icmpv6 type { mld-listener-report, mld2-listener-report, nd-neighbor-solicit, nd-neighbor-advert } accept",
        "ip protocol igmp drop",
        f'counter reject with icmpx admin-prohibited comment "{_LEAVING}"',
    ]
    return _block("chain output", lines)


def _chain_name(forward: Forward) -> str:
    return f"line-{forward.line}-{_FAMILIES[forward.family][0]}"


def _target_ports(forward: Forward) -> tuple[int, int]:
    if forward.target_port is not None:
        return forward.target_port, forward.target_port
    return forward.ports or (1, 65535)


def _range(ports: tuple[int, int] | None) -> str:
    first, last = ports or (1, 65535)
    return str(first) if first == last else f"{first}-{last}"


def _quoted(name: str) -> str:
    if not _QUOTABLE.fullmatch(name):
        raise CniError(
            INVALID_CONFIGURATION,
            f"interface name {name!r} cannot stand in a firewall rule; use letters and digits",
        )
    return f'"{name}"'
