"""What an ADD finds out before it changes anything: on which NIC, whether it may, and where names lead."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from ..decide import grants, master, redirect
from ..decide.facts import HostFacts, LinkFact
from ..decide.plan import Forward
from ..decide.request import Pod, Request
from ..kernel.netlink import Netlink
from ..model.annotations import DESTINATION
from ..model.configuration import Configuration
from ..protocol.errors import CniError
from ..turns import waiting


@dataclass(frozen=True, slots=True)
class Preparation:
    """A request that may be served.

    Attributes:
        nic: the NIC to attach to.
        node: what is on the node.
        forwards: the destinations with their names resolved.
    """

    request: Request
    nic: LinkFact
    node: HostFacts
    forwards: tuple[Forward, ...]


def prepare(configuration: Configuration, request: Request, pod: Pod) -> Preparation:
    """Look at the node, check the grants, and only then ask the resolver for anything.

    Raises:
        CniError: the request cannot be served on this node, or not for this pod.
    """
    node = _look(request)
    nic = master.choose(request, node)
    grants.check(configuration, request, pod, nic.name)
    return Preparation(request, nic, node, _forwards(request))


def _look(request: Request) -> HostFacts:
    """The node, with no more of its interfaces and routes than the choice of the NIC needs."""
    with Netlink() as netlink:
        versions = request.versions
        addresses = netlink.addresses(versions)
        names = master.suspects(request, addresses)
        routes = () if names else netlink.default_routes()
        named = map(netlink.link, names or {route.interface for route in routes})
        links = tuple(filter(None, named))
        # Each pod's veth has an IPv6 address: of a version that is not asked for, the NIC's own are enough.
        others = {4, 6} - versions
        own = [held for link in links for held in netlink.addresses(others, at=link.index)]
        node = HostFacts(links=links, addresses=(*addresses, *own), routes=routes)
        return node if master.is_plain(request, node) else netlink.facts()


def _forwards(request: Request) -> tuple[Forward, ...]:
    if not request.destinations:
        return ()
    names = redirect.names(request.destinations)
    answers: redirect.Answers = {}
    if names:
        from ..sources.names import Unresolved, resolve

        try:
            with waiting():
                answers = resolve(names, request.families)
        except Unresolved as error:
            line = next(one.line for one in request.destinations if one.name == error.name)
            raise CniError(error.code, f"annotation {DESTINATION}: line {line}: {error.msg}") from None
    return redirect.forwards(
        request.destinations,
        answers,
        request.families,
        [*request.cluster_networks, *(ipaddress.ip_network(source.ip) for source in request.sources)],
    )
