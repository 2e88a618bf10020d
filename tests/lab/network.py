"""The physical network of the lab: a switch with a router, a host behind it, hosts and nodes on the LAN.

outside (203.0.113.25, 2001:db8:113::25)
   |
router (192.168.12.1, fd00:12::1), which is also the switch br0
   |-- node (192.168.12.10, fd00:12::10)
   |-- further nodes and hosts
"""

from __future__ import annotations

import itertools
import secrets
import socket
from collections.abc import Callable
from typing import TypeVar

from .capture import Capture
from .namespace import Namespace
from .node import Node

N = TypeVar("N", bound=Namespace)
ROUTER4, ROUTER6 = "192.168.12.1", "fd00:12::1"
OUTSIDE4, OUTSIDE6 = "203.0.113.25", "2001:db8:113::25"
PODS4, PODS6 = "10.244.0.0/16", "fd00:244::/32"


class Lan(Namespace):
    """The switch and router."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab.name("lan"))
        self._lab = lab
        self._ports = itertools.count(1)
        self._port_of: dict[str, str] = {}
        self.sysctl("net/ipv4/ip_forward", 1)
        self.sysctl("net/ipv6/conf/all/forwarding", 1)
        self.ip(
            "link add br0 type bridge mcast_snooping 0 forward_delay 0",
            "link set br0 up",
            f"address add {ROUTER4}/24 dev br0",
            f"address add {ROUTER6}/64 dev br0",
        )

    def plug(self, namespace: Namespace, nic: str = "eth0") -> None:
        """Connect a new NIC of a namespace to the switch."""
        port = f"port{next(self._ports)}"
        self.ip(
            f"link add {port} type veth peer name {nic} netns {namespace.name}",
            f"link set {port} master br0 up",
        )
        namespace.ip(f"link set {nic} up")
        namespace.settle(nic)
        self._port_of[f"{namespace.name}/{nic}"] = port

    def port(self, namespace: Namespace, nic: str = "eth0") -> str:
        """The switch's port that a NIC is plugged into."""
        return self._port_of[f"{namespace.name}/{nic}"]

    def host(self, *addresses: str) -> Namespace:
        """A host with some addresses (IPv4 /24, IPv6 /64) and a default route by the router."""
        host = self._lab.keep(Namespace(self._lab.name(f"host{self._lab.number()}")))
        self.plug(host)
        host.ip(
            *(f"address add {address}/{64 if ':' in address else 24} dev eth0" for address in addresses),
            *(
                {
                    f"route replace default via {ROUTER6 if ':' in address else ROUTER4}"
                    for address in addresses
                }
            ),
        )
        return host

    def capture(self, at: Namespace | None = None, nic: str = "eth0") -> Capture:
        """The frames at a NIC's port of the switch; the first node's without further word."""
        sock = self.socket(socket.AF_PACKET, socket.SOCK_RAW)
        return Capture(sock, self.port(at or self._lab.node, nic))

    def neighbour(self, address: str) -> str | None:
        """The MAC address that the router believes an address to be at."""
        entries = self.show(f"neighbour show {address} dev br0")
        return str(entries[0]["lladdr"]) if entries and "lladdr" in entries[0] else None


class Lab:
    """Everything together; `close` removes it all."""

    def __init__(self, bin_dir: str, directory: Callable[[str], str]) -> None:
        self.bin_dir = bin_dir
        self._directory = directory
        self._prefix = f"cme-{secrets.token_hex(3)}"
        self._kept: list[Namespace] = []
        self._numbers = itertools.count(1)
        try:
            self.lan = self.keep(Lan(self))
            self.node = self.another_node("192.168.12.10", "fd00:12::10", role="node")
            self.outside = self._make_outside()
        except BaseException:
            self.close()
            raise

    def number(self) -> int:
        """One that no other namespace of this lab has."""
        return next(self._numbers)

    def name(self, role: str) -> str:
        return f"{self._prefix}-{role}"

    def keep(self, namespace: N) -> N:
        """Have a namespace removed at the end."""
        self._kept.append(namespace)
        return namespace

    def another_node(self, *addresses: str, role: str = "") -> Node:
        """A node of the cluster, with a NIC eth0 on the LAN."""
        role = role or f"node{self.number()}"
        node = Node(self, self.name(role), self._directory(role))
        self.keep(node)
        self.lan.plug(node)
        node.sysctl("net/ipv4/ip_forward", 1)
        node.sysctl("net/ipv6/conf/all/forwarding", 1)
        node.ip(
            *(f"address add {address}/{64 if ':' in address else 24} dev eth0" for address in addresses),
            *(f"route add default via {ROUTER6 if ':' in address else ROUTER4}" for address in addresses),
        )
        return node

    def close(self) -> None:
        for namespace in reversed(self._kept):
            namespace.remove()

    def _make_outside(self) -> Namespace:
        outside = self.keep(Namespace(self.name("outside")))
        self.lan.ip(
            f"link add out0 type veth peer name eth0 netns {outside.name}",
            "link set out0 up",
            "address add 203.0.113.1/24 dev out0",
            "address add 2001:db8:113::1/64 dev out0",
            f"route add {PODS4} via 192.168.12.10",
            f"route add {PODS6} via fd00:12::10",
        )
        outside.ip(
            "link set eth0 up",
            f"address add {OUTSIDE4}/24 dev eth0",
            f"address add {OUTSIDE6}/64 dev eth0",
            "route add default via 203.0.113.1",
            "route add default via 2001:db8:113::1",
        )
        return outside
