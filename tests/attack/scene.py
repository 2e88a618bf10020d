"""An egress pod and those around it.

neighbour
    |
  cni0 of the node ---- eth0 ------ LAN ------ router ------ outside
    |                                |                       named in the pod's destinations; has an address
   pod ------- macvlan0 -------------+---- host, other       besides that is not
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from lab import Lab, Namespace, Pod, source
from lab.attacker import Tap
from lab.network import OUTSIDE4, OUTSIDE6

FAMILIES = (4, 6)
SOURCE = {4: "192.168.12.99", 6: "fd00:12::99"}
HOST = {4: "192.168.12.50", 6: "fd00:12::50"}
OTHER = {4: "192.168.12.51", 6: "fd00:12::51"}
SIBLING = {4: "192.168.12.98", 6: "fd00:12::98"}
NAMED = {4: OUTSIDE4, 6: OUTSIDE6}
UNNAMED = {4: "203.0.113.26", 6: "2001:db8:113::26"}
# The gateway of IPv6 is a link-local address: only such a router can send redirects (RFC 4861, section 8.1).
ROUTER = {4: "192.168.12.1", 6: "fe80::1"}
TCP_PORT, UDP_PORT = 80, 53
SERVER_PORT = 8080
DESTINATION = "\n".join(
    f"{TCP_PORT} tcp {NAMED[family]} {SERVER_PORT}\n{UDP_PORT} udp {NAMED[family]}" for family in FAMILIES
)
TCP_CHAIN = {4: "line-1-ip", 6: "line-3-ip6"}
UDP_CHAIN = {4: "line-2-ip", 6: "line-4-ip6"}


class Scene:
    """All of it, made once for the tests of a module, which leave it as they found it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node, self.lan, self.outside = lab.node, lab.lan, lab.outside
        self.lan.ip(f"address add {ROUTER[6]}/64 dev br0 nodad")
        self.outside.ip(f"address add {UNNAMED[4]}/24 dev eth0", f"address add {UNNAMED[6]}/64 dev eth0")
        self.host = self.lan.host(HOST[4], HOST[6])
        self.other = self.lan.host(OTHER[4], OTHER[6])
        self.pod, self.neighbour = self.node.pod("bridge"), self.node.pod("bridge")
        wish = source(f"{SOURCE[4]}/24,{SOURCE[6]}/64", f"{ROUTER[4]},{ROUTER[6]}", destination=DESTINATION)
        self.node.add(self.pod, wish).ok()
        self.mac = self.pod.mac("macvlan0")
        self.tap = Tap(self.host)

    def close(self) -> None:
        self.tap.close()

    @cached_property
    def sibling(self) -> Pod:
        """Another egress pod of the node: its macvlan hangs on the same NIC."""
        pod = self.node.pod("bridge")
        self.node.add(pod, source(f"{SIBLING[4]}/24,{SIBLING[6]}/64", f"{ROUTER[4]},{ROUTER[6]}")).ok()
        return pod

    @property
    def pod_address(self) -> dict[int, str]:
        return {4: self.pod.address, 6: self.pod.address6}

    @property
    def neighbour_address(self) -> dict[int, str]:
        return {4: self.neighbour.address, 6: self.neighbour.address6}

    @property
    def node_address(self) -> dict[int, str]:
        """Of the node, on the bridge of its pods."""
        found = (text.partition("/")[0] for text in self.node.addresses("cni0"))
        return {6 if ":" in address else 4: address for address in found}

    @property
    def link_local(self) -> str:
        """Of the macvlan."""
        (link,) = self.pod.show("-6 address show dev macvlan0")
        return next(str(one["local"]) for one in link["addr_info"] if one["scope"] == "link")

    @contextmanager
    def sent_to_the_pod(self, attacker: str, address: str) -> Iterator[Namespace]:
        """Have an attacker's packets to an address go to the macvlan; those from beyond by the router's doing."""
        namespace: Namespace = getattr(self, attacker)
        first = self.lan if attacker == "outside" else namespace
        length = 128 if ":" in address else 32
        first.ip(f"route add {address}/{length} via {SOURCE[6 if ':' in address else 4]}")
        try:
            yield namespace
        finally:
            first.ip(f"route del {address}/{length}")

    @contextmanager
    def sent_to_the_main_interface(self, first: Namespace, address: str) -> Iterator[None]:
        """Have what a namespace on the pod network sends to an address go to the pod's main interface."""
        gateway = self.pod_address[6 if ":" in address else 4]
        length = 128 if ":" in address else 32
        first.ip(f"route add {address}/{length} via {gateway}")
        try:
            yield
        finally:
            first.ip(f"route del {address}/{length}")
