"""Somebody on the LAN, or beyond the router, wants into the pod itself."""

from __future__ import annotations

import socket
import struct
from contextlib import closing

import pytest
from lab.attacker import BROADCAST_MAC, Deliveries, Process, token, udp

from .guards import Chain, Rule, Settings, assert_stopped
from .scene import FAMILIES, HOST, SERVER_PORT, SIBLING, SOURCE, TCP_PORT, UDP_PORT, Scene

ATTACKERS = ("host", "outside")
MEANS = ("connects", "sends", "pings")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("attacker", [*ATTACKERS, "sibling"])
def test_nothing_new_reaches_the_source_address(scene: Scene, attacker: str, means: str, family: int) -> None:
    own = SIBLING[family] if attacker == "sibling" else ""
    attack = getattr(Process(getattr(scene, attacker), own), means)
    assert_stopped(lambda seconds: attack(scene.pod, SOURCE[family], seconds), Chain(scene.pod, "input"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_main_interfaces_address_is_not_reached_by_the_macvlan(
    scene: Scene, attacker: str, means: str, family: int
) -> None:
    address = scene.pod_address[family]
    with scene.sent_to_the_pod(attacker, address) as namespace:
        attack = getattr(Process(namespace), means)
        assert_stopped(
            lambda seconds: attack(scene.pod, address, seconds),
            Chain(scene.pod, "arriving"),
            Chain(scene.pod, "input"),
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_lines_serve_nobody_who_comes_from_the_lan(
    scene: Scene, attacker: str, protocol: str, family: int
) -> None:
    """Else the pod would be everybody's way to its destinations, under its own address."""
    process = Process(getattr(scene, attacker))

    def attack(seconds: float) -> bool:
        if protocol == "udp":
            return process.sends(scene.outside, SOURCE[family], seconds, UDP_PORT)
        return process.connects(scene.outside, SOURCE[family], seconds, TCP_PORT, SERVER_PORT)

    assert_stopped(attack, Rule(scene.pod, "prerouting", 'iifname != "eth0"'), Chain(scene.pod, "forward"))


def test_link_local_address_of_the_macvlan_is_not_reached(scene: Scene) -> None:
    with Deliveries(scene.pod) as deliveries:

        def attack(seconds: float) -> bool:
            sent = token()
            scene.tap.send(udp("fe80::bad", scene.link_local, (5000, 5001), sent), scene.mac)
            return deliveries.bring(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "input"))


def test_services_on_localhost_are_not_reached(scene: Scene) -> None:
    """A pod inherits route_localnet from a node with kube-proxy, which then takes 127.0.0.1 from any interface."""
    with Deliveries(scene.pod) as deliveries:

        def attack(seconds: float) -> bool:
            sent = token()
            scene.tap.send(udp(HOST[4], "127.0.0.1", (5000, 5001), sent), scene.mac)
            return deliveries.bring(sent, seconds)

        assert_stopped(
            attack,
            Settings(scene.pod, {"net/ipv4/conf/all/route_localnet": 1}),
            Chain(scene.pod, "arriving"),
            Chain(scene.pod, "input"),
        )


@pytest.mark.parametrize(
    ("group", "mac"), [("224.0.0.251", "01:00:5e:00:00:fb"), ("192.168.12.255", BROADCAST_MAC)]
)
def test_groups_and_broadcasts_do_not_reach_the_pods_sockets(scene: Scene, group: str, mac: str) -> None:
    with (
        closing(scene.pod.socket(socket.AF_INET, socket.SOCK_DGRAM)) as member,
        Deliveries(scene.pod) as taken,
    ):
        if group.startswith("224."):
            index = scene.pod.show("link show dev macvlan0")[0]["ifindex"]
            wish = struct.pack("4s4si", socket.inet_aton(group), bytes(4), index)
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, wish)

        def attack(seconds: float) -> bool:
            sent = token()
            scene.tap.send(udp(HOST[4], group, (5353, 5353), sent), mac)
            return taken.bring(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "arriving"), Chain(scene.pod, "input"))
