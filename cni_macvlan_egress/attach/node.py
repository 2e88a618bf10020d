"""What policies have to know of the node itself: its addresses, its NICs, and what it sends through them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from ..decide.facts import MAIN_TABLE, HostFacts, LinkFact
from ..decide.guard import Guard, Guest
from ..decide.plan import Plan
from ..kernel.netlink import Netlink
from ..model.policy import Network

_MAC_LENGTH = len("00:00:00:00:00:00")
_NO_MAC = "00:00:00:00:00:00"


class Node:
    """The node as it is now.

    Args:
        cluster: networks of the cluster, which the node forwards to and from.
    """

    def __init__(self, cluster: Sequence[Network]) -> None:
        with Netlink() as netlink:
            self._facts: HostFacts = netlink.facts()
        self._cluster = tuple(cluster)

    @property
    def devices(self) -> set[str]:
        """The names of its interfaces."""
        return {link.name for link in self._facts.links}

    @property
    def addresses(self) -> list[str]:
        """Its addresses, less IPv6 link-local ones: these come and go with every pod's veth."""
        found = {ipaddress.ip_interface(one.address).ip for one in self._facts.addresses}
        return sorted(str(one) for one in found if one.version == 4 or not one.is_link_local)

    def link(self, name: str) -> LinkFact | None:
        """The interface of a name."""
        return self._facts.link(name)

    def guard(self, nic: LinkFact, guests: Sequence[Guest], *, strict: bool) -> Guard:
        """A NIC with its macvlans."""
        vlans = any(link.kind == "vlan" and link.parent == nic.index for link in self._facts.links)
        return Guard(nic.index, nic.name, tuple(guests), self._macs(nic), self._forwarded(nic), vlans, strict)

    def guest(self, key: str, namespace: str, plan: Plan) -> Guest:
        """A macvlan; namespace is empty if no policy holds for it."""
        addresses = [ipaddress.ip_interface(one.address) for one in plan.addresses]
        near = {str(one.network) for one in addresses if one.version == 6}
        near |= {f"{route.gateway}/128" for route in plan.routes if ":" in (route.gateway or "")}
        if (
            not addresses
        ):  # whoever is in the pod chooses: from the NIC's own networks, as far as anybody knows
            near |= {
                str(ipaddress.ip_interface(one).network)
                for one in self._facts.addresses_of(plan.link.master)
                if ":" in one
            }
        collapsed = ipaddress.collapse_addresses([ipaddress.IPv6Network(one) for one in near])
        return Guest(
            key, namespace, plan.link.mac, tuple(str(one.ip) for one in addresses), tuple(map(str, collapsed))
        )

    def _macs(self, nic: LinkFact) -> tuple[str, ...]:
        """Those of interfaces that can send through a NIC, which the ends of pods' veths do not."""
        found = {
            link.mac
            for link in self._facts.links
            if len(link.mac) == _MAC_LENGTH and not (link.kind == "veth" and link.parent_netns is not None)
        }
        return tuple(sorted((found | {nic.mac}) - {_NO_MAC}))

    def _forwarded(self, nic: LinkFact) -> tuple[str, ...]:
        """Networks behind the node's other interfaces, from where packets may come through it to a NIC."""
        found = {
            route.destination
            for route in self._facts.routes
            if route.table == MAIN_TABLE
            and route.interface != nic.name
            and not route.destination.endswith("/0")
        }
        networks = [*self._cluster, *map(ipaddress.ip_network, found)]
        collapsed: list[Network] = []
        for family in (4, 6):
            mine = [one for one in networks if one.version == family]
            collapsed += ipaddress.collapse_addresses(mine)  # type: ignore[type-var]
        return tuple(str(one) for one in collapsed if not (one.version == 6 and one.is_link_local))
