"""The network of the demo: a node with two pods, a LAN, and a host behind the LAN's router.

outside 203.0.113.25 ── router 192.168.12.1 ═╤═ LAN ══
                                             └─ node eth0 192.168.12.10, service 10.96.0.50
                                                └─ cni0 10.88.0.1 ─┬─ pod egress eth0 10.88.0.2
                                                                   └─ pod plain  eth0 10.88.0.3
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ...decide.facts import HostFacts
from ...kernel.netlink import KernelError
from ...kernel.nftables import Nftables
from ...model import keys
from ...protocol.errors import MASTER_UNUSABLE, CniError
from .inventory import mac
from .namespace import Namespace, add_address, add_bridge, index_of, plug
from .traffic import PORT

PREFIX = "macvlan-egress-demo"
LAN = "192.168.12.0/24"
ROUTER = "192.168.12.1"
NODE = "192.168.12.10"
SOURCE = "192.168.12.99"
OUTSIDE = "203.0.113.25"
_OUTSIDE_ROUTER = "203.0.113.1"
_PODS = "10.88.0.0/24"
_PODS_ROUTER = "10.88.0.1"
BRIDGE = "br0"  # the LAN's switch, and the router's own interface on it
NODE_PORT = "node"  # the switch's port that the node is plugged into
SERVICE = "10.96.0.50"  # what clients of pod egress send to, by a DNS name on a real cluster
POD_BRIDGE = "cni0"  # the main CNI's bridge on the node
ANNOTATIONS = {
    keys.ASSIGN: "true",
    f"{keys.PREFIX}source": f"{SOURCE}/24",
    f"{keys.PREFIX}gateway": ROUTER,
    f"{keys.PREFIX}destination": f"{PORT} udp {OUTSIDE}",
}
# What kube-proxy does for a Service with one endpoint.
_SERVICE_RULES = """\
table ip macvlan_egress_demo_service {{
    chain prerouting {{
        type nat hook prerouting priority dstnat
        ip daddr {service} udp dport {port} dnat to {pod}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        ip daddr {pod} ct status dnat masquerade
    }}
}}
"""


@dataclass
class Pod:
    """A pod as its runtime knows it.

    Attributes:
        address: what the main CNI gave to its eth0.
        result: what the chain has answered so far: prevResult of the next call.
    """

    name: str
    namespace: Namespace
    address: str
    annotations: dict[str, str]
    container_id: str = field(default_factory=lambda: secrets.token_hex(32))
    result: dict[str, Any] = field(default_factory=dict)

    def addresses(self, interface: str) -> str:
        """What an interface has according to the result."""
        names = [one.get("name") for one in self.result.get("interfaces", [])]
        held = [
            one["address"]
            for one in self.result.get("ips", [])
            if interface in names and one.get("interface") == names.index(interface)
        ]
        return ", ".join(held) or "none"


class Network:
    """All of it; whatever was made is removed on exit."""

    def __init__(self) -> None:
        self.prefix = f"{PREFIX}-{os.getpid()}-{secrets.token_hex(2)}"
        self.namespaces: dict[str, Namespace] = {}
        self.pods: list[Pod] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:  # one that cannot be removed does not keep the others
            for namespace in self.namespaces.values():
                stack.callback(namespace.remove)

    def build(self) -> Iterator[None]:
        """Build it piece by piece, with a chance to stop after each."""
        for role in ("outside", "lan", "node"):
            self.namespaces[role] = Namespace(f"{self.prefix}-{role}")
            yield
        self._lay_lan()
        yield
        _require_macvlan(self.node)
        self._lay_pod_network()
        yield
        self._add_pod("egress", "10.88.0.2", ANNOTATIONS)
        yield
        self._add_pod("plain", "10.88.0.3", {})
        yield
        self._add_service()
        yield

    @property
    def outside(self) -> Namespace:
        """The host behind the router."""
        return self.namespaces["outside"]

    @property
    def lan(self) -> Namespace:
        """The switch and router."""
        return self.namespaces["lan"]

    @property
    def node(self) -> Namespace:
        """Where the plugin runs."""
        return self.namespaces["node"]

    def left(self) -> list[str]:
        """The names that are still there after the removal."""
        return sorted(one.name for one in self.namespaces.values() if os.path.exists(one.path))

    def facts(self) -> dict[str, HostFacts]:
        """What is in every namespace, by role."""
        return {role: namespace.facts() for role, namespace in self.namespaces.items()}

    def _lay_lan(self) -> None:
        add_bridge(self.lan, BRIDGE, f"{ROUTER}/24")
        plug("connect the node", self.lan, NODE_PORT, self.node, "eth0", bridge=BRIDGE)
        plug("connect the outside host", self.lan, "outside", self.outside, "eth0")
        add_address(self.lan, "outside", f"{_OUTSIDE_ROUTER}/24")
        add_address(self.outside, "eth0", f"{OUTSIDE}/24")
        add_address(self.node, "eth0", f"{NODE}/24")
        _route(self.outside, "default", _OUTSIDE_ROUTER)
        _route(self.node, "default", ROUTER)
        _route(self.lan, _PODS, NODE)
        for router in (self.lan, self.node):
            router.sysctl("net/ipv4/ip_forward", "1")

    def _lay_pod_network(self) -> None:
        add_bridge(self.node, POD_BRIDGE, f"{_PODS_ROUTER}/24")

    def _add_service(self) -> None:
        rules = _SERVICE_RULES.format(service=SERVICE, port=PORT, pod=self.pods[0].address)

        def install() -> None:
            with Nftables() as nftables:
                nftables.run(rules, "make a service")

        self.node.run(install)

    def _add_pod(self, name: str, address: str, annotations: dict[str, str]) -> None:
        """Do what the main CNI does, and note its result as it would answer."""
        namespace = Namespace(f"{self.prefix}-{name}")
        self.namespaces[f"pod {name}"] = namespace
        host_end = f"veth-{name}"
        plug(f"connect pod {name}", self.node, host_end, namespace, "eth0", bridge=POD_BRIDGE)
        add_address(namespace, "eth0", f"{address}/24")
        _route(namespace, "default", _PODS_ROUTER)
        pod = Pod(name, namespace, address, annotations)
        pod.result = {
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": host_end, "mac": mac(self.node.facts(), host_end)},
                {"name": "eth0", "mac": mac(namespace.facts(), "eth0"), "sandbox": namespace.path},
            ],
            "ips": [{"interface": 1, "address": f"{address}/24", "gateway": _PODS_ROUTER}],
            "routes": [{"dst": "0.0.0.0/0", "gw": _PODS_ROUTER}],
            "dns": {},
        }
        self.pods.append(pod)


def _route(namespace: Namespace, destination: str, gateway: str) -> None:
    namespace.configure(
        f"route {destination} via {gateway}",
        lambda ip: ip.route("add", dst=destination, gateway=gateway),
    )


def _require_macvlan(node: Namespace) -> None:
    """Make one and remove it, so that a kernel without macvlan is named before anything is shown."""

    def attempt(ip: Any) -> None:  # noqa: ANN401
        nic = index_of(ip, "eth0")
        ip.link("add", ifname="probe", kind="macvlan", link=nic, macvlan_mode="bridge")
        ip.link("del", index=index_of(ip, "probe"))

    try:
        node.configure("make a macvlan", attempt)
    except KernelError as error:
        raise CniError(
            MASTER_UNUSABLE,
            f"this kernel makes no macvlan ({os.strerror(error.number)}); run 'modprobe macvlan' on the "
            "host, or boot a kernel built with CONFIG_MACVLAN",
        ) from None
