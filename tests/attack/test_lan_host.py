"""A LAN host once more: what it says about addresses, fragments, source routes, tags, and what it could fill up.

Its connections, forged packets, redirects and router advertisements are in test_entering.py, test_passing.py,
test_forged.py and test_neighbours.py.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from lab.attacker import BROADCAST_MAC, Deliveries, Process, Tap, icmp, token, udp
from policy import disguise

from .guards import Chain, Settings, assert_stopped
from .scene import FAMILIES, HOST, NAMED, OTHER, SERVER_PORT, SOURCE, TCP_PORT, Scene

IPV4, IPV6 = "net/ipv4/conf/macvlan0", "net/ipv6/conf/macvlan0"
STRANGER = {4: "192.168.12.77", 6: "fd00:12::77"}
ADVERTISEMENT, SOLICITED_OVERRIDE = 136, bytes.fromhex("20000000")
ALL_NODES_MAC = "33:33:00:00:00:01"


def claim(tap: Tap, address: str) -> None:
    """Say to everybody on the link that an address is here."""
    if ":" not in address:
        tap.announce(address)
        return
    content = socket.inet_pton(socket.AF_INET6, address) + b"\2\1" + bytes.fromhex(tap.mac.replace(":", ""))
    tap.send(icmp(address, "ff02::1", ADVERTISEMENT, 0, SOLICITED_OVERRIDE, content), ALL_NODES_MAC)


@pytest.mark.parametrize("family", FAMILIES)
def test_announcement_of_a_stranger_is_not_remembered(scene: Scene, family: int) -> None:
    """Whoever could fill the table of neighbours could keep the pod from its gateway."""
    pod = scene.pod

    def attack(seconds: float) -> bool:
        claim(scene.tap, STRANGER[family])
        deadline = time.monotonic() + seconds
        while not (known := pod.show(f"neighbour show {STRANGER[family]} dev macvlan0")):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.01)
        pod.ip("neighbour flush dev macvlan0")
        return bool(known)

    settings: dict[int, dict[str, object]] = {
        4: {f"{IPV4}/arp_accept": 1},
        6: {f"{IPV6}/forwarding": 1, f"{IPV6}/accept_untracked_na": 1},
    }
    assert_stopped(attack, Settings(pod, settings[family]))


@pytest.mark.parametrize("family", FAMILIES)
def test_claim_of_the_source_address_does_not_take_it_from_the_pod(scene: Scene, family: int) -> None:
    """Neighbours may believe it for a while; the pod goes on and is believed again when it announces itself."""
    pod, address = scene.pod, SOURCE[family]
    claim(scene.tap, address)
    (held,) = [one for name, one in pod.addresses("macvlan0").items() if name.startswith(f"{address}/")]
    assert not held.get("dadfailed")
    assert not held.get("tentative")
    with Tap(pod, "macvlan0") as own:
        claim(own, address)
    for kind in ("arp", "solicitation"):
        if (kind == "arp") == (family == 4):
            ask = scene.tap.answers_arp if family == 4 else scene.tap.answers_solicitation
            assert ask(address, HOST[family], 2)
    scene.lan.ip("neighbour flush dev br0")
    client = Process(scene.neighbour)
    assert client.connects(scene.outside, scene.pod_address[family], 2, TCP_PORT, SERVER_PORT)


# -- packets that are not whole


def pieces(family: int, sent: bytes, order: str) -> list[bytes]:
    """A datagram for the pod in two parts, of which only the first says for which port."""
    content, number = disguise.body(HOST[family], SOURCE[family], sent * 2, 5001), secrets.randbits(16)
    cut = 16
    found = []
    for at, piece, more in ((0, content[:cut], True), (cut // 8, content[cut:], False)):
        if family == 6:
            header = disguise.fragment_header(disguise.UDP, at, more=more, identifier=number)
            found.append(disguise.ipv6(HOST[6], SOURCE[6], disguise.FRAGMENT, header + piece))
        else:
            field = at | (disguise.MORE_FRAGMENTS if more else 0)
            found.append(
                disguise.ipv4(HOST[4], SOURCE[4], disguise.UDP, piece, fragment=field, identifier=number)
            )
    return found[::-1] if order == "reversed" else found


@pytest.mark.parametrize("order", ["in order", "reversed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fragments_do_not_get_in_together(scene: Scene, family: int, order: str) -> None:
    with Deliveries(scene.pod) as deliveries:

        def attack(seconds: float) -> bool:
            sent = token()
            for piece in pieces(family, sent, order):
                scene.tap.send(piece, scene.mac)
            return deliveries.bring(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "input"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("which", [0, 1])
def test_single_fragment_gets_in_for_nobody(scene: Scene, which: int, family: int) -> None:
    """It is kept until the others come, and never handed to a socket: nothing would have to stop it."""
    with Deliveries(scene.pod) as deliveries, Chain(scene.pod, "input").lifted():
        sent, whole = token(), token()
        scene.tap.send(pieces(family, sent, "in order")[which], scene.mac)
        scene.tap.send(udp(HOST[family], SOURCE[family], (1, 5001), whole), scene.mac)
        assert deliveries.bring(whole, 3)
        assert not deliveries.bring(sent, 0.05)


# -- packets with a way of their own


@contextmanager
def with_a_way_to_the_other_host(scene: Scene, family: int) -> Iterator[Tap]:
    """The pod may have one: the other host could be a destination of another line."""
    scene.pod.ip(f"route add {OTHER[family]} dev macvlan0")
    try:
        with Tap(scene.other) as at_other:
            yield at_other
    finally:
        scene.pod.ip(f"route del {OTHER[family]} dev macvlan0")


@pytest.mark.parametrize("kind", [disguise.LOOSE, disguise.STRICT], ids=["loose", "strict"])
def test_source_route_leads_nobody_through_the_pod(scene: Scene, kind: int) -> None:
    """Sent to the pod's own address, so that no rule sees the destination before the kernel has replaced it."""
    form = disguise.with_options(disguise.source_route(kind, OTHER[4]))
    with with_a_way_to_the_other_host(scene, 4) as at_other:

        def attack(seconds: float) -> bool:
            sent = token()
            scene.tap.send(form(HOST[4], SOURCE[4], sent), scene.mac)
            return at_other.hears(sent, seconds)

        willing: dict[str, object] = {
            "net/ipv4/conf/all/accept_source_route": 1,
            f"{IPV4}/accept_source_route": 1,
        }
        assert_stopped(attack, Settings(scene.pod, willing), Chain(scene.pod, "forward"))


def test_segment_routing_header_leads_nobody_through_the_pod(scene: Scene) -> None:
    """What the kernel sends on to the next segment has passed the input hook before."""

    def header(following: int) -> bytes:
        return disguise.routing_header(following, 4, OTHER[6], SOURCE[6])

    form = disguise.chained((disguise.ROUTING, header))
    with with_a_way_to_the_other_host(scene, 6) as at_other:

        def attack(seconds: float) -> bool:
            sent = token()
            scene.tap.send(form(HOST[6], SOURCE[6], sent), scene.mac)
            return at_other.hears(sent, seconds)

        willing: dict[str, object] = {"net/ipv6/conf/all/seg6_enabled": 1, f"{IPV6}/seg6_enabled": 1}
        assert_stopped(
            attack,
            Settings(scene.pod, willing),
            Chain(scene.pod, "input"),
            Chain(scene.pod, "forward"),
        )


@pytest.mark.parametrize("tag", [disguise.ETH_P_8021Q, disguise.ETH_P_8021AD], ids=["802.1Q", "802.1ad"])
@pytest.mark.parametrize("family", FAMILIES)
def test_priority_tag_gets_past_no_rule(scene: Scene, family: int, tag: int) -> None:
    """The kernel takes a frame of VLAN 0 for one without a tag."""
    with (
        Deliveries(scene.pod) as deliveries,
        closing(scene.host.socket(socket.AF_PACKET, socket.SOCK_RAW)) as nic,
    ):
        nic.bind(("eth0", 0))

        def attack(seconds: float) -> bool:
            sent = token()
            plain = disguise.frame(
                scene.tap.mac, scene.mac, udp(HOST[family], SOURCE[family], (5000, 5001), sent)
            )
            nic.send(disguise.tagged(plain, (tag, 0xE000)))
            return deliveries.bring(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "input"))


@pytest.mark.parametrize("family", FAMILIES)
def test_unicast_packet_in_a_broadcast_frame_gets_past_no_rule(scene: Scene, family: int) -> None:
    """The kernel itself drops those of IPv4 for a socket, but a raw one would have them."""
    with Deliveries(scene.pod) as deliveries:

        def attack(seconds: float) -> bool:
            sent = token()
            scene.tap.send(udp(HOST[family], SOURCE[family], (5000, 5001), sent), BROADCAST_MAC)
            return deliveries.bring(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "input"))


# -- too much


@pytest.mark.parametrize("to", [SOURCE, NAMED], ids=["the pod", "somebody behind it"])
@pytest.mark.parametrize("family", FAMILIES)
def test_flood_does_not_fill_the_table_of_flows(scene: Scene, family: int, to: dict[int, str]) -> None:
    """A packet that is dropped leaves no entry; the table is the whole node's."""
    pod, count = scene.pod, 300

    def attack(seconds: float) -> bool:
        before = int(pod.sysctl("net/netfilter/nf_conntrack_count"))
        for port in range(10_000, 10_000 + count):
            scene.tap.send(udp(HOST[family], to[family], (port, 5001), b"flood"), scene.mac)
        time.sleep(min(seconds, 0.2))
        return int(pod.sysctl("net/netfilter/nf_conntrack_count")) >= before + count

    chains = ["input"] if to is SOURCE else ["arriving", "forward"]
    assert_stopped(attack, *(Chain(pod, chain) for chain in chains))
