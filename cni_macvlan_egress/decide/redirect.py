"""From the lines of the destinations to what they need in the pod: forwards, routes, rules and settings.

The ruleset itself is written in ruleset.py.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..model.addresses import IPAddress, IPNetwork, not_a_host
from ..model.annotations import DESTINATION
from ..protocol.errors import INVALID_ANNOTATION, MASTER_UNUSABLE, TRY_AGAIN_LATER, CniError
from .addressing import Addressing
from .facts import MAIN_TABLE, HostFacts
from .plan import Forward, Link, Renewal, Route, Rule, Sysctl
from .request import Request
from .ruleset import Passage

if TYPE_CHECKING:
    from ..model.destinations import Destination

Answers = Mapping[str, Sequence[IPAddress]]


def names(destinations: Sequence[Destination]) -> list[str]:
    """The DNS names to be resolved, each once."""
    return sorted({line.name for line in destinations if line.name})


def forwards(
    destinations: Sequence[Destination],
    answers: Answers,
    families: Collection[int],
    inside: Sequence[IPNetwork],
) -> tuple[Forward, ...]:
    """One forward for each line and family.

    Args:
        answers: the addresses of every name.
        families: those for which the pod has a source address and a gateway.
        inside: where no destination may lie: the cluster's networks, and the pod's own source addresses.

    Raises:
        CniError: INVALID_ANNOTATION for an address of the cluster itself; TRY_AGAIN_LATER for a name without a
            usable address.
    """
    found = []
    for line in destinations:
        addresses = line.addresses
        for address in addresses:
            if network := _holder(address, inside):
                raise CniError(
                    INVALID_ANNOTATION,
                    f"annotation {DESTINATION}: line {line.line}: {address} lies in {network} of 'clusterNetworks', "
                    "which stay on the pod's main interface",
                )
        if line.name:
            addresses = _usable(line, answers[line.name], families, inside)
        for family in sorted({address.version for address in addresses}):
            of_family = sorted(address for address in addresses if address.version == family)
            found.append(
                Forward(
                    line=line.line,
                    text=str(line),
                    family=family,
                    protocol=line.protocol,
                    ports=line.ports,
                    target_port=line.target_port,
                    addresses=tuple(map(str, of_family)),
                )
            )
    return tuple(found)


def passage(request: Request, addressing: Addressing, link: Link, pod: HostFacts) -> Passage:
    """The pod's two sides.

    Raises:
        CniError: MASTER_UNUSABLE if nothing but the macvlan leads into the pod.
    """
    inside = pod.link(main_interface(request, pod))
    if inside is None:
        raise CniError(
            MASTER_UNUSABLE,
            f"annotation {DESTINATION}: the pod has no main interface"
            + (f" {request.main_interface!r}" if request.main_interface else " with a default route")
            + " from which traffic could come; chain the plugin after the main CNI",
        )
    return Passage(
        inside=inside.name,
        outside=link.name,
        sources={one.version: str(one.ip) for one in addressing.sources},
        mtus=(inside.mtu, link.mtu),
        only_destinations=request.routes != "default",
    )


def main_interface(request: Request, pod: HostFacts) -> str:
    """Where traffic comes in: the chain's interface, else that of the pod's default route; empty if there is none."""
    return request.main_interface or _default_route_interface(pod)


def settings(request: Request, pod: HostFacts) -> list[str]:
    """What of the pod's present settings decides which are to be changed."""
    interface = main_interface(request, pod)
    if not request.destinations or not interface:
        return []
    return [
        *(f"net/ipv4/conf/{name}/rp_filter" for name in ("all", interface)),
        f"net/ipv4/conf/{interface}/forwarding",
        f"net/ipv6/conf/{interface}/force_forwarding",
        f"net/ipv6/conf/{interface}/forwarding",
        "net/ipv6/conf/default/forwarding",
        "net/ipv6/conf/all/forwarding",
    ]


def sysctls(passage: Passage, present: Mapping[str, str]) -> Iterable[Sysctl]:
    """Forwarding between the two sides, with what DEL has to put back.

    IPv4 forwards what comes in by an interface that may forward. IPv6 does so for all or for none before Linux 6.17,
    which knows force_forwarding (kernel documentation, networking/ip-sysctl).
    """
    inside = f"net/ipv4/conf/{passage.inside}"
    yield from _changed(f"{inside}/forwarding", "1", present)
    yield Sysctl(key=f"net/ipv4/conf/{passage.outside}/forwarding", value="1")
    filters = [present.get(f"net/ipv4/conf/{name}/rp_filter", "0") for name in ("all", passage.inside)]
    if not passage.only_destinations and max(filters) == "1":  # the kernel takes the larger one
        # By then the packet is on its way to a destination from which no strict way leads back to the client.
        yield from _changed(f"{inside}/rp_filter", "2", present)
    if 6 not in passage.sources:
        return
    forced = f"net/ipv6/conf/{passage.inside}/force_forwarding"
    if forced in present:
        yield from _changed(forced, "1", present)
        yield Sysctl(key=f"net/ipv6/conf/{passage.outside}/force_forwarding", value="1")
        return
    # It is a router for all now; either side, and what comes later, goes on as the host that it was (router
    # advertisements, redirects). The kernel writes `all` through to the others, so that it comes first both ways.
    yield from _changed("net/ipv6/conf/all/forwarding", "1", present)
    for name in ("default", passage.inside):
        own = f"net/ipv6/conf/{name}/forwarding"
        if own in present:
            yield Sysctl(key=own, value=present[own], before=present[own])
    yield Sysctl(key=f"net/ipv6/conf/{passage.outside}/forwarding", value="0")


def routes(forwards: Iterable[Forward], addressing: Addressing, interface: str) -> Iterable[Route]:
    """A host route for every address that traffic is sent on to; what the pod itself sends there takes it too."""
    addresses = {ipaddress.ip_address(address) for one in forwards for address in one.addresses}
    for address in sorted(addresses, key=lambda one: (one.version, one)):
        source = addressing.source(address.version)
        gateway = addressing.gateway(address.version)
        if source is None or gateway is None:
            continue
        on_link = address == gateway or address in source.network
        yield Route(
            destination=f"{address}/{address.max_prefixlen}",
            interface=interface,
            gateway=None if on_link else str(gateway),
            source=str(source.ip),
            onlink=not on_link,
        )


def rules(passage: Passage, priority: int) -> Iterable[Rule]:
    """What comes back from a destination goes on by the main table even if the default route is the macvlan's."""
    if not passage.only_destinations:
        for family in sorted(passage.sources):
            yield Rule(family=family, priority=priority, table=MAIN_TABLE, iif=passage.outside)  # type: ignore[arg-type]


def renewal(request: Request, addressing: Addressing, passage: Passage) -> Renewal | None:
    """What is needed to follow names later on, if there are any."""
    if not any(line.name for line in request.destinations):
        return None
    return Renewal(
        inside=passage.inside,
        mtus=passage.mtus,
        only_destinations=passage.only_destinations,
        gateways=tuple(map(str, addressing.gateways)),
        cluster_networks=tuple(map(str, request.cluster_networks)),
    )


def _default_route_interface(pod: HostFacts) -> str:
    defaults = (
        route
        for route in pod.routes
        if route.destination in ("0.0.0.0/0", "::/0") and route.table == MAIN_TABLE
    )
    first = min(defaults, key=lambda route: route.metric, default=None)
    return first.interface if first else ""


def _changed(key: str, value: str, present: Mapping[str, str]) -> Iterable[Sysctl]:
    """A setting of the pod's own that is not so already."""
    if present.get(key, value) != value:
        yield Sysctl(key=key, value=value, before=present[key])


def _usable(
    line: Destination,
    answer: Sequence[IPAddress],
    families: Collection[int],
    inside: Sequence[IPNetwork],
) -> tuple[IPAddress, ...]:
    """What of an answer can be a destination: a name may not lead into the pod or the cluster (DNS rebinding)."""
    refused = [
        address
        for address in answer
        if not_a_host(address) or address.is_link_local or _holder(address, inside)
    ]
    usable = [address for address in answer if address not in refused and address.version in families]
    if not usable:
        of = " or ".join(f"IPv{family}" for family in sorted(families))
        why = f"; refused {', '.join(map(str, refused))}, which leads into the cluster" if refused else ""
        raise CniError(
            TRY_AGAIN_LATER,
            f"annotation {DESTINATION}: line {line.line}: the name {line.name} has no usable {of} address{why}",
        )
    return tuple(usable)


def _holder(address: IPAddress, networks: Sequence[IPNetwork]) -> IPNetwork | None:
    return next((network for network in networks if address in network), None)
