"""What a policy costs a packet: at the pod's veth, at the NIC for a macvlan, and for those whom no policy concerns.

Packets are UDP, sent as whole frames; veth, bridge, the node's routing and macvlan hand them on in the sender's own
system call, so that the time of sending is the time of the way. Plain pods are routed out through a NIC that nothing is
held at, so that their rows tell of the veth alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cni_macvlan_egress.admin.theatre.namespace import Namespace, plug
from cni_macvlan_egress.kernel.nftables import Nftables
from cni_macvlan_egress.model import keys

from . import calls, policy_documents
from .cluster import NIC, Cluster, inside
from .policy_node import PolicyNode
from .process import BenchmarkError, Sample
from .redirect import OUTSIDE, Server
from .report import Result, ratio
from .sampling import Contender, Series, interleave

FREE_NIC = "eth1"
_FREE_ADDRESS = "192.168.12.11/32"
_PORT = 9000
_PACKETS, _QUICK_PACKETS = 10_000, 50
_NONE = "none"


@dataclass(frozen=True)
class Way:
    """A way to the server.

    Attributes:
        group: whose first way is what the others are compared with.
        send: one frame.
    """

    group: str
    name: str
    send: Callable[[], object]


def measure(
    directory: str, sizes: Sequence[int], rounds: int, check: Callable[[], None], *, quick: bool
) -> Result:
    """Run it.

    Args:
        sizes: numbers of rules; the middle one is the one that is looked at more closely.

    Raises:
        BenchmarkError: something that was to be measured failed.
    """
    count = _QUICK_PACKETS if quick else _PACKETS
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        _lead_out(cluster)
        server = Server(cluster)
        stack.callback(server.close)
        node = PolicyNode(os.path.join(directory, "packets"))
        stack.enter_context(inside(cluster.node))
        ways = _Ways(cluster, node, stack, check).all(sizes)
        found = interleave([_contender(way, server, count) for way in ways], rounds, check)
    return _result(ways, found, count)


class _Ways:
    """Makes the pods, holds them by one sync, and knows a frame of each."""

    def __init__(
        self, cluster: Cluster, node: PolicyNode, stack: contextlib.ExitStack, check: Callable[[], None]
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._stack = stack
        self._check = check
        self._source = 99
        self._router = _mac(cluster.node, "cni0")
        self._lan = _mac(cluster.lan, "br0")

    def all(self, sizes: Sequence[int]) -> list[Way]:
        """Every way, in the order of the table."""
        middle = sizes[len(sizes) // 2]
        policies = {
            f"{size:,} rules": (f"rules-{size}", policy_documents.networks(OUTSIDE, size)) for size in sizes
        }
        policies |= {
            f"{middle:,} rules with ports, of as many addresses": (
                "ports-many",
                policy_documents.of_many_addresses(OUTSIDE, middle, _PORT),
            ),
            f"{middle:,} rules with ports, of one address": (
                "ports-one",
                policy_documents.of_one_address(OUTSIDE, middle, _PORT),
            ),
            f"{middle:,} rules about DNS names": (
                "names",
                policy_documents.names(OUTSIDE, middle, self._node.configuration),
            ),
        }
        ways = [self._plain("no policy", _NONE)]
        ways += [self._plain(name, namespace) for name, (namespace, _) in policies.items()]
        ways += [self._plain(f"by hand, {middle:,} rules, one each", _NONE, _one_each(middle))]
        ways += [self._plain(f"by hand, {middle:,} addresses in a set", _NONE, _one_set(middle))]
        ways += [
            self._macvlan("no policy on the NIC", _NONE, FREE_NIC),
            self._macvlan("no policy, beside one that has", _NONE, NIC),
            self._macvlan(f"{middle:,} rules", f"rules-{middle}", NIC),
            self._own("no policy on the NIC", FREE_NIC),
            self._own("a NIC with policies", NIC),
        ]
        for namespace, rules in policies.values():
            self._node.documents.write(namespace, rules)
        self._node.sync()
        return ways

    def _plain(self, name: str, namespace: str, commands: str = "") -> Way:
        self._check()
        pod = self._cluster.pod(f"plain{self._source}")
        self._source -= 1
        self._node.call("ADD", pod, namespace).run()
        if commands:
            device = pod.previous["interfaces"][1]["name"]
            with Nftables() as nftables:
                nftables.run(commands.format(device=device), "install rules by hand")
        address = str(pod.previous["ips"][0]["address"]).partition("/")[0]
        return self._way("plain pod", name, pod.namespace, NIC, self._router, address)

    def _macvlan(self, name: str, namespace: str, nic: str) -> Way:
        self._check()
        pod = self._cluster.pod(f"macvlan{self._source}")
        where = calls.near(self._source)
        self._source -= 1
        annotations = {**calls.source(where), keys.ASSIGN: nic}
        self._node.call("ADD", pod, namespace, annotations).run()
        return self._way(
            "macvlan", name, pod.namespace, "macvlan0", self._lan, where.address.partition("/")[0]
        )

    def _own(self, name: str, nic: str) -> Way:
        return self._way("node's own", name, self._cluster.node, nic, self._lan, "192.168.12.10")

    def _way(
        self, group: str, name: str, namespace: Namespace, interface: str, to: bytes, address: str
    ) -> Way:
        raw = self._stack.enter_context(
            namespace.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        )
        raw.bind((interface, 0))
        frame = to + _mac(namespace, interface) + b"\x08\x00" + _packet(address)
        return Way(group, name, lambda: raw.send(frame))


def _lead_out(cluster: Cluster) -> None:
    """Make the node route its pods' packets to the server, through a second NIC."""
    cluster.lan.configure(
        "give the LAN's host another address",
        lambda ip: ip.addr("add", index=ip.link_lookup(ifname="br0")[0], address=OUTSIDE, prefixlen=32),
    )
    cluster.lan.configure(
        "route to the pods", lambda ip: ip.route("add", dst="10.88.0.0/16", gateway="192.168.12.10")
    )
    plug("connect the node again", cluster.lan, "node2", cluster.node, FREE_NIC, bridge="br0")
    address, _, length = _FREE_ADDRESS.partition("/")

    def route(ip: object) -> None:
        index = ip.link_lookup(ifname=FREE_NIC)[0]  # type: ignore[attr-defined]
        ip.addr("add", index=index, address=address, prefixlen=int(length))  # type: ignore[attr-defined]
        ip.route("add", dst=f"{OUTSIDE}/32", oif=index, scope="link")  # type: ignore[attr-defined]

    cluster.node.configure("route to the server", route)
    cluster.node.sysctl("net/ipv4/ip_forward", "1")
    # A bridge has the least of its ports' MAC addresses until it is told to keep one.
    for namespace, bridge in ((cluster.node, "cni0"), (cluster.lan, "br0")):
        mac = _mac(namespace, bridge).hex(":")
        namespace.configure(
            "keep the bridge's MAC address",
            lambda ip, bridge=bridge, mac=mac: ip.link(  # type: ignore[misc]
                "set", index=ip.link_lookup(ifname=bridge)[0], address=mac
            ),
        )


def _one_each(count: int) -> str:
    """A chain that walks through a rule for each address."""
    rules = "\n".join(f"ip daddr {one} accept" for one in policy_documents.others(count - 2))
    return _by_hand("byhandrules", "", f"{rules}\nip daddr {OUTSIDE} accept\nip daddr 0.0.0.0/0 drop")


def _one_set(count: int) -> str:
    """The least that lets the same addresses pass: a set of them, and no intervals."""
    elements = ", ".join(map(str, (*policy_documents.others(count - 2), OUTSIDE)))
    allowed = f"set allowed {{{{ type ipv4_addr; elements = {{{{ {elements} }}}} }}}}"
    return _by_hand("byhandset", allowed, "ip daddr @allowed accept\nip daddr 0.0.0.0/0 drop")


def _by_hand(table: str, before: str, rules: str) -> str:
    """The device's name is left open, as `{device}`."""
    return (
        f"table netdev {table} {{{{\n{before}\n chain pod {{{{\n"
        f'type filter hook ingress device "{{device}}" priority filter\n{rules}\n}}}}\n}}}}\n'
    )


def _packet(address: str) -> bytes:
    payload = struct.pack("!HHHH", 1024, _PORT, 8, 0)  # no checksum (RFC 768)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0x4000, 64, socket.IPPROTO_UDP, 0)
    addresses = socket.inet_aton(address) + socket.inet_aton(OUTSIDE)
    total = sum(struct.unpack("!10H", header + addresses))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~total & 0xFFFF) + addresses + payload


def _mac(namespace: Namespace, interface: str) -> bytes:
    link = namespace.facts().link(interface)
    assert link is not None
    return bytes.fromhex(link.mac.replace(":", ""))


def _contender(way: Way, server: Server, count: int) -> Contender:
    def take() -> Sample:
        before = server.arrived()
        send = way.send
        start, cpu = time.perf_counter_ns(), time.process_time_ns()
        for _ in range(count):
            send()
        sample = Sample((time.perf_counter_ns() - start) / 1e6, (time.process_time_ns() - cpu) / 1e6)
        deadline = time.monotonic() + 5
        while (got := server.arrived() - before) < count:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{way.group}, {way.name}: only {got} of {count} packets arrived")
            time.sleep(0.001)
        return sample

    return Contender(f"{way.group}: {way.name}", take)


def _result(ways: Sequence[Way], found: dict[str, Series], count: int) -> Result:
    bases = {way.group: f"{way.group}: {way.name}" for way in reversed(ways)}

    def row(way: Way) -> tuple[str, ...]:
        name = f"{way.group}: {way.name}"
        mine, base = found[name].median, found[bases[way.group]].median
        each = (mine * 1e6 / count, (mine - base) * 1e6 / count)
        return (name, f"{count / mine:.1f}", f"{each[0]:.0f}", f"{each[1]:+.0f}", ratio(base, mine))

    return Result(
        ("packets", "packets/ms", "ns each", "ns more", "× without"),
        [row(way) for way in ways],
        (
            f"A sample is {count} packets. Plain pods are routed by the node; what leaves by a macvlan, and what the "
            "node sends itself, goes from the packet socket straight to the NIC, so that the same nanoseconds are a "
            "larger part of it.",
        ),
    )
