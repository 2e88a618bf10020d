"""The network that benchmarks run in: a node on a LAN, and pods whose eth0 a main CNI has made.

router 192.168.12.1 ═╤═ LAN ══
                     └─ node eth0 192.168.12.10
                        └─ cni0 10.88.0.1 ── pods eth0 10.88.0.2 …

All of it are network namespaces, veth pairs and bridges, as in a real node; IPv6 is on, as it usually is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from cni_macvlan_egress.admin.theatre.namespace import Namespace, add_address, add_bridge, plug

from .process import BenchmarkError

PREFIX = "macvlan-egress-bench"
NIC = "eth0"
BRIDGE = "cni0"
ROUTER = "192.168.12.1"
_NODE = "192.168.12.10"
_PODS_ROUTER = "10.88.0.1"
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Pod:
    """A pod as its runtime knows it.

    Attributes:
        previous: what the main CNI answered: prevResult of the plugin that is chained after it.
    """

    name: str
    namespace: Namespace
    previous: dict[str, Any]
    container_id: str = field(default_factory=lambda: secrets.token_hex(32))


class Cluster:
    """Made on entering, removed on exit.

    Raises:
        CniError: the kernel, or missing privileges, forbid it.
    """

    def __init__(self) -> None:
        self._prefix = f"{PREFIX}-{os.getpid()}-{secrets.token_hex(2)}"
        self._undo = contextlib.ExitStack()
        self._pods = 0

    def __enter__(self) -> Self:
        with self._undo:
            self.lan = self._namespace("lan")
            add_bridge(self.lan, "br0", f"{ROUTER}/24")
            self.node = self.another_node("node", _NODE)
            self._undo = self._undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def another_node(self, role: str, address: str) -> Namespace:
        """A node on the LAN; its port at the switch has the name of its role."""
        node = self._namespace(role)
        plug(f"connect {role}", self.lan, role, node, NIC, bridge="br0")
        add_address(node, NIC, f"{address}/24")
        _default_route(node, ROUTER)
        add_bridge(node, BRIDGE, f"{_PODS_ROUTER}/16")
        return node

    def pod(self, name: str, node: Namespace | None = None) -> Pod:
        """A pod with its main interface, and the main CNI's result; on the first node if no other is named."""
        self._pods += 1
        namespace = self._namespace(name)
        host_end = f"veth{self._pods}"
        address = f"10.88.{(self._pods + 1) >> 8}.{(self._pods + 1) & 255}/16"
        plug(f"connect pod {name}", node or self.node, host_end, namespace, NIC, bridge=BRIDGE)
        add_address(namespace, NIC, address)
        _default_route(namespace, _PODS_ROUTER)
        previous = {
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": BRIDGE},
                {"name": host_end},
                {"name": NIC, "sandbox": namespace.path},
            ],
            "ips": [{"interface": 2, "address": address, "gateway": _PODS_ROUTER}],
            "routes": [{"dst": "0.0.0.0/0", "gw": _PODS_ROUTER}],
            "dns": {},
        }
        return Pod(name, namespace, previous)

    def crowd(self, count: int) -> None:
        """Other pods, of which only the node's ends matter: interfaces, addresses and routes to look through."""
        others = self._namespace("others")
        for number in range(count):
            plug("connect another pod", self.node, f"other{number}", others, f"eth{number}", bridge=BRIDGE)

    def _namespace(self, role: str) -> Namespace:
        namespace = Namespace(f"{self._prefix}-{role}")
        self._undo.callback(namespace.remove)
        for scope in ("all", "default"):
            namespace.sysctl(f"net/ipv6/conf/{scope}/disable_ipv6", "0")
        return namespace


@contextlib.contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """Stand in a namespace with the calling thread; a process or socket made meanwhile stays there."""
    with open("/proc/thread-self/ns/net", "rb") as own:
        _enter(namespace.fd)
        try:
            yield
        finally:
            _enter(own.fileno())


def _enter(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET):
        raise BenchmarkError(f"cannot enter a network namespace: {os.strerror(ctypes.get_errno())}")


def _default_route(namespace: Namespace, gateway: str) -> None:
    namespace.configure(
        f"route default via {gateway}", lambda ip: ip.route("add", dst="default", gateway=gateway)
    )
