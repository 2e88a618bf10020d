"""Where the kernel differs from a plan: CHECK's list, each item with what was expected and found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from .facts import AddressFact, HostFacts, RouteFact
from .plan import Address, Plan, Route

# Whoever may change the pod's network decides how many there are; a runtime keeps all of an answer in memory.
_SHOWN_MAX = 200


def differences(
    plan: Plan, pod: HostFacts, sysctls: Mapping[str, str | None], master_index: int | None
) -> list[str]:
    """Every item of the plan that is not as ADD left it.

    Args:
        sysctls: the values found, None where the key is gone.
        master_index: the master's present index, None if it is gone.
    """
    link = pod.link(plan.link.name)
    if link is None:
        return [f"interface {plan.link.name}: expected a macvlan on {plan.link.master}, found none"]
    found: list[str] = []
    if master_index is None:
        found.append(f"master {plan.link.master}: expected on the node, found none")
    elif link.parent != master_index:
        found.append(
            f"parent of {link.name}: expected index {master_index} ({plan.link.master}), found {link.parent}"
        )
    for what, expected, actual in (
        ("kind", "macvlan", link.kind or "none"),
        ("mode", plan.link.mode, link.mode),
        ("mac", plan.link.mac, link.mac),
        ("mtu", plan.link.mtu, link.mtu),
        ("state", "up", "up" if link.up else "down"),
    ):
        if expected != actual:
            found.append(f"{what} of {link.name}: expected {expected}, found {actual}")
    found += _addresses(plan.addresses, pod, link.name)
    found += _routes(plan.routes, pod)
    found += _rules(plan, pod)
    found += [
        f"sysctl {one.key}: expected {one.value}, found {sysctls.get(one.key) or 'nothing'}"
        for one in plan.sysctls
        if sysctls.get(one.key) != one.value
    ]
    return found


def ruleset_differences(expected: str, found: str) -> list[str]:
    """Every line of an nftables table that is missing, and every one that is too much."""
    if not found:
        return ["nftables table: expected the redirect rules, found no such table"]
    wanted, there = _comparable(expected), _comparable(found)
    differences = []
    for name in {**wanted, **there}:
        if name and name not in wanted:
            differences.append(f"nftables: expected no {name}, found one")
        elif name and name not in there:
            differences.append(f"nftables: expected {name}, found none")
        before, now = wanted.get(name, []), there.get(name, [])
        if name.partition(" ")[0] != "chain":  # only rules have an order
            before, now = sorted(before), sorted(now)
        for line in difflib.ndiff(before, now):
            if line.startswith("- "):
                differences.append(f"nftables: expected [{name}] {line[2:]}, found none")
            elif line.startswith("+ "):
                differences.append(f"nftables: expected no such thing, found [{name}] {line[2:]}")
    return differences


def shortened(found: Sequence[str]) -> list[str]:
    """The first of many, and how many more there are."""
    more = len(found) - _SHOWN_MAX
    return [*found[:_SHOWN_MAX], *([f"and {more} more"] if more > 0 else [])]


def blocks(listing: str) -> dict[str, list[str]]:
    """The lines of a table by the chain, set or map that they stand in (`chain forward`)."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in listing.splitlines():
        text = line.strip()
        if text.endswith(" {"):
            name = text.removesuffix(" {")
            found[name] = []
        elif text not in ("", "}"):
            found.setdefault(name, []).append(text)
    return found


def _comparable(listing: str) -> dict[str, list[str]]:
    """The same with an element a line, as nft prints them or not."""
    return {
        name: [line.removeprefix("elements = { ").removesuffix(" }").rstrip(",") for line in lines]
        for name, lines in blocks(listing).items()
    }


def _addresses(planned: Iterable[Address], pod: HostFacts, interface: str) -> Iterable[str]:
    present = [one for one in pod.addresses if one.interface == interface]
    for one in planned:
        if not any(held.address == one.address and not held.duplicate for held in present):
            shown = ", ".join(map(_shown, present)) or "none"
            yield f"address of {interface}: expected {one.address}, found {shown}"


def _shown(held: AddressFact) -> str:
    return f"{held.address} (found to be a duplicate)" if held.duplicate else held.address


def _routes(planned: Iterable[Route], pod: HostFacts) -> Iterable[str]:
    present = {
        (route.destination, route.interface, route.gateway, route.table, route.source, route.onlink)
        for route in pod.routes
    }
    for one in planned:
        if (one.destination, one.interface, one.gateway, one.table, one.source, one.onlink) not in present:
            others = [
                _describe(route)
                for route in pod.routes
                if (route.destination, route.table) == (one.destination, one.table)
            ]
            yield f"route: expected {_describe(one)}, found {', '.join(others) or 'none'}"


def _describe(route: Route | RouteFact) -> str:
    via = f" via {route.gateway}" if route.gateway else ""
    source = f" src {route.source}" if route.source else ""
    onlink = " onlink" if route.onlink else ""
    return f"{route.destination}{via} dev {route.interface} table {route.table}{source}{onlink}"


def _rules(plan: Plan, pod: HostFacts) -> Iterable[str]:
    present = {
        (rule.family, rule.priority, rule.table, rule.source, rule.iif, rule.oif, rule.suppress_prefix_length)
        for rule in pod.rules
    }
    for one in plan.rules:
        key = (one.family, one.priority, one.table, one.source, one.iif, one.oif, one.suppress_prefix_length)
        if key not in present:
            selector = " ".join(
                f"{name} {value}"
                for name, value in (("from", one.source), ("iif", one.iif), ("oif", one.oif))
                if value is not None
            )
            yield f"rule: expected IPv{one.family} priority {one.priority} {selector} lookup {one.table}, found none"
