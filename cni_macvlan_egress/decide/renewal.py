"""Where an attachment's names lead now: from a plan and answers to the plan that follows them. Pure.

What a name leads to may change at any time and at anybody's will, so that what is refused at ADD is refused here too.
A grant covers a name by the name itself (decide/grants.py), and that is the same as at ADD.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..model.addresses import IPNetwork
from ..protocol.errors import CniError
from . import redirect, ruleset
from .addressing import Addressing
from .facts import MAIN_TABLE
from .plan import Forward, Plan, Renewal, Route

if TYPE_CHECKING:
    from ..model.destinations import Destination

# What a flow may still use of addresses that are gone; the oldest are forgotten first.
MOST_RETIRED = 256


def names(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The names among a plan's destinations with the addresses that they lead to."""
    found: dict[str, dict[str, None]] = {}
    if plan.renewal is None:
        return {}
    for line in _lines(plan.forwards):
        if line.name:
            known = found.setdefault(line.name, {})
            known.update(dict.fromkeys(_addresses_of(line.line, plan.forwards)))
    return {name: tuple(addresses) for name, addresses in found.items()}


def renewed(
    plan: Plan, answers: redirect.Answers, own: Sequence[IPNetwork] = ()
) -> tuple[Plan, tuple[str, ...]]:
    """The plan with the addresses that names have now, and why some keep those that they had.

    Args:
        answers: addresses by name; lines with other names stay as they are.
        own: the node's addresses, which a macvlan cannot reach.
    """
    renewal = plan.renewal
    if renewal is None:
        return plan, ()
    addressing = _addressing(plan, renewal)
    families = {one.version for one in addressing.sources} & {one.version for one in addressing.gateways}
    inside = [
        *map(ipaddress.ip_network, renewal.cluster_networks),
        *(ipaddress.ip_network(source.ip) for source in addressing.sources),
        *own,
    ]
    forwards: list[Forward] = []
    problems = []
    for line in _lines(plan.forwards):
        kept = [one for one in plan.forwards if one.line == line.line]
        if line.name in answers:
            try:
                kept = list(redirect.forwards([line], answers, families, inside))
            except CniError as error:
                problems.append(error.msg)
        forwards += kept
    if tuple(forwards) == plan.forwards:
        return plan, tuple(problems)
    return _with_forwards(plan, renewal, addressing, tuple(forwards)), tuple(problems)


def without_retired(plan: Plan, gone: Collection[str]) -> Plan:
    """The plan without the routes to retired addresses that no flow uses any more."""
    if plan.renewal is None:
        return plan
    kept = tuple(one for one in plan.renewal.retired if one not in gone)
    return replace(
        plan,
        routes=_less(plan, set(plan.renewal.retired) - set(kept)),
        renewal=replace(plan.renewal, retired=kept),
    )


def _with_forwards(
    plan: Plan, renewal: Renewal, addressing: Addressing, forwards: tuple[Forward, ...]
) -> Plan:
    passage = ruleset.Passage(
        inside=renewal.inside,
        outside=plan.link.name,
        sources={one.version: str(one.ip) for one in addressing.sources},
        mtus=renewal.mtus,
        only_destinations=renewal.only_destinations,
    )
    before, now = _targets(plan.forwards), _targets(forwards)
    # Their flows are those of conntrack, which still translates to them; without a route they would go astray.
    left = [one for one in before if one not in now and one not in renewal.gateways]
    retired = [one for one in (*renewal.retired, *left) if one not in now]
    kept = tuple(dict.fromkeys(retired))[-MOST_RETIRED:]
    routes = _less(plan, set(retired) - set(kept))
    there = {(route.destination, route.table) for route in routes}
    return replace(
        plan,
        forwards=forwards,
        ruleset=ruleset.render(passage, forwards),
        routes=(
            *routes,
            *(
                route
                for route in redirect.routes(forwards, addressing, plan.link.name)
                if (route.destination, route.table) not in there
            ),
        ),
        renewal=replace(renewal, retired=kept),
    )


def _less(plan: Plan, addresses: Collection[str]) -> tuple[Route, ...]:
    hosts = {str(ipaddress.ip_network(one)) for one in addresses}
    return tuple(
        route
        for route in plan.routes
        if not (
            route.destination in hosts and route.interface == plan.link.name and route.table == MAIN_TABLE
        )
    )


def _addressing(plan: Plan, renewal: Renewal) -> Addressing:
    return Addressing(
        tuple(ipaddress.ip_interface(one.address) for one in plan.addresses),
        tuple(map(ipaddress.ip_address, renewal.gateways)),
    )


def _lines(forwards: Iterable[Forward]) -> list[Destination]:
    """The destinations as they were given, each once."""
    from ..model.destinations import parse

    texts = {one.line: one.text for one in forwards}
    return [replace(parse(text)[0], line=number) for number, text in texts.items()]


def _targets(forwards: Iterable[Forward]) -> list[str]:
    return list(dict.fromkeys(address for one in forwards for address in one.addresses))


def _addresses_of(line: int, forwards: Iterable[Forward]) -> list[str]:
    return [address for one in forwards if one.line == line for address in one.addresses]
