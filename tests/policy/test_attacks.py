"""A pod whose processes are root wants to where its policy does not let it.

Each attack is shown to work while the policy's table sleeps, by the same pod and the same packets: it is the policy
that stops it, and not the lab.
"""

from __future__ import annotations

import fcntl
import ipaddress
import mmap
import os
import secrets
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest
from lab import Namespace, within
from lab.attacker import ACK, PSH, SYN, Process, tcp, token
from lab.needed import made_lab

from . import disguise
from .arena import (
    CLOSED_PORT,
    DENIED,
    FAMILIES,
    FREE,
    GROUPS,
    NODE,
    ON_LAN,
    OPEN_PORT,
    PORTED,
    ROUTER,
    UNUSED,
    WAYS,
    Arena,
    Way,
    unless_dropped,
)
from .disguise import (
    AH,
    DESTINATION_OPTIONS,
    ESP,
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_ARP,
    ETH_P_IP,
    ETH_P_IPV6,
    FRAGMENT,
    GRE,
    HOP_BY_HOP,
    IN6,
    IPIP,
    LOOSE,
    MOBILITY,
    MORE_FRAGMENTS,
    NO_OPERATION,
    RECORD_ROUTE,
    ROUTING,
    SCTP,
    STRICT,
    TIMESTAMP,
    UDP,
    Form,
    datagram,
)
from .documents import deny

# <linux/if_packet.h>, <linux/virtio_net.h>
SOL_PACKET, PACKET_VERSION, PACKET_TX_RING, PACKET_VNET_HDR = 263, 10, 13, 15
TPACKET_V2, TP_STATUS_SEND_REQUEST, TPACKET2_DATA = 1, 1, 32
NEEDS_CHECKSUM, GSO_TCPV4, GSO_TCPV6 = 1, 1, 4
# <linux/if_tun.h>
TUNSETIFF, IFF_TUN = 0x400454CA, 1
FORWARDING = """
table netdev forward {{
    chain c {{
        type filter hook {hook} device tun0 priority 0; policy accept;
        fwd to {device}
    }}
}}
"""
FORGING = """
table netdev forge {{
    chain c {{
        type filter hook egress device {device} priority 0; policy accept;
        ether daddr != ff:ff:ff:ff:ff:ff udp dport 4711 ether saddr set {mac}
    }}
}}
"""
ASSIGNED_LATER = "192.168.12.66"

every_way = pytest.mark.parametrize("on", WAYS)
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def arena(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with made_lab(bin_dir, tmp_path_factory) as lab:
        yield Arena(lab)


def sending(way: Way, form: Form, source: str, destination: str) -> Callable[[bytes], None]:
    """To send a packet of some form in a frame that is in order."""
    return lambda sent: way.send(way.frame(form(source, destination, sent)))


def emitting(way: Way, family: int, destination: str) -> Callable[[bytes], None]:
    """To send a datagram as programs do, by the pod's own stack."""
    process = Process(way.pod, way.addresses[family], way.device)
    return lambda sent: process.emits(sent, (destination, 4711))


# -- the pod's own network


@contextmanager
def undone(*undo: Callable[[], object]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in undo:
            stack.callback(one)
        yield


@every_way
def test_pod_that_flushes_all_its_own_rules_and_settings_is_held(arena: Arena, on: str) -> None:
    way = arena.newcomer(on)
    pod, device = way.pod, way.device
    pod.run("nft", "flush ruleset")
    for family in FAMILIES:
        for what in ("rule flush", "rule add lookup main", "route flush table all"):
            pod.run("ip", f"-{family}", *what.split(), check=False)
        for setting in ("rp_filter", "arp_ignore", "arp_filter", "accept_dad", "accept_ra", "disable_policy"):
            for name in ("all", device):
                with suppress(FileNotFoundError):
                    pod.sysctl(f"net/ipv{family}/conf/{name}/{setting}", 0)
    for family in FAMILIES:
        length = 128 if family == 6 else 32
        pod.ip(
            f"address replace {way.addresses[family]}/{length} dev {device} {'nodad' if family == 6 else ''}",
            f"-{family} route replace local {way.addresses[family]} dev lo table local",
            f"neighbour replace {way.first_hop[family]} lladdr {way.next_hop} dev {device}",
            f"-{family} route replace default via {way.first_hop[family]} dev {device} onlink",
        )
        arena.assert_held(way, emitting(way, family, DENIED[family]))
        assert arena.arrives(way, emitting(way, family, FREE[family]), expected=True)


@every_family
@every_way
def test_pod_that_changes_its_mac_address_is_held(arena: Arena, on: str, family: int) -> None:
    way = arena.ways[on]
    new = disguise.random_mac()
    way.pod.ip(f"link set {way.device} address {new}")
    with undone(lambda: way.pod.ip(f"link set {way.device} address {way.mac}")):
        assert way.pod.mac(way.device) == new
        for destination in (DENIED[family], FREE[family]):
            arena.assert_held(
                way,
                lambda sent, to=destination: way.send(
                    disguise.frame(new, way.next_hop, datagram(way.addresses[family], to, sent))
                ),
            )


@every_family
@every_way
@pytest.mark.parametrize("whose", ["nobody's", "another pod's", "the node's", "its other interface's"])
def test_pod_that_adds_an_address_cannot_send_from_it(arena: Arena, on: str, whose: str, family: int) -> None:
    way = arena.ways[on]
    other = arena.ways["calico" if on == "macvlan" else "macvlan"].addresses
    new = {
        "nobody's": UNUSED,
        "another pod's": way.neighbour,
        "the node's": NODE,
        "its other interface's": other,
    }[whose][family]
    length = 128 if family == 6 else 32
    present = any(one.startswith(f"{new}/") for one in way.pod.addresses(way.device))
    assert not present
    way.pod.ip(f"address add {new}/{length} dev {way.device} {'nodad' if family == 6 else ''}")
    with undone(lambda: way.pod.ip(f"address del {new}/{length} dev {way.device}")):
        for destination in (DENIED[family], FREE[family]):
            act = sending(way, datagram, new, destination)
            if whose == "the node's" and family == 4 and on != "macvlan":
                # The node takes nothing from its own address anyway.
                assert not arena.arrives(way, act)
                continue
            arena.assert_held(way, act)


@every_family
@every_way
def test_route_over_any_interface_leads_no_further(arena: Arena, on: str, family: int) -> None:
    way = arena.ways[on]
    via = {"calico": "169.254.1.1", "bridge": way.first_hop[4], "macvlan": ROUTER[4]}[on]
    if family == 6:
        (default,) = [
            one for one in way.pod.routes(family=6) if one["dst"] == "default" and one["dev"] == "eth0"
        ]
        via = default["gateway"] if on != "macvlan" else ROUTER[6]
    length = 128 if family == 6 else 32
    way.pod.ip(f"route replace {DENIED[family]}/{length} via {via} dev {way.device} onlink")
    process = Process(way.pod, way.addresses[family])
    with undone(lambda: way.pod.ip(f"route del {DENIED[family]}/{length} dev {way.device}")):
        arena.assert_held(way, lambda sent: process.emits(sent, (DENIED[family], 4711)))
        assert not process.connects(arena.outside, DENIED[family], 0.1)


# -- frames from packet sockets


@every_family
@every_way
@pytest.mark.parametrize("whose", ["nobody's", "an unpoliced pod's", "the next hop's", "the node's NIC's"])
@pytest.mark.parametrize("source", ["its own address", "an unpoliced pod's address"])
def test_forged_mac_address_does_not_help(
    arena: Arena, on: str, source: str, whose: str, family: int
) -> None:
    """Answers to its own address would come to the pod: with that one it could hold conversations."""
    way = arena.ways[on]
    mac = {
        "nobody's": disguise.random_mac(),
        "an unpoliced pod's": way.neighbour_mac,
        "the next hop's": way.next_hop,
        "the node's NIC's": arena.node.mac(),
    }[whose]
    address = (way.addresses if source == "its own address" else way.neighbour)[family]

    def act(sent: bytes) -> None:
        way.send(disguise.frame(mac, way.next_hop, datagram(address, DENIED[family], sent)))

    if on == "macvlan" and source != "its own address" and whose == "an unpoliced pod's":
        # Nothing tells whose frame it is; answers go to the true holder of both (docs/policies.md, "Limits").
        assert arena.arrives(way, act)
        return
    if on != "calico" and whose == "the next hop's":
        # A bridge takes no frame that bears its own address.
        assert not arena.arrives(way, act)
        return
    arena.assert_held(way, act)


@every_family
@every_way
@pytest.mark.parametrize("whose", ["nobody's", "an unpoliced pod's", "the node's", "the receiver's"])
def test_forged_address_does_not_help(arena: Arena, on: str, whose: str, family: int) -> None:
    way = arena.ways[on]
    source = {
        "nobody's": UNUSED,
        "an unpoliced pod's": way.neighbour,
        "the node's": {4: "192.168.12.11", 6: "fd00:12::11"},
        "the receiver's": {4: "203.0.113.99", 6: "2001:db8:113::99"},
    }[whose][family]
    for destination in (DENIED[family], FREE[family]):
        arena.assert_held(way, sending(way, datagram, source, destination))


@every_family
@pytest.mark.parametrize("whose", ["an unpoliced pod's", "the node's NIC's"])
@pytest.mark.parametrize("source", ["its own address", "another address"])
def test_mac_address_that_the_pods_own_rules_forge_does_not_help(
    arena: Arena, source: str, whose: str, family: int
) -> None:
    """Under it goes what has a socket and a route, as the node's own packets have."""
    way = arena.ways["macvlan"]
    mac = way.neighbour_mac if whose == "an unpoliced pod's" else arena.node.mac()
    address = (way.addresses if source == "its own address" else UNUSED)[family]
    length = 128 if family == 6 else 32
    pod = way.pod
    undo = [
        lambda: pod.run("nft", "delete table netdev forge"),
        lambda: pod.ip(f"route del {DENIED[family]}"),
    ]
    pod.run("nft", "-f", "-", stdin=FORGING.format(device=way.device, mac=mac))
    pod.ip(f"route add {DENIED[family]}/{length} via {ROUTER[family]} dev macvlan0 onlink")
    if source != "its own address":
        pod.ip(f"address add {address}/{length} dev macvlan0 {'nodad' if family == 6 else ''}")
        undo.append(lambda: pod.ip(f"address del {address}/{length} dev macvlan0"))
    with undone(*undo):
        process = Process(pod, address, "macvlan0")
        arena.assert_held(way, lambda sent: process.emits(sent, (DENIED[family], 4711)))


PRIORITY = {  # what a host without VLANs takes for untagged
    "802.1Q": ((ETH_P_8021Q, 0),),
    "802.1Q with priority": ((ETH_P_8021Q, 0xE000),),
    "802.1ad": ((ETH_P_8021AD, 0),),
    "802.1ad and 802.1Q": ((ETH_P_8021AD, 0), (ETH_P_8021Q, 0)),
    "twice 802.1Q": ((ETH_P_8021Q, 0), (ETH_P_8021Q, 0)),
}


@every_family
@every_way
@pytest.mark.parametrize("tags", PRIORITY)
def test_priority_tags_hide_nothing(arena: Arena, on: str, tags: str, family: int) -> None:
    way = arena.ways[on]

    def act(sent: bytes) -> None:
        plain = way.frame(datagram(way.addresses[family], DENIED[family], sent))
        way.send(disguise.tagged(plain, *PRIORITY[tags]))

    arena.assert_held(way, act)


FOREIGN: dict[str, Callable[[bytes], bytes]] = {
    "802.1Q": lambda plain: disguise.tagged(plain, (ETH_P_8021Q, 5)),
    "802.1ad": lambda plain: disguise.tagged(plain, (ETH_P_8021AD, 5)),
    "802.1ad and 802.1Q": lambda plain: disguise.tagged(plain, (ETH_P_8021AD, 5), (ETH_P_8021Q, 6)),
    "MPLS": disguise.labelled,
    "PPPoE": disguise.in_session,
    "LLC and SNAP": disguise.encapsulated,
    "an experiment": lambda plain: plain[:12] + b"\x88\xb5" + plain[14:],
    "ARP": lambda plain: plain[:12] + b"\x08\x06" + plain[14:],
}


@every_family
@pytest.mark.parametrize("on", ["bridge", "macvlan"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_frames_of_other_kinds_do_not_leave(arena: Arena, on: str, kind: str, family: int) -> None:
    """Neither to somebody on the link, who might unpack them."""
    way = arena.ways[on]

    def act(sent: bytes) -> None:
        plain = disguise.frame(
            way.mac, "ff:ff:ff:ff:ff:ff", datagram(way.addresses[family], DENIED[family], sent)
        )
        way.send(FOREIGN[kind](plain))

    arena.assert_held(way, act, at=way.link)


@every_family
@every_way
@pytest.mark.parametrize(
    "said", [ETH_P_ARP, ETH_P_8021Q, ETH_P_8021AD, ETH_P_IP, ETH_P_IPV6, 0x8847, 0x0003, 0x0001, 0x0004]
)
def test_sender_cannot_lie_about_what_a_frame_is(arena: Arena, on: str, said: int, family: int) -> None:
    way = arena.ways[on]

    def act(sent: bytes) -> None:
        plain = way.frame(datagram(way.addresses[family], DENIED[family], sent))
        if said in (ETH_P_8021Q, ETH_P_8021AD):
            plain += bytes(8)
        way.send(plain, protocol=said)

    arena.assert_held(way, act)


@every_way
@pytest.mark.parametrize("said", [ETH_P_ARP, ETH_P_8021Q, 0x88B5])
def test_datagram_packet_socket_cannot_lie_either(arena: Arena, on: str, said: int) -> None:
    """The type it says stands in the frame as well: nobody takes that for IP, and it does not leave at all."""
    way = arena.ways[on]
    if way.link is None:
        pytest.skip("nobody but the node hears this link")

    def act(sent: bytes) -> None:
        with closing(way.pod.socket(socket.AF_PACKET, socket.SOCK_DGRAM)) as sender:
            packet = datagram(way.addresses[4], DENIED[4], sent)
            with unless_dropped():
                sender.sendto(packet, (way.device, said, 0, 0, b"\xff" * 6))

    arena.assert_held(way, act, at=way.link)


@every_family
@every_way
def test_datagram_packet_socket_is_held(arena: Arena, on: str, family: int) -> None:
    way = arena.ways[on]

    def act(sent: bytes) -> None:
        with closing(way.pod.socket(socket.AF_PACKET, socket.SOCK_DGRAM)) as sender:
            packet = datagram(way.addresses[family], DENIED[family], sent)
            protocol = ETH_P_IPV6 if family == 6 else ETH_P_IP
            to = bytes.fromhex(way.next_hop.replace(":", ""))
            with unless_dropped():
                sender.sendto(packet, (way.device, protocol, 0, 0, to))

    arena.assert_held(way, act)


@every_family
@every_way
def test_ring_of_frames_is_held(arena: Arena, on: str, family: int) -> None:
    way = arena.ways[on]

    def act(sent: bytes) -> None:
        data = way.frame(datagram(way.addresses[family], DENIED[family], sent))
        with closing(way.pod.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
            sender.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
            sender.setsockopt(SOL_PACKET, PACKET_TX_RING, struct.pack("IIII", 4096, 1, 2048, 2))
            sender.bind((way.device, 0))
            with mmap.mmap(sender.fileno(), 4096) as ring:
                ring[TPACKET2_DATA : TPACKET2_DATA + len(data)] = data
                ring[4:8] = struct.pack("I", len(data))
                ring[0:4] = struct.pack("I", TP_STATUS_SEND_REQUEST)
                with unless_dropped():
                    sender.send(b"")

    arena.assert_held(way, act)


@every_family
@every_way
def test_large_frame_for_the_kernel_to_cut_is_held(arena: Arena, on: str, family: int) -> None:
    way = arena.ways[on]

    def act(sent: bytes) -> None:
        packet = tcp(
            way.addresses[family], DENIED[family], (40_000, 80), ACK | PSH, payload=sent + bytes(4000)
        )
        start = 14 + (40 if family == 6 else 20)
        kind = GSO_TCPV6 if family == 6 else GSO_TCPV4
        head = struct.pack("<BBHHHH", NEEDS_CHECKSUM, kind, start + 20, 1000, start, 16)
        with closing(way.pod.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
            sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            sender.bind((way.device, 0))
            with unless_dropped():
                sender.send(head + way.frame(packet))

    arena.assert_held(way, act)


@every_family
@pytest.mark.parametrize("on", [*WAYS, "bare"])
@pytest.mark.parametrize("hook", ["ingress", "egress"])
def test_packet_of_a_tunnel_that_is_sent_as_a_frame_is_held(
    arena: Arena, on: str, hook: str, family: int
) -> None:
    """What comes from an interface without frames has its network header where a frame begins."""
    way = arena.ways[on]
    pod, ethertype = way.pod, ETH_P_IPV6 if family == 6 else ETH_P_IP
    with closing_handle(tunnel(pod, "tun0")) as handle:
        pod.ip("link set tun0 up")
        pod.run("nft", "-f", "-", stdin=FORWARDING.format(hook=hook, device=way.device))

        def act(sent: bytes) -> None:
            # As a header that begins with the frame it would be addressed to the middle of this source.
            source = "198.51.100.7" if family == 4 else "fd00:1:2:3:4:5:6:7"
            for own in (source, way.addresses[family]):
                data = way.frame(datagram(own, DENIED[family], sent))
                if hook == "ingress":
                    os.write(handle, struct.pack("!HH", 0, ethertype) + data)
                    continue
                with closing(pod.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender, unless_dropped():
                    sender.sendto(data, ("tun0", ethertype))

        with undone(lambda: pod.run("nft", "delete table netdev forward")):
            arena.assert_held(way, act)


@contextmanager
def closing_handle(handle: int) -> Iterator[int]:
    try:
        yield handle
    finally:
        os.close(handle)


def tunnel(namespace: Namespace, name: str) -> int:
    """A TUN interface, and the handle at which packets can be handed in."""

    def make() -> int:
        handle = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN))
        return handle

    return within(namespace.path, make)


# -- IP


OPTIONS = {
    "none but padding": bytes((NO_OPERATION,)) * 4,
    "recorded route": bytes((RECORD_ROUTE, 7, 4, 0, 0, 0, 0)),
    "time stamps": bytes((TIMESTAMP, 8, 5, 0, 0, 0, 0, 0)),
    "router alert": bytes((148, 4, 0, 0)),
}


@every_way
@pytest.mark.parametrize("options", OPTIONS)
def test_options_hide_no_destination(arena: Arena, on: str, options: str) -> None:
    way = arena.ways[on]
    arena.assert_held(way, sending(way, disguise.with_options(OPTIONS[options]), way.addresses[4], DENIED[4]))


SOURCE_ROUTES: dict[str, Callable[[str], bytes]] = {
    "loose": lambda last: disguise.source_route(LOOSE, last),
    "strict": lambda last: disguise.source_route(STRICT, last),
    "after padding": lambda last: bytes((NO_OPERATION,)) * 3 + disguise.source_route(LOOSE, last),
    "after another option": lambda last: (
        bytes((RECORD_ROUTE, 7, 4, 0, 0, 0, 0)) + disguise.source_route(LOOSE, last)
    ),
    "loose, begun already": lambda last: disguise.source_route(LOOSE, "192.0.2.1", last, pointer=8),
    "strict, begun already": lambda last: disguise.source_route(STRICT, "192.0.2.1", last, pointer=8),
    "with two stops": lambda last: disguise.source_route(LOOSE, last, last),
}


@every_way
@pytest.mark.parametrize("kind", SOURCE_ROUTES)
def test_source_route_by_an_allowed_address_leads_nowhere(arena: Arena, on: str, kind: str) -> None:
    way = arena.ways[on]
    first = way.first_hop[4]
    form = disguise.with_options(SOURCE_ROUTES[kind](DENIED[4]))
    if on != "macvlan" and "strict" in kind:
        # The node hands on only what is for its neighbours then.
        assert not arena.arrives(way, sending(way, form, way.addresses[4], first))
        return
    arena.assert_held(way, sending(way, form, way.addresses[4], first))


@every_way
def test_segment_routing_by_an_allowed_address_leads_nowhere(arena: Arena, on: str) -> None:
    way = arena.ways[on]
    first = way.first_hop[6]
    device = {"calico": "all", "bridge": "cni0", "macvlan": "br0"}[on]
    router = arena.lan if on == "macvlan" else arena.node
    if on == "calico":
        device = str(way.pod.previous["interfaces"][0]["name"])
    router.sysctl(f"net/ipv6/conf/{device}/seg6_enabled", 1)
    form = disguise.chained(
        (ROUTING, lambda following: disguise.routing_header(following, 4, DENIED[6], first))
    )
    arena.assert_held(way, sending(way, form, way.addresses[6], first))


@every_way
@pytest.mark.parametrize("kind", [0, 2, 3, 4])
@pytest.mark.parametrize("before", ["alone", "options", "fragment", "authentication", "long chain"])
def test_routing_header_does_not_pass_to_an_allowed_address(
    arena: Arena, on: str, kind: int, before: str
) -> None:
    """Whoever has the address might send it on."""
    way = arena.ways[on]
    route = (ROUTING, lambda following: disguise.routing_header(following, kind, DENIED[6]))
    head = {
        "alone": [],
        "options": [(HOP_BY_HOP, disguise.padding_options), (DESTINATION_OPTIONS, disguise.padding_options)],
        "fragment": [(FRAGMENT, lambda following: disguise.fragment_header(following, more=True))],
        "authentication": [(AH, lambda following: struct.pack("!BBHIII", following, 2, 0, 1, 1, 0))],
        "long chain": [(DESTINATION_OPTIONS, lambda following: disguise.padding_options(following, 10))] * 10,
    }[before]
    arena.assert_held(way, sending(way, disguise.chained(*head, route), way.addresses[6], FREE[6]))


CHAINS: dict[str, Form] = {
    "hop-by-hop options": disguise.chained((HOP_BY_HOP, disguise.padding_options)),
    "destination options": disguise.chained((DESTINATION_OPTIONS, disguise.padding_options)),
    "whole in a fragment": disguise.chained((FRAGMENT, disguise.fragment_header)),
    "first fragment": disguise.chained((FRAGMENT, lambda one: disguise.fragment_header(one, more=True))),
    "later fragment": disguise.chained((FRAGMENT, lambda one: disguise.fragment_header(one, 8))),
    "mobility": disguise.chained((MOBILITY, disguise.padding_options)),
    "twelve headers": disguise.chained(
        *[(DESTINATION_OPTIONS, lambda one: disguise.padding_options(one, 1))] * 12
    ),
    "nothing next": lambda source, destination, sent: disguise.ipv6(source, destination, 59, sent),
}


@every_way
@pytest.mark.parametrize("chain", CHAINS)
def test_extension_headers_hide_no_destination(arena: Arena, on: str, chain: str) -> None:
    way = arena.ways[on]
    arena.assert_held(way, sending(way, CHAINS[chain], way.addresses[6], DENIED[6]))
    assert arena.arrives(way, sending(way, CHAINS[chain], way.addresses[6], FREE[6]), expected=True)


FRAGMENTS = {
    "first": disguise.fragment4(0, more=True),
    "later": disguise.fragment4(8, more=True),
    "last": disguise.fragment4(16, more=False),
    "overlapping": disguise.fragment4(1, more=True),
}


@every_way
@pytest.mark.parametrize("part", FRAGMENTS)
def test_fragments_hide_no_destination(arena: Arena, on: str, part: str) -> None:
    way = arena.ways[on]
    arena.assert_held(way, sending(way, FRAGMENTS[part], way.addresses[4], DENIED[4]))
    assert arena.arrives(way, sending(way, FRAGMENTS[part], way.addresses[4], FREE[4]), expected=True)


CARRIED = {"SCTP": SCTP, "GRE": GRE, "IPIP": IPIP, "IPv6": IN6, "ESP": ESP, "AH": AH, "an experiment": 253}


@every_family
@every_way
@pytest.mark.parametrize("protocol", CARRIED)
def test_tunnel_to_a_denied_address_is_denied_and_to_another_is_not(
    arena: Arena, on: str, protocol: str, family: int
) -> None:
    way = arena.ways[on]
    form = disguise.carried(CARRIED[protocol])
    arena.assert_held(way, sending(way, form, way.addresses[family], DENIED[family]))
    assert arena.arrives(way, sending(way, form, way.addresses[family], FREE[family]), expected=True)


# -- ports


def parts(source: str, destination: str, sent: bytes, port: int, first: int) -> list[bytes]:
    """A datagram in two fragments, the first one of so many bytes."""
    content, number = disguise.body(source, destination, sent, port), secrets.randbits(16)
    packets = []
    for at, piece, more in ((0, content[:first], True), (first // 8, content[first:], False)):
        if ":" in source:
            header = disguise.fragment_header(UDP, at, more=more, identifier=number)
            packets.append(disguise.ipv6(source, destination, FRAGMENT, header + piece))
        else:
            field = at | (MORE_FRAGMENTS if more else 0)
            packets.append(disguise.ipv4(source, destination, UDP, piece, fragment=field, identifier=number))
    return packets


@every_family
@every_way
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_closed_port_of_an_address_with_open_ones_is_held(
    arena: Arena, on: str, protocol: str, family: int
) -> None:
    way = arena.ways[on]

    def act(port: int) -> Callable[[bytes], None]:
        def form(source: str, destination: str, sent: bytes) -> bytes:
            if protocol == "udp":
                return datagram(source, destination, sent, port)
            return tcp(source, destination, (40_000, port), SYN, payload=sent)

        return sending(way, form, way.addresses[family], PORTED[family])

    arena.assert_held(way, act(CLOSED_PORT))
    assert arena.arrives(way, act(OPEN_PORT), expected=True)


@every_family
@every_way
@pytest.mark.parametrize("first", [8, 16])
@pytest.mark.parametrize("order", ["in order", "reversed"])
def test_fragments_to_a_closed_port_are_not_put_together(
    arena: Arena, on: str, order: str, first: int, family: int
) -> None:
    """Later fragments pass where an address has open ports, and come to nothing."""
    way = arena.ways[on]

    def delivered(port: int, seconds: float) -> bool:
        sent = token()
        packets = parts(way.addresses[family], PORTED[family], sent, port, first)
        if order == "reversed":
            packets.reverse()
        with closing(
            arena.outside.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        ) as server:
            server.bind((PORTED[family], port))
            server.settimeout(seconds)
            way.send(*map(way.frame, packets))
            with suppress(TimeoutError):
                return sent in server.recv(4096)
        return False

    assert not delivered(CLOSED_PORT, 0.05)
    assert delivered(OPEN_PORT, 2)
    with arena.lifted():
        assert delivered(CLOSED_PORT, 2)


@every_family
@every_way
def test_first_fragment_of_a_closed_port_does_not_arrive_after_others_either(
    arena: Arena, on: str, family: int
) -> None:
    way = arena.ways[on]
    source, destination = way.addresses[family], PORTED[family]

    def act(sent: bytes) -> None:
        opened = parts(source, destination, bytes(64), OPEN_PORT, 32)
        closed = parts(source, destination, sent * 4, CLOSED_PORT, 64)[0]
        way.send(*map(way.frame, (opened[0], closed, opened[1], closed)))

    arena.assert_held(way, act)


@every_way
def test_first_fragment_without_ports_does_not_arrive(arena: Arena, on: str) -> None:
    """IPv6 options may fill it, so that the ports come later (RFC 7112)."""
    way = arena.ways[on]

    def form(source: str, destination: str, sent: bytes) -> bytes:
        options = struct.pack("!BBBB", UDP, (2 + 2 + len(sent)) // 8, 1, len(sent)) + sent
        options += b"\1\2\0\0"[: -len(options) % 8]
        header = disguise.fragment_header(DESTINATION_OPTIONS, more=True)
        return disguise.ipv6(source, destination, FRAGMENT, header + options)

    arena.assert_held(way, sending(way, form, way.addresses[6], PORTED[6]))


@every_way
@pytest.mark.parametrize(
    "chain", ["hop-by-hop options", "destination options", "whole in a fragment", "twelve headers"]
)
def test_extension_headers_hide_no_port(arena: Arena, on: str, chain: str) -> None:
    way = arena.ways[on]
    arena.assert_held(way, sending(way, CHAINS[chain], way.addresses[6], PORTED[6]))


@every_way
def test_options_hide_no_port(arena: Arena, on: str) -> None:
    way = arena.ways[on]
    form = disguise.with_options(OPTIONS["time stamps"])
    arena.assert_held(way, sending(way, form, way.addresses[4], PORTED[4]))


# -- interfaces that the pod makes


@every_family
@pytest.mark.parametrize(
    "kind", ["macvlan mode bridge", "macvlan mode private", "macvlan mode vepa", "macvtap mode vepa"]
)
def test_interface_made_on_top_of_the_macvlan_is_held(arena: Arena, kind: str, family: int) -> None:
    """In a namespace of its own, as a container in the container would have it."""
    way = arena.ways["macvlan"]
    name, _, options = kind.partition(" ")
    with nested(arena) as inner:
        way.pod.ip(f"link add link macvlan0 name inner0 type {name} {options}")
        way.pod.ip(f"link set inner0 netns {inner.name}")
        mac = inner.mac("inner0")
        inner.ip("link set inner0 up")

        def act(sent: bytes) -> None:
            for source in (UNUSED[family], ON_LAN[family]):
                send_from(
                    inner, "inner0", disguise.frame(mac, way.next_hop, datagram(source, DENIED[family], sent))
                )

        arena.assert_held(way, act)


@every_family
@every_way
def test_bridge_over_the_interface_is_held(arena: Arena, on: str, family: int) -> None:
    """Another namespace is plugged into the same link by a bridge in the pod."""
    way = arena.ways[on]
    with nested(arena) as inner:
        way.pod.ip(
            "link add br7 type bridge mcast_snooping 0 forward_delay 0",
            "link set br7 up",
            f"link add inner1 type veth peer name inner0 netns {inner.name}",
            "link set inner1 master br7 up",
            f"link set {way.device} master br7",
        )
        with undone(lambda: way.pod.ip(f"link set {way.device} nomaster", "link del br7", "link del inner1")):
            inner.ip("link set inner0 up")
            inner.settle("inner0")
            mac = inner.mac("inner0")

            def act(sent: bytes) -> None:
                for source in (UNUSED[family], way.addresses[family]):
                    send_from(
                        inner,
                        "inner0",
                        disguise.frame(mac, way.next_hop, datagram(source, DENIED[family], sent)),
                    )

            arena.assert_held(way, act)


@every_family
@pytest.mark.parametrize("mode", ["vepa", "private", "bridge"])
def test_mode_of_the_macvlan_does_not_matter(arena: Arena, mode: str, family: int) -> None:
    way = arena.ways["macvlan"]
    link = way.pod.link("macvlan0")
    assert link
    before = link["linkinfo"]["info_data"]["mode"]
    way.pod.ip(f"link set macvlan0 type macvlan mode {mode}")
    with undone(lambda: way.pod.ip(f"link set macvlan0 type macvlan mode {before}")):
        arena.assert_held(way, sending(way, datagram, way.addresses[family], DENIED[family]))


@contextmanager
def nested(arena: Arena) -> Iterator[Namespace]:
    inner = arena.lab.keep(Namespace(arena.lab.name(f"inner{arena.lab.number()}")))
    try:
        yield inner
    finally:
        inner.remove()


def send_from(namespace: Namespace, device: str, frame: bytes) -> None:
    with closing(namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
        sender.bind((device, 0))
        with unless_dropped():
            sender.send(frame)


# -- answers


@every_family
@every_way
def test_forged_question_opens_nothing_for_a_new_connection(arena: Arena, on: str, family: int) -> None:
    """Somebody without a policy lets the pod be called from a denied address; it may answer, and not call itself."""
    way = arena.ways[on]
    own, denied = way.addresses[family], DENIED[family]
    theirs, mine = 31_000 + FAMILIES.index(family), 32_000 + WAYS.index(on)
    forged = tcp(denied, own, (theirs, mine), SYN)
    if on == "macvlan":
        send_from(arena.host, "eth0", disguise.frame(arena.host.mac(), way.mac, forged))
    else:
        accomplice = arena.free if on == "calico" else arena.free_bridged
        first = next(
            one for one in (arena.ways["calico"], arena.ways["bridge"]) if one.pod is way.pod
        ).next_hop
        send_from(accomplice, "eth0", disguise.frame(accomplice.mac(), first, forged))

    def act(flags: int) -> Callable[[bytes], None]:
        def form(source: str, destination: str, sent: bytes) -> bytes:
            return tcp(source, destination, (mine, theirs), flags, payload=sent)

        return sending(way, form, own, denied)

    assert arena.arrives(way, act(ACK | PSH), expected=True), "what could be an answer passes"
    for flags in (SYN, SYN | 0x01, SYN | 0x04, SYN | PSH, SYN | 0x20, SYN | 0xC0):
        arena.assert_held(way, act(flags))

    def tiny(sent: bytes) -> None:
        whole = tcp(own, denied, (mine, theirs), SYN, payload=sent)
        content = whole[40 if family == 6 else 20 :]
        for at, piece, more in ((0, content[:8], True), (1, content[8:], False)):
            if family == 4:
                packet = disguise.ipv4(own, denied, 6, piece, fragment=at | (MORE_FRAGMENTS if more else 0))
            else:
                packet = disguise.ipv6(
                    own, denied, FRAGMENT, disguise.fragment_header(6, at, more=more) + piece
                )
            way.send(way.frame(packet))

    arena.assert_held(way, tiny)
    arena.assert_held(
        way,
        sending(
            way,
            lambda source, destination, sent: tcp(
                source, destination, (mine + 1000, theirs), ACK, payload=sent
            ),
            own,
            denied,
        ),
    )


@every_family
@pytest.mark.parametrize(("by", "to"), [("macvlan", "calico"), ("calico", "macvlan")])
def test_pod_cannot_forge_a_question_to_itself(arena: Arena, by: str, to: str, family: int) -> None:
    """Out by one of its interfaces and in by the other."""
    sender, way = arena.ways[by], arena.ways[to]
    own, denied = way.addresses[family], DENIED[family]
    theirs, mine = 33_000 + FAMILIES.index(family), 34_000 + WAYS.index(to)
    hop = arena.node.mac() if by == "macvlan" else sender.next_hop
    for mac in (sender.mac, way.mac):
        sender.send(disguise.frame(mac, hop, tcp(denied, own, (theirs, mine), SYN)))

    def form(source: str, destination: str, sent: bytes) -> bytes:
        return tcp(source, destination, (mine, theirs), ACK | PSH, payload=sent)

    arena.assert_held(way, sending(way, form, own, denied))


# -- neighbours, groups, ARP


@every_way
@pytest.mark.parametrize("kind", [133, 134, 135, 136, 137, 130, 131, 132, 143])
def test_neighbour_discovery_goes_no_further_than_the_link(arena: Arena, on: str, kind: int) -> None:
    """With hop limit 255 a router would hand it on."""
    way = arena.ways[on]
    form = disguise.neighbour_discovery(kind, 255)
    arena.assert_held(way, sending(way, form, way.addresses[6], DENIED[6]))


@every_way
@pytest.mark.parametrize("kind", [135, 143])
def test_neighbour_discovery_of_one_hop_is_not_forwarded(arena: Arena, on: str, kind: int) -> None:
    way = arena.ways[on]
    form = disguise.neighbour_discovery(kind, 1)
    assert not arena.arrives(way, sending(way, form, way.addresses[6], DENIED[6]))
    with arena.lifted():
        again = disguise.neighbour_discovery(kind, 3)
        assert arena.arrives(way, sending(way, again, way.addresses[6], DENIED[6]), expected=True)


@pytest.mark.parametrize("on", ["bridge", "macvlan"])
@pytest.mark.parametrize("kind", [135, 136, 143])
def test_neighbours_are_still_found(arena: Arena, on: str, kind: int) -> None:
    """What nothing on a link works without."""
    way = arena.ways[on]
    group = "ff02::16" if kind == 143 else "ff02::1"
    mac = "33:33:00:00:00:01"
    form = disguise.neighbour_discovery(kind, 1 if kind == 143 else 255, way.addresses[6])

    def act(sent: bytes) -> None:
        way.send(disguise.frame(way.mac, mac, form("fe80::4711", group, sent)))

    assert arena.arrives(way, act, at=way.link, expected=True)


@every_family
def test_denied_neighbours_are_still_found(arena: Arena, family: int) -> None:
    """The gateway may stand in a network to which nothing may be sent."""
    way = arena.ways["macvlan"]
    arena.policies.write(deny("192.168.12.0/24"), deny("fd00:12::/64"))
    arena.policies.sync()

    def restore() -> None:
        arena.write_policy()
        arena.policies.sync()

    way.pod.ip(f"route replace {FREE[family]} via {ROUTER[family]} dev macvlan0")
    with undone(restore, lambda: way.pod.ip(f"route del {FREE[family]} dev macvlan0")):
        way.pod.ip("neighbour flush dev macvlan0")
        arena.lan.ip("neighbour flush dev br0")
        assert Process(way.pod, way.addresses[family], "macvlan0").connects(arena.outside, FREE[family], 3)
        assert not arena.arrives(way, to_host(arena, way, datagram, family), at=arena.host)
        if family == 6:
            for kind in (135, 136):
                form = disguise.neighbour_discovery(kind, 255, way.addresses[6])
                assert arena.arrives(way, to_host(arena, way, form, 6), at=arena.host, expected=True)


def to_host(arena: Arena, way: Way, form: Form, family: int) -> Callable[[bytes], None]:
    """To send a packet to a host on the LAN itself."""
    host = {4: "192.168.12.50", 6: "fd00:12::50"}[family]
    mac = arena.host.mac()
    return lambda sent: way.send(disguise.frame(way.mac, mac, form(way.addresses[family], host, sent)))


@pytest.mark.parametrize("on", ["bridge", "macvlan"])
@pytest.mark.parametrize("group", [*GROUPS[4], *GROUPS[6]])
def test_denied_groups_and_broadcasts_are_not_reached(arena: Arena, on: str, group: str) -> None:
    way = arena.ways[on]
    family = disguise.version(group)
    packed = ipaddress.ip_address(group).packed
    multicast = (
        "33:33:" + packed[12:].hex(":")
        if family == 6
        else f"01:00:5e:{packed[1] & 127:02x}:{packed[2:].hex(':')}"
    )
    for mac in (multicast, "ff:ff:ff:ff:ff:ff"):
        arena.assert_held(
            way,
            lambda sent, mac=mac: way.send(
                disguise.frame(way.mac, mac, datagram(way.addresses[family], group, sent))
            ),
            at=way.link,
        )


@every_family
@pytest.mark.parametrize("on", ["bridge", "macvlan"])
def test_denied_packet_in_a_broadcast_frame_is_held(arena: Arena, on: str, family: int) -> None:
    way = arena.ways[on]
    arena.assert_held(
        way,
        lambda sent: way.send(
            disguise.frame(
                way.mac, "ff:ff:ff:ff:ff:ff", datagram(way.addresses[family], DENIED[family], sent)
            )
        ),
        at=way.link,
    )


@pytest.mark.parametrize("on", ["bridge", "macvlan"])
@pytest.mark.parametrize("operation", [1, 2])
@pytest.mark.parametrize("whose", ["the gateway's", "another pod's", "nobody's", "under another MAC address"])
def test_arp_cannot_claim_what_is_not_the_pods(arena: Arena, on: str, whose: str, operation: int) -> None:
    way = arena.ways[on]
    claimed = {
        "the gateway's": way.first_hop,
        "another pod's": way.neighbour,
        "nobody's": {4: ASSIGNED_LATER},
        "under another MAC address": way.addresses,
    }[whose][4]
    said = disguise.random_mac() if whose == "under another MAC address" else way.mac

    def act(address: str, mac: str) -> Callable[[bytes], None]:
        return lambda sent: way.send(
            disguise.arp(way.mac, address, sender_mac=mac, operation=operation) + sent
        )

    arena.assert_held(way, act(claimed, said), at=way.link)
    assert arena.arrives(way, act(way.addresses[4], way.mac), at=way.link, expected=True), "its own it may"


@pytest.mark.parametrize("on", ["bridge", "macvlan"])
@pytest.mark.parametrize("whose", ["the gateway's", "another pod's"])
def test_neighbour_advertisement_cannot_claim_what_is_not_the_pods(arena: Arena, on: str, whose: str) -> None:
    way = arena.ways[on]
    claimed = (way.first_hop if whose == "the gateway's" else way.neighbour)[6]

    def act(address: str) -> Callable[[bytes], None]:
        form = disguise.neighbour_discovery(136, 255, address)
        return lambda sent: way.send(
            disguise.frame(way.mac, "33:33:00:00:00:01", form(way.addresses[6], "ff02::1", sent))
        )

    arena.assert_held(way, act(claimed), at=way.link)
    assert arena.arrives(way, act(way.addresses[6]), at=way.link, expected=True), "its own it may"
