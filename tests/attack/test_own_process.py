"""A process in the egress pod, without any capability, wants out under the pod's address to where no line leads."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest
from lab import Namespace
from lab.attacker import Process, Tap, token

from .guards import Chain, assert_stopped
from .scene import FAMILIES, HOST, NAMED, SERVER_PORT, SOURCE, UDP_PORT, UNNAMED, Scene

MEANS = ("connects", "sends", "pings")
WAYS = ("address", "device", "both")
IP_PKTINFO = 8


def process(scene: Scene, way: str, family: int) -> Process:
    """One that binds to the source address, to the macvlan, or to both."""
    source = "" if way == "device" else SOURCE[family]
    return Process(scene.pod, source, "" if way == "address" else "macvlan0", privileged=False)


def victim_of(scene: Scene, target: str, family: int) -> tuple[Namespace, str]:
    if target == "host":
        return scene.host, HOST[family]
    return scene.outside, {"named": NAMED, "unnamed": UNNAMED}[target][family]


def test_process_has_no_privilege(scene: Scene) -> None:
    with pytest.raises(PermissionError):
        process(scene, "address", 4).open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("way", WAYS)
def test_nobody_else_is_reached(scene: Scene, way: str, means: str, family: int) -> None:
    attack = getattr(process(scene, way, family), means)
    assert_stopped(
        lambda seconds: attack(scene.outside, UNNAMED[family], seconds), Chain(scene.pod, "output")
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("target", ["host", "named"])
def test_neither_the_lan_nor_other_ports_of_a_destination_are_reached(
    scene: Scene, target: str, means: str, family: int
) -> None:
    victim, address = victim_of(scene, target, family)
    attack = getattr(process(scene, "address", family), means)
    assert_stopped(lambda seconds: attack(victim, address, seconds), Chain(scene.pod, "output"))


@pytest.mark.parametrize("family", FAMILIES)
def test_destination_of_a_line_is_reached(scene: Scene, family: int) -> None:
    """By the way that all the others have not found."""
    allowed = process(scene, "address", family)
    assert allowed.connects(scene.outside, NAMED[family], 2, SERVER_PORT)
    assert allowed.sends(scene.outside, NAMED[family], 2, UDP_PORT)


@pytest.mark.parametrize(
    ("group", "family"), [("224.0.0.251", 4), ("192.168.12.255", 4), ("255.255.255.255", 4), ("ff02::fb", 6)]
)
def test_groups_and_broadcasts_of_the_lan_are_not_reached(scene: Scene, group: str, family: int) -> None:
    with Tap(scene.host) as at_host:
        attacker = process(scene, "both", family)

        def attack(seconds: float) -> bool:
            sent = token()
            attacker.emits(sent, (group, 5353))
            return at_host.hears(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "output"))


def test_link_local_addresses_of_the_lan_are_not_reached(scene: Scene) -> None:
    (link,) = scene.host.show("-6 address show dev eth0")
    address = next(one["local"] for one in link["addr_info"] if one["scope"] == "link")
    with Tap(scene.host) as at_host:
        attacker = Process(scene.pod, device="macvlan0", privileged=False)

        def attack(seconds: float) -> bool:
            sent = token()
            attacker.emits(sent, (address, 5353))
            return at_host.hears(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "output"))


# -- by another interface: the source address is what a firewall beyond the LAN goes by


def chosen_per_packet(scene: Scene, family: int, sent: bytes) -> None:
    """IP_PKTINFO, which names source address and interface for one datagram (ip(7))."""
    index = scene.pod.show("link show dev eth0")[0]["ifindex"]
    wish = struct.pack("i4s4s", index, socket.inet_aton(SOURCE[4]), bytes(4))
    Process(scene.pod, privileged=False).emits(
        sent, (UNNAMED[family], 5353), [(socket.IPPROTO_IP, IP_PKTINFO, wish)]
    )


def chosen_by_binding(scene: Scene, family: int, sent: bytes) -> None:
    attacker = Process(scene.pod, SOURCE[family], "eth0", privileged=False)
    attacker.emits(sent, (UNNAMED[family], 5353))


@pytest.mark.parametrize(
    ("choice", "family"), [(chosen_per_packet, 4), (chosen_by_binding, 4), (chosen_by_binding, 6)]
)
def test_nothing_leaves_under_the_source_address_by_another_interface(
    scene: Scene, choice: Callable[[Scene, int, bytes], None], family: int
) -> None:
    with Tap(scene.outside) as at_victim:

        def attack(seconds: float) -> bool:
            sent = token()
            choice(scene, family, sent)
            return at_victim.hears(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "output"))


@pytest.mark.parametrize("family", FAMILIES)
def test_other_traffic_of_the_pod_is_not_hindered(scene: Scene, family: int) -> None:
    anybody = Process(scene.pod, privileged=False)
    for victim, address in (
        (scene.outside, UNNAMED[family]),
        (scene.host, HOST[family]),
        (scene.neighbour, scene.neighbour_address[family]),
        (scene.node, scene.node_address[family]),
        (scene.pod, SOURCE[family]),
        (scene.pod, scene.pod_address[family]),
    ):
        assert anybody.connects(victim, address, 2), address
        assert anybody.sends(victim, address, 2), address
    assert Process(scene.neighbour).connects(scene.pod, scene.pod_address[family], 2)
