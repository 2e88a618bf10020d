"""From a request and facts to a plan."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence

from ..model.addresses import IPAddress, IPInterface, IPNetwork, parsed
from ..model.annotations import MTU_MIN_IPV6
from ..protocol.errors import (
    ADDRESS_HELD,
    INTERFACE_EXISTS,
    INVALID_ANNOTATION,
    INVALID_CONFIGURATION,
    MASTER_UNUSABLE,
    CniError,
)
from . import redirect, ruleset
from .addressing import Addressing
from .facts import MAIN_TABLE, HostFacts, LinkFact, RouteFact
from .mac import choose as choose_mac
from .plan import Address, Conflicts, Forward, Link, Plan, Route, Rule, Sysctl
from .request import Request

# Tables and rule priorities of ours start here: above what operators and CNIs commonly number by hand, below the
# main table's rule (32766).
FIRST_TABLE = 7200
FIRST_PRIORITY = 7200
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
_LINK_LOCAL = "fe80::/64"


def plan(
    request: Request,
    addressing: Addressing,
    forwards: Sequence[Forward],
    master: LinkFact,
    node: HostFacts,
    pod: HostFacts,
    random_bytes: Callable[[int], bytes],
) -> Plan:
    """Decide every step of an ADD.

    Args:
        forwards: the request's destinations with their names resolved.
        master: the NIC to attach to.
        random_bytes: os.urandom, or what a test puts in its place.

    Raises:
        CniError: what is asked cannot be had on this node or in this pod.
    """
    _check_name_is_free(request, pod)
    _check_not_the_nodes_own(addressing, forwards, node)
    _check_not_of_the_cluster(request, addressing, pod, node.addresses_of(master.name))
    _check_the_node_keeps_its_nic(request, master, node)
    link = Link(
        name=request.interface,
        master=master.name,
        mode=request.mode,
        mtu=_mtu(request, addressing, master),
        mac=_mac(request, addressing, master, node, random_bytes),
    )
    if not addressing.sources:
        return Plan(link=link, routes=_once(_kept_on_main(request, master, node, pod)))
    table = _free_table(pod)
    passage = redirect.passage(request, addressing, link, pod) if forwards else None
    return Plan(
        link=link,
        forwards=tuple(forwards),
        ruleset=ruleset.render(passage, forwards) if passage else "",
        sysctls=(
            *_sysctls(request, addressing, pod),
            *(redirect.sysctls(passage, pod.settings) if passage else ()),
        ),
        conflicts=Conflicts(detection=request.conflict_detection, timeout_ms=request.conflict_timeout_ms),
        addresses=tuple(
            Address(address=str(source), prefix_route=request.standalone) for source in addressing.sources
        ),
        routes=_once(
            (
                *_routes(request, addressing, master, node, pod, table),
                *redirect.routes(forwards, addressing, link.name),
            )
        ),
        rules=tuple(
            dict.fromkeys(
                (
                    *_rules(request, addressing, pod, table),
                    *(redirect.rules(passage, FIRST_PRIORITY + 2) if passage else ()),
                )
            )
        ),
        renewal=redirect.renewal(request, addressing, passage) if passage else None,
    )


def _mac(
    request: Request,
    addressing: Addressing,
    master: LinkFact,
    node: HostFacts,
    random_bytes: Callable[[int], bytes],
) -> str:
    if request.mode != "passthru":
        return choose_mac(request.mac, addressing.sources, random_bytes, {one.mac for one in node.links})
    # The kernel gives it the NIC's own, whatever is asked for (drivers/net/macvlan.c, macvlan_common_newlink).
    if request.mac not in ("kernel", master.mac):
        raise CniError(
            INVALID_CONFIGURATION,
            f"mac {request.mac}: in mode passthru the interface has the MAC address of NIC {master.name!r} "
            f"({master.mac}); leave out 'mac', or choose another mode",
        )
    return master.mac


def _once(routes: Iterable[Route]) -> tuple[Route, ...]:
    """The first route to each destination of a table; the kernel refuses a second one."""
    first: dict[tuple[str, int], Route] = {}
    for route in routes:
        first.setdefault((route.destination, route.table), route)
    return tuple(first.values())


def _check_name_is_free(request: Request, pod: HostFacts) -> None:
    there = pod.link(request.interface)
    if there is not None:
        kind = there.kind or "physical"
        raise CniError(
            INTERFACE_EXISTS,
            f"the pod already has an interface {there.name!r} ({kind}, {there.mac}) that is not this plugin's; set "
            "another 'ifName'",
        )


def _check_not_the_nodes_own(addressing: Addressing, forwards: Sequence[Forward], node: HostFacts) -> None:
    own = {parsed(held.address).ip: held.interface for held in node.addresses}
    for source in addressing.sources:
        if source.ip in own:
            raise CniError(
                ADDRESS_HELD,
                f"source address {source.ip} is the node's own, on {own[source.ip]}; give the pod a free address",
            )
    for gateway in addressing.gateways:
        if gateway in own and not gateway.is_link_local:
            raise CniError(
                ADDRESS_HELD,
                f"gateway {gateway} is the node itself, on {own[gateway]}: a macvlan cannot reach its parent "
                "interface; name a router on the LAN",
            )

    for forward in forwards:
        for address in map(ipaddress.ip_address, forward.addresses):
            if address in own:
                raise CniError(
                    ADDRESS_HELD,
                    f"destination {address} (line {forward.line}) is the node itself, on {own[address]}: a macvlan "
                    "cannot reach its parent interface; clients in the cluster reach it directly",
                )


def _check_not_of_the_cluster(
    request: Request, addressing: Addressing, pod: HostFacts, nics: Sequence[str]
) -> None:
    """An address of a pod or Service is no address on the LAN: it would only be somebody else's.

    The nodes' network is one of the cluster's as well, and often the LAN: what the NIC has its own address in.
    """
    lans = [parsed(held).network for held in nics]
    own = {parsed(held.address).ip for held in pod.addresses if held.interface != request.interface}
    for source in addressing.sources:
        on_lan = any(source.ip in lan for lan in lans)
        network = next((one for one in request.cluster_networks if source.ip in one and not on_lan), None)
        if source.ip in own or network is not None:
            whose = "the pod's own already" if source.ip in own else f"in {network} of clusterNetworks"
            raise CniError(
                ADDRESS_HELD,
                f"source address {source.ip} is {whose}; give the pod a free address of the LAN",
            )


def _check_the_node_keeps_its_nic(request: Request, master: LinkFact, node: HostFacts) -> None:
    """In mode passthru the macvlan gets all that arrives at the NIC (drivers/net/macvlan.c, macvlan_handle_frame)."""
    own = [one for one in node.addresses_of(master.name) if not parsed(one).ip.is_link_local]
    if request.mode == "passthru" and own:
        raise CniError(
            MASTER_UNUSABLE,
            f"mode passthru would cut the node off: NIC {master.name!r} has its address {own[0]}; choose another mode, "
            "or a NIC that the node does not use itself",
        )


def _mtu(request: Request, addressing: Addressing, master: LinkFact) -> int:
    mtu = request.mtu if request.mtu is not None else master.mtu
    if mtu > master.mtu:
        raise CniError(
            INVALID_ANNOTATION if request.mtu_annotated else INVALID_CONFIGURATION,
            f"mtu {mtu} is more than the {master.mtu} of NIC {master.name!r}; lower 'mtu', or raise the NIC's on "
            "every host of the LAN",
        )
    if mtu < MTU_MIN_IPV6 and any(source.version == 6 for source in addressing.sources):
        code = INVALID_CONFIGURATION if request.mtu is not None else MASTER_UNUSABLE
        raise CniError(
            code, f"mtu {mtu} is less than the {MTU_MIN_IPV6} that IPv6 needs (RFC 8200, section 5)"
        )
    return mtu


def _sysctls(request: Request, addressing: Addressing, pod: HostFacts) -> Iterable[Sysctl]:
    interface = request.interface
    families = {source.version for source in addressing.sources}
    ipv4 = f"net/ipv4/conf/{interface}"
    # Kernel documentation, networking/ip-sysctl: answer ARP only for this interface's own addresses, and ask with
    # no other; accept what arrives whatever route leads back (loose), since replies come from far away.
    for name, value in (
        ("arp_ignore", 1),
        ("arp_announce", 2),
        ("rp_filter", 2),
        ("accept_redirects", 0),
        ("secure_redirects", 0),
        ("send_redirects", 0),
        ("accept_source_route", 0),
        *([] if request.destinations else [("forwarding", 0)]),
        # The kernel then announces every address when the MAC address is set, and again when a bond fails over.
        ("arp_notify", 1),
    ):
        yield Sysctl(key=f"{ipv4}/{name}", value=str(value))
    if not pod.ipv6:
        return
    ipv6 = f"net/ipv6/conf/{interface}"
    if 6 not in families:
        # Else the link-local address would be an open door from the LAN that nobody asked for.
        yield Sysctl(key=f"{ipv6}/disable_ipv6", value="1")
        return
    for name, value in (
        ("disable_ipv6", 0),
        ("accept_ra", 0),
        ("autoconf", 0),
        # Conflicts are looked for before the address is set; the kernel's own DAD would take seconds.
        ("accept_dad", 1 if request.conflict_detection == "strict" else 0),
        ("accept_redirects", 0),
        ("accept_source_route", -1),
        ("forwarding", 0),
        ("ndisc_notify", 1),
    ):
        yield Sysctl(key=f"{ipv6}/{name}", value=str(value))


def _routes(
    request: Request, addressing: Addressing, master: LinkFact, node: HostFacts, pod: HostFacts, table: int
) -> Iterable[Route]:
    interface = request.interface
    for source in addressing.sources:
        gateway = addressing.gateway(source.version)
        if source.network.num_addresses > 1:
            yield Route(
                destination=str(source.network), interface=interface, table=table, source=str(source.ip)
            )
        if source.version == 6:
            yield Route(destination=_LINK_LOCAL, interface=interface, table=table)
        if gateway is None:
            continue
        if not gateway.is_link_local and gateway not in source.network:
            yield _host_route(gateway, interface, source, table)
            if request.standalone:
                yield _host_route(gateway, interface, source)
        yield Route(
            destination=_EVERYTHING[source.version],
            interface=interface,
            gateway=str(gateway),
            table=table,
            source=str(source.ip),
        )
    yield from _ipam_routes(request, addressing, pod)
    if request.routes == "default" and not request.standalone:
        yield from _kept_on_main(request, master, node, pod)


def _host_route(address: IPAddress, interface: str, source: IPInterface, table: int = MAIN_TABLE) -> Route:
    return Route(
        destination=f"{address}/{address.max_prefixlen}",
        interface=interface,
        table=table,
        source=str(source.ip),
    )


def _ipam_routes(request: Request, addressing: Addressing, pod: HostFacts) -> Iterable[Route]:
    """Routes in the main table: what IPAM names, and the way out of a pod that has none but this interface."""
    taken = {route.destination for route in pod.routes if route.table == MAIN_TABLE}
    wanted = list(addressing.routes)
    if request.standalone and not request.use_ipam:
        wanted += [
            (ipaddress.ip_network(_EVERYTHING[gateway.version]), gateway) for gateway in addressing.gateways
        ]
    for destination, via in wanted:
        gateway = via or addressing.gateway(destination.version)
        if not request.standalone and destination.prefixlen == 0:
            continue  # the pod's default route stays the main interface's; `routes: default` works by rules
        if str(destination) in taken:
            continue
        # In a chain the main table has no route to the gateway; it is on the link nevertheless.
        onlink = gateway is not None and not request.standalone and not gateway.is_link_local
        yield Route(
            destination=str(destination),
            interface=request.interface,
            gateway=str(gateway) if gateway else None,
            onlink=onlink,
        )


def _rules(request: Request, addressing: Addressing, pod: HostFacts, table: int) -> Iterable[Rule]:
    """Sockets bound to the source address or the interface use it; with `routes: default` all others too."""
    for source in addressing.sources:
        family = source.version
        host = f"{source.ip}/{source.max_prefixlen}"
        yield Rule(family=family, priority=FIRST_PRIORITY, table=table, source=host)
        yield Rule(family=family, priority=FIRST_PRIORITY + 1, table=table, oif=request.interface)
        if request.routes != "default" or request.standalone or addressing.gateway(family) is None:
            continue
        # What answers on the main interface keeps doing so: health checks, clients of a Service.
        for held in pod.addresses_of(request.main_interface):
            own = parsed(held).ip
            if own.version == family and not own.is_link_local:
                yield Rule(
                    family=family,
                    priority=FIRST_PRIORITY + 2,
                    table=MAIN_TABLE,
                    source=f"{own}/{own.max_prefixlen}",
                )
        yield Rule(family=family, priority=FIRST_PRIORITY + 3, table=MAIN_TABLE, suppress_prefix_length=0)
        yield Rule(family=family, priority=FIRST_PRIORITY + 4, table=table)


def _kept_on_main(request: Request, master: LinkFact, node: HostFacts, pod: HostFacts) -> Iterable[Route]:
    """Routes by which the node and the cluster stay reachable when the default route leads to the macvlan.

    A macvlan cannot exchange frames with its own parent, so the node's addresses there must be reached otherwise.
    """
    targets: list[IPNetwork] = []
    for held in node.addresses_of(master.name):
        address = parsed(held).ip
        if not address.is_link_local:
            targets.append(ipaddress.ip_network(address))
    targets += [network for network in request.cluster_networks if network not in targets]
    on_main = [
        route
        for route in pod.routes
        if route.table == MAIN_TABLE and route.interface == request.main_interface
    ]
    for target in targets:
        way = _way_to(target, on_main)
        if way is None or way.destination != _EVERYTHING[target.version]:
            continue  # no way at all, or one that a changed default route does not touch
        yield Route(destination=str(target), interface=way.interface, gateway=way.gateway, onlink=way.onlink)


def _way_to(target: IPNetwork, routes: Iterable[RouteFact]) -> RouteFact | None:
    covering = []
    for route in routes:
        network = ipaddress.ip_network(route.destination)
        if network.version == target.version and target.subnet_of(network):  # type: ignore[arg-type]
            covering.append((-network.prefixlen, route.metric, route))
    return min(covering, key=lambda found: found[:2])[2] if covering else None


def _free_table(pod: HostFacts) -> int:
    used = {route.table for route in pod.routes} | {rule.table for rule in pod.rules}
    table = FIRST_TABLE
    while table in used:
        table += 1
    return table
