"""A namespace as a list of lines that can be read, and compared before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ...decide.facts import MAIN_TABLE, HostFacts, RouteFact, RuleFact

_TABLES = {MAIN_TABLE: "main", 253: "default", 255: "local"}
_KERNELS_OWN_RULES = (0, 32766, 32767)
_EVERYTHING = ("0.0.0.0/0", "::/0")


class Item(NamedTuple):
    """One thing in a namespace.

    Attributes:
        kind: link, address, route or rule.
        text: the rest, in the manner of ip(8).
        usual: every namespace has it.
    """

    kind: str
    text: str
    usual: bool = False


def items(facts: HostFacts) -> list[Item]:
    """Everything that is in a namespace."""
    found = [
        Item(
            "link",
            f"{link.name:<10} {link.kind or 'loopback':<9} {link.mac}  mtu {link.mtu:<5} "
            f"{'up' if link.up else 'down'}",
            link.loopback,
        )
        for link in facts.links
    ]
    found += [
        Item("address", f"{one.address} dev {one.interface}", one.interface == "lo")
        for one in facts.addresses
    ]
    found += [
        Item("route", _route(one)) for one in sorted(facts.routes, key=lambda one: one.table != MAIN_TABLE)
    ]
    found += [Item("rule", _rule(one), one.priority in _KERNELS_OWN_RULES) for one in facts.rules]
    return found


def differences(before: Mapping[str, HostFacts], after: Mapping[str, HostFacts]) -> list[str]:
    """What has gone (-) and come (+), with the role of the namespace."""
    lines = []
    for role in before:
        old, new = items(before[role]), items(after[role])
        lines += [f"{role}: - {item.kind} {item.text}" for item in old if item not in new]
        lines += [f"{role}: + {item.kind} {item.text}" for item in new if item not in old]
    return lines


def mac(facts: HostFacts, interface: str) -> str:
    """The MAC address of an interface."""
    link = facts.link(interface)
    return link.mac if link else f"there is no {interface}"


def or_nothing(lines: Iterable[str]) -> str:
    """Lines in one, or a word for none."""
    return "; ".join(lines) or "nothing"


def _route(route: RouteFact) -> str:
    destination = "default" if route.destination in _EVERYTHING else route.destination
    gateway = f" via {route.gateway}" if route.gateway else ""
    source = f" src {route.source}" if route.source else ""
    return f"{destination}{gateway} dev {route.interface}{source}{_table(route.table)}"


def _rule(rule: RuleFact) -> str:
    device = f" iif {rule.iif}" if rule.iif else f" oif {rule.oif}" if rule.oif else ""
    suppress = rule.suppress_prefix_length
    suppressed = f" suppress_prefixlength {suppress}" if suppress is not None else ""
    family = " (IPv6)" if rule.family == 6 else ""
    return (
        f"{rule.priority}: from {rule.source or 'all'}{device} lookup {_TABLES.get(rule.table, rule.table)}"
        f"{suppressed}{family}"
    )


def _table(number: int) -> str:
    return "" if number == MAIN_TABLE else f" table {number}"
