"""Which NIC a macvlan is attached to, and whether it can carry one."""

from __future__ import annotations

from collections.abc import Iterable

from ..model.addresses import IPAddress, parsed
from ..protocol.errors import MASTER_UNUSABLE, CniError
from .facts import ETHERNET, MAIN_TABLE, AddressFact, HostFacts, LinkFact
from .request import Request

_PORT_HINT = "attach to it instead"


def choose(request: Request, node: HostFacts) -> LinkFact:
    """The NIC that is named, else the one whose subnet holds the gateway or source, else the default route's.

    Raises:
        CniError: MASTER_UNUSABLE.
    """
    link = _find(request, node)
    if link is None and request.master is not None:
        usable = ", ".join(one.name for one in node.links if not refusal(one)) or "none"
        raise CniError(
            MASTER_UNUSABLE, f"there is no NIC {request.master!r} on this node; usable ones are: {usable}"
        )
    if link is None:
        raise CniError(
            MASTER_UNUSABLE,
            "no NIC to attach to: no subnet of the node holds the pod's gateway or source address, and the node "
            "has no default route; name the NIC in 'master'",
        )
    if reason := refusal(link):
        raise CniError(MASTER_UNUSABLE, f"NIC {link.name!r} cannot carry a macvlan: {reason}")
    return link


def suspects(request: Request, addresses: Iterable[AddressFact]) -> list[str]:
    """The interfaces to look at first, of the thousands that a node may have; none: the default route's."""
    if request.master is not None:
        return [request.master]
    found = (
        held.interface
        for wanted in _wanted(request)
        for held in addresses
        if wanted in parsed(held.address).network
    )
    return list(dict.fromkeys(found))


def is_plain(request: Request, node: HostFacts) -> bool:
    """Whether facts that hold no more than the suspects suffice to choose; a refusal wants to know all."""
    if request.mac not in ("kernel", "address"):
        return False  # which interface has it already?
    link = _find(request, node)
    return link is not None and not refusal(link)


def refusal(link: LinkFact) -> str:
    """Why a link cannot carry a macvlan; empty if it can."""
    if link.loopback:
        return "it is the loopback interface"
    if link.kind in ("macvlan", "macvtap", "ipvlan"):
        return f"it is a {link.kind} itself; name the NIC below it"
    if link.hardware != ETHERNET:
        return "it is not an Ethernet interface"
    if link.controller:
        return f"it is a port of {link.controller!r}; {_PORT_HINT}"
    if not link.up:
        return f"it is down; set it up with: ip link set {link.name} up"
    return ""


def _find(request: Request, node: HostFacts) -> LinkFact | None:
    if request.master is not None:
        return node.link(request.master)
    return _on_link(request, node) or _of_default_route(node)


def _wanted(request: Request) -> list[IPAddress]:
    """What is to be near the NIC, the more telling first; a link-local address is near every one."""
    wanted = [*request.gateways, *(source.ip for source in request.sources)]
    return [address for address in wanted if not address.is_link_local]


def _on_link(request: Request, node: HostFacts) -> LinkFact | None:
    for address in _wanted(request):
        best: tuple[int, LinkFact] | None = None
        for held in node.addresses:
            network = parsed(held.address).network
            if address not in network:
                continue
            link = node.link(held.interface)
            if link is None or refusal(link):
                continue
            # A subnet that the node routes for pods (a bridge with ports of its own) would do as well by the
            # letter; the longest prefix, then the older interface, is what the kernel itself would prefer.
            if best is None or network.prefixlen > best[0]:
                best = (network.prefixlen, link)
        if best:
            return best[1]
    return None


def _of_default_route(node: HostFacts) -> LinkFact | None:
    defaults = [
        route
        for route in node.routes
        if route.destination in ("0.0.0.0/0", "::/0") and route.table == MAIN_TABLE
    ]
    for destination in ("0.0.0.0/0", "::/0"):
        of_family = [route for route in defaults if route.destination == destination]
        if of_family:
            return node.link(min(of_family, key=lambda route: route.metric).interface)
    return None
