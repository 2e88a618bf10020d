"""What of a plan can be put back into a pod without harm, where it is missing or has been changed. Pure.

Nothing that was made at ADD with the LAN's or the runtime's knowledge is made anew behind their backs: a macvlan that
has vanished, sits on another NIC or has another MAC address is reported and left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .facts import HostFacts, RouteFact
from .plan import PROTOCOL, Address, Plan, Route, Rule, Sysctl


@dataclass(frozen=True, slots=True)
class Mending:
    """The steps of a plan that are to be taken again, in their order.

    Attributes:
        ruleset: whether the table is to be made anew.
        up: whether the interface is to be set up.
        stale: routes of ours in whose place others belong.
    """

    ruleset: bool = False
    sysctls: tuple[Sysctl, ...] = ()
    up: bool = False
    addresses: tuple[Address, ...] = ()
    stale: tuple[Route, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()


def mending(
    plan: Plan,
    pod: HostFacts,
    sysctls: Mapping[str, str | None],
    master_index: int | None,
    *,
    ruleset_differs: bool,
) -> Mending | None:
    """What to do; None if nothing may be done.

    Args:
        sysctls: the values found, None where the key is gone.
        master_index: the master's present index, None if it is gone.
    """
    link = pod.link(plan.link.name)
    if link is None or link.kind != "macvlan" or master_index is None or link.parent != master_index:
        return None
    if link.mac != plan.link.mac:
        return None
    held = {one.address for one in pod.addresses if one.interface == link.name}
    stale = tuple(_stale(plan, pod))
    # Where somebody else's route leads to the same destination, it is meant.
    routed = {(one.destination, one.table) for one in pod.routes if _route(one) not in stale}
    ruled = {
        (one.family, one.priority, one.table, one.source, one.iif, one.oif, one.suppress_prefix_length)
        for one in pod.rules
    }
    return Mending(
        ruleset=ruleset_differs,
        sysctls=tuple(one for one in plan.sysctls if sysctls.get(one.key) not in (None, one.value)),
        up=not link.up,
        addresses=tuple(one for one in plan.addresses if one.address not in held),
        stale=stale,
        routes=tuple(one for one in plan.routes if (one.destination, one.table) not in routed),
        rules=tuple(
            one
            for one in plan.rules
            if (one.family, one.priority, one.table, one.source, one.iif, one.oif, one.suppress_prefix_length)
            not in ruled
        ),
    )


def _stale(plan: Plan, pod: HostFacts) -> Iterator[Route]:
    """Routes that bear our mark and are not as planned: the kernel takes the source of IPv6 ones with the address."""
    places = {(one.destination, one.table) for one in plan.routes}
    for one in pod.routes:
        if one.protocol == PROTOCOL and (one.destination, one.table) in places:
            found = _route(one)
            if found not in plan.routes:
                yield found


def _route(found: RouteFact) -> Route:
    return Route(
        destination=found.destination,
        interface=found.interface,
        gateway=found.gateway,
        table=found.table,
        source=found.source,
        onlink=found.onlink,
    )
