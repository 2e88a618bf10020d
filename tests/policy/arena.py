"""Pods under a policy whose processes are root, and those who would hear them.

          node --------- LAN ------ router ------ outside: DENIED, FREE, and PORTED where only some ports may
        /  |  \\           |            |
calico   bridge  macvlan --+          host
of `shop`, the policy's namespace; beside each a pod of a namespace that has none
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from lab import ASSIGN, Lab, Namespace, Pod, source, within
from lab.attacker import token, udp
from lab.network import OUTSIDE4, OUTSIDE6, ROUTER4, ROUTER6
from lab.pod import HOST_END_MAC

from cni_macvlan_egress.kernel.nftables import Nftables

from .disguise import frame, version
from .documents import Policies, allow, deny

FAMILIES = (4, 6)
WAYS = ("calico", "bridge", "macvlan")  # those that have addresses
DENIED = {4: OUTSIDE4, 6: OUTSIDE6}
FREE = {4: "198.51.100.25", 6: "2001:db9:113::25"}
PORTED = {4: "198.51.100.80", 6: "2001:db9:113::80"}
OPEN_PORT, CLOSED_PORT = 443, 53
GROUPS = {4: ("224.0.0.251", "239.1.2.3", "255.255.255.255", "192.168.12.255"), 6: ("ff0e::4711",)}
ON_LAN = {4: "192.168.12.99", 6: "fd00:12::99"}
FREE_ON_LAN = {4: "192.168.12.98", 6: "fd00:12::98"}
SELF_CHOSEN = {4: "192.168.12.97", 6: "fd00:12::97"}  # by a pod that was given none
NEWCOMER = {4: "192.168.12.96", 6: "fd00:12::96"}
UNUSED = {4: "192.168.12.77", 6: "fd00:12::77"}
NODE = {4: "192.168.12.10", 6: "fd00:12::10"}
ROUTER = {4: ROUTER4, 6: ROUTER6}
SILENCE_SECONDS, PATIENCE_SECONDS = 0.03, 2.0
_ETH_P_ALL, _SO_RCVBUFFORCE, _SOL_PACKET = 3, 33, 263
_IGNORE_OUTGOING = 23

Act = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Way:
    """An interface of a pod, and what comes after it.

    Attributes:
        addresses: the pod's own.
        next_hop: MAC address of whoever forwards what the pod sends.
        first_hop: addresses of the same, to which no rule forbids to send.
        neighbour: MAC and addresses of an unpoliced pod's interface of the same kind.
        link: somebody who hears all broadcasts of the link; None where that is the node alone.
    """

    pod: Pod
    device: str
    mac: str
    addresses: dict[int, str]
    next_hop: str
    first_hop: dict[int, str]
    neighbour_mac: str
    neighbour: dict[int, str]
    link: Namespace | None

    def frame(self, packet: bytes, ethertype: int = 0) -> bytes:
        """A packet as this pod would send it."""
        return frame(self.mac, self.next_hop, packet, ethertype)

    def send(self, *frames: bytes, protocol: int | None = None) -> None:
        """Send frames as they are.

        Args:
            protocol: what the kernel is told that they are, instead of what stands in them.
        """
        with closing(self.pod.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
            sender.bind((self.device, 0))
            for one in frames:
                with unless_dropped():
                    if protocol is None:
                        sender.send(one)
                    else:
                        sender.sendto(one, (self.device, protocol))


class Arena:
    """All of it, made once for the tests of a module, which leave it as they found it."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.node, self.lan, self.outside = lab, lab.node, lab.lan, lab.outside
        self._let_everything_pass_but_for_the_policy()
        self.host = self.lan.host("192.168.12.50", "fd00:12::50")
        self.policies = Policies(self.node)
        self.write_policy()
        self.held, self.bridged = self._pod("calico", "shop"), self._pod("bridge", "shop")
        self.free, self.free_bridged = self._pod("calico", "free"), self._pod("bridge", "free")
        self._add(self.held, ON_LAN)
        self._add(self.free, FREE_ON_LAN)
        for pod in (self.bridged, self.free_bridged):
            self.policies.add(pod).ok()
        self.bare = self._pod("bridge", "shop")
        self.policies.add(self.bare, {ASSIGN: "true"}).ok()
        self.bare.ip(
            *(
                f"address add {SELF_CHOSEN[family]}/{24 if family == 4 else 64} dev macvlan0"
                for family in FAMILIES
            )
        )
        router = self.lan.mac("br0")
        bridge = {version(one): one.partition("/")[0] for one in self.node.addresses("cni0")}
        self.ways = {
            "calico": _way(self.held, "eth0", self.free, HOST_END_MAC, NODE, None),
            "bridge": _way(self.bridged, "eth0", self.free_bridged, self.node.mac("cni0"), bridge, self.free_bridged),
            "macvlan": Way(
                self.held, "macvlan0", self.held.mac("macvlan0"), ON_LAN, router, ROUTER,
                self.free.mac("macvlan0"), FREE_ON_LAN, self.host,
            ),
            "bare": Way(
                self.bare, "macvlan0", self.bare.mac("macvlan0"), SELF_CHOSEN, router, ROUTER,
                self.free.mac("macvlan0"), FREE_ON_LAN, self.host,
            ),
        }  # fmt: skip
        for family in FAMILIES:
            self.node.ip(f"neighbour replace {ROUTER[family]} lladdr {router} dev eth0")

    def newcomer(self, on: str) -> Way:
        """A pod like another one, whose network a test may ruin."""
        like = self.ways[on]
        pod = self._pod(like.pod.main, "shop")
        if on == "macvlan":
            self._add(pod, NEWCOMER)
        else:
            self.policies.add(pod).ok()
        addresses = NEWCOMER if on == "macvlan" else {4: pod.address, 6: pod.address6}
        return replace(like, pod=pod, mac=pod.mac(like.device), addresses=addresses)

    def write_policy(self) -> None:
        """What all the attacks are against."""
        rules = [
            allow(_whole(PORTED[family]), (protocol, OPEN_PORT))
            for family in FAMILIES
            for protocol in ("TCP", "UDP")
        ]
        rules += [deny(_whole(PORTED[family])) for family in FAMILIES]
        rules += [deny("203.0.113.0/24"), deny("2001:db8::/32")]
        rules += [deny(_whole(one)) for family in FAMILIES for one in GROUPS[family]]
        self.policies.write(*rules)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Without the policy: the table sleeps."""
        self._nft("add table netdev macvlan_egress { flags dormant; }")
        try:
            yield
        finally:
            self._nft("add table netdev macvlan_egress")

    def arrives(
        self, way: Way, act: Callable[[bytes], None], *, at: Namespace | None = None, expected: bool = False
    ) -> bool:
        """Whether a token that an act is to send out is seen on somebody's NIC, outside's as a rule.

        Args:
            expected: wait for it, instead of only until something has come that was sent later.
        """
        sent, last = token(), token()
        with closing(_ear(self.outside)) as barrier_ear, closing(_ear(at or self.outside)) as ear:
            act(sent)
            way.send(way.frame(udp(way.addresses[4], FREE[4], (1, 1), last)))
            assert _hears(barrier_ear, last, PATIENCE_SECONDS), "what no rule denies has not arrived"
            return _hears(ear, sent, PATIENCE_SECONDS if expected else SILENCE_SECONDS)

    def assert_held(self, way: Way, act: Callable[[bytes], None], *, at: Namespace | None = None) -> None:
        """An act does not get its token out, and it is the policy that stops it."""
        assert not self.arrives(way, act, at=at), "it gets out"
        with self.lifted():
            assert self.arrives(way, act, at=at, expected=True), (
                "it does not get out without the policy either"
            )

    def _nft(self, commands: str) -> None:
        def work() -> None:
            with Nftables() as nftables:
                nftables.run(commands, "let the policy sleep or wake")

        within(self.node.path, work)

    def _pod(self, main: str, namespace: str) -> Pod:
        pod = self.node.pod(main)
        pod.args = pod.args.replace("=shop;", f"={namespace};")
        return pod

    def _add(self, pod: Pod, addresses: dict[int, str]) -> None:
        wish = source(f"{addresses[4]}/24,{addresses[6]}/64", f"{ROUTER4},{ROUTER6}", routes="destinations")
        self.policies.add(pod, wish).ok()

    def _let_everything_pass_but_for_the_policy(self) -> None:
        """A network of routers without any suspicion, so that nothing else stops an attack."""
        self.outside.ip(
            *(f"address add {_whole(one[family])} dev eth0" for one in (FREE, PORTED) for family in FAMILIES)
        )
        self.lan.ip("route add 198.51.100.0/24 dev out0", "route add 2001:db9:113::/64 dev out0")
        outside = self.outside.mac()
        for one in (DENIED, FREE, PORTED):
            self.lan.ip(
                *(f"neighbour replace {one[family]} lladdr {outside} dev out0" for family in FAMILIES)
            )
        for router, devices in ((self.node, ("eth0",)), (self.lan, ("br0", "out0"))):
            for device in ("all", "default", *devices):
                router.sysctl(f"net/ipv4/conf/{device}/rp_filter", 0)
                router.sysctl(f"net/ipv4/conf/{device}/accept_source_route", 1)
                router.sysctl(f"net/ipv6/conf/{device}/seg6_enabled", 1)


@contextmanager
def unless_dropped() -> Iterator[None]:
    """A sender is told at once that a NIC's hook has dropped its frame."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise


def _way(
    pod: Pod, device: str, other: Pod, next_hop: str, first_hop: dict[int, str], link: Namespace | None
) -> Way:
    own, others = ({4: one.address, 6: one.address6} for one in (pod, other))
    return Way(pod, device, pod.mac(device), own, next_hop, first_hop, other.mac(device), others, link)


def _whole(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _ear(namespace: Namespace) -> socket.socket:
    ear = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
    ear.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
    ear.bind(("eth0", _ETH_P_ALL))
    return ear


def _hears(ear: socket.socket, wanted: bytes, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while select.select([ear], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if wanted in ear.recv(1 << 17):
            return True
    return False
