"""What a pod has, and what passed on the LAN, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from ...decide.facts import HostFacts
from .capture import Frame
from .inventory import items
from .network import BRIDGE
from .report import Report

_BROADCAST = "ff:ff:ff:ff:ff:ff"
# role of the namespace, interface on the LAN, name in the table
_PLAYERS = (("lan", BRIDGE, "router"), ("node", "eth0", "node"), ("pod egress", "macvlan0", "pod"))


def possessions(report: Report, role: str, before: HostFacts, after: HostFacts) -> list[str]:
    """Links, addresses, routes and rules of a namespace; a + marks what was not there before."""
    old = items(before)
    shown = [item for item in items(after) if not item.usual]
    lines = [f"  {report.paint(role, 'bold')}"]
    for kind, group in groupby(shown, key=lambda item: item.kind):
        label: str = kind
        for item in group:
            new = item not in old
            line = f"  {'+' if new else ' '} {label:<7}  {item.text}"
            lines.append(report.paint(line, "green") if new else line)
            label = ""
    return lines


def packets(report: Report, frames: Iterable[Frame], facts: Mapping[str, HostFacts]) -> list[str]:
    """Frames with the names of those who sent and got them; repetitions share a line."""
    names = _names(facts)
    lines = [report.paint(f"  {'s':>6}  {'from MAC':<17}  {'who':<13}  what", "dim")]
    for (mac, to_mac, text), group in groupby(frames, key=lambda one: (one.mac, one.to_mac, one.text)):
        first, *more = group
        who = f"{names.get(mac, 'other')} → {names.get(to_mac, 'other')}"
        line = f"  {first.time:6.3f}  {mac}  {who:<13}  {text}{f' ×{len(more) + 1}' if more else ''}"
        lines.append(report.paint(line, "green") if "pod" in who.split() else line)
    return lines


def _names(facts: Mapping[str, HostFacts]) -> dict[str, str]:
    names = {_BROADCAST: "all"}
    for role, interface, name in _PLAYERS:
        link = facts[role].link(interface)
        if link is not None:
            names[link.mac] = name
    return names
