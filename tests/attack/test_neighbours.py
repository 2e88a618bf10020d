"""ARP, neighbour discovery, router advertisements and redirects: what the LAN asks, and what it wants to impose."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import pytest
from lab import Pod
from lab.attacker import Process, Tap, address_family, redirect, router_advertisement, token, udp

from .guards import Chain, Command, Settings, assert_stopped
from .scene import HOST, NAMED, ROUTER, SOURCE, UDP_PORT, Scene

IPV4, IPV6 = "net/ipv4/conf/macvlan0", "net/ipv6/conf/macvlan0"
ALL_NODES_MAC = "33:33:00:00:00:01"
NEARBY = "fe80::bad"


# -- questions


def test_arp_is_answered_for_the_source_address(scene: Scene) -> None:
    assert scene.tap.answers_arp(SOURCE[4], HOST[4], 3)


@pytest.mark.parametrize("asker", [HOST[4], "10.244.0.200", "0.0.0.0"])
def test_arp_is_not_answered_for_the_main_interfaces_address(scene: Scene, asker: str) -> None:
    """Whoever asks; someone who claims to be from the pod network would be answered first."""
    assert_stopped(
        lambda seconds: scene.tap.answers_arp(scene.pod.address, asker, seconds),
        Settings(scene.pod, {f"{IPV4}/arp_ignore": 0}),
    )


def test_arp_is_not_answered_for_other_pods(scene: Scene) -> None:
    assert_stopped(
        lambda seconds: scene.tap.answers_arp(scene.neighbour.address, HOST[4], seconds),
        Settings(scene.pod, {f"{IPV4}/proxy_arp": 1, "net/ipv4/neigh/macvlan0/proxy_delay": 0}),
    )


def test_solicitation_is_answered_for_the_source_address(scene: Scene) -> None:
    assert scene.tap.answers_solicitation(SOURCE[6], HOST[6], 3)


@pytest.mark.parametrize("whose", ["main", "neighbour"])
def test_solicitation_is_not_answered_for_other_addresses(scene: Scene, whose: str) -> None:
    """IPv6 answers for a link's own addresses only, unless it is told to answer for others'."""
    address = {"main": scene.pod.address6, "neighbour": scene.neighbour.address6}[whose]
    assert not scene.tap.answers_solicitation(address, HOST[6], 0.1)
    straight = scene.mac, scene.link_local
    proxy = f"neighbour {{}} proxy {address} dev macvlan0"
    assert_stopped(
        lambda seconds: scene.tap.answers_solicitation(address, HOST[6], seconds, straight),
        Command(scene.pod, proxy.format("add"), proxy.format("del")),
        Settings(
            scene.pod,
            {
                f"{IPV6}/proxy_ndp": 1,
                f"{IPV6}/forwarding": 1,  # only a router answers for others
                "net/ipv6/neigh/macvlan0/proxy_delay": 0,
            },
        ),
    )


# -- impositions


def test_router_advertisement_changes_nothing(scene: Scene) -> None:
    def attack(seconds: float) -> bool:
        scene.tap.send(router_advertisement(NEARBY, "2001:db8:bad::/64"), ALL_NODES_MAC)
        deadline = time.monotonic() + seconds
        while not (taken := imposed(scene.pod)) and time.monotonic() < deadline:
            time.sleep(0.01)
        for one in taken:
            scene.pod.ip(one)
        return bool(taken)

    assert_stopped(
        attack,
        Chain(scene.pod, "input"),
        Settings(scene.pod, {f"{IPV6}/accept_ra": 2, f"{IPV6}/autoconf": 1}),
    )


def imposed(pod: Pod) -> list[str]:
    """The commands that take away what a router advertisement has brought."""
    routes = [
        f"-6 route del {route['dst']} dev macvlan0 proto ra"
        for route in pod.routes(family=6)
        if route["protocol"] == "ra"
    ]
    return routes + [
        f"address del {address} dev macvlan0"
        for address in pod.addresses("macvlan0")
        if address.startswith("2001:db8:bad:")
    ]


def redirects(pod: Pod, tap: Tap, source: str, port: int, *, quoting: bool = True) -> Callable[[float], bool]:
    """An attack that offers a host of the LAN as a better way to where the pod sends something."""
    family = 6 if ":" in source else 4
    better = HOST[4] if family == 4 else NEARBY
    process = Process(pod, source, device="macvlan0", privileged=False)
    mac = pod.mac("macvlan0")

    def attack(seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        with closing(process.open_socket(address_family(source))) as client:
            quoted = udp(source, NAMED[family], (client.getsockname()[1], port), b"on its way")
            while time.monotonic() < deadline:
                client.sendto(b"on its way", (NAMED[family], port))
                tap.send(redirect(ROUTER[family], source, better, quoted, quoting=quoting), mac)
                # The first one only makes the kernel look for the new gateway.
                time.sleep(0.02)
                if pod.route_get(NAMED[family], "from", source).get("gateway") == better:
                    pod.ip(f"-{family} route flush cache")
                    return True
        return False

    return attack


def test_redirect_of_ipv4_changes_nothing(scene: Scene) -> None:
    """As long as the macvlan forwards, the kernel wants the interface's setting and that of all to agree."""
    assert_stopped(
        redirects(scene.pod, scene.tap, SOURCE[4], UDP_PORT),
        Settings(scene.pod, {f"{IPV4}/accept_redirects": 1}),
    )


@pytest.mark.parametrize("quoting", [True, False])
def test_redirect_of_ipv6_changes_nothing(scene: Scene, quoting: bool) -> None:
    """One that quotes a packet of a flow belongs to the flow, and passes the rules."""
    setting = Settings(scene.pod, {f"{IPV6}/accept_redirects": 1})
    scene.host.ip(f"address add {NEARBY}/64 dev eth0 nodad")
    try:
        assert_stopped(
            redirects(scene.pod, scene.tap, SOURCE[6], UDP_PORT, quoting=quoting),
            *([] if quoting else [Chain(scene.pod, "input")]),
            setting,
        )
    finally:
        scene.host.ip(f"address del {NEARBY}/64 dev eth0")


# -- answers


@pytest.mark.parametrize("family", (4, 6))
def test_who_takes_the_pod_for_a_router_hears_nothing(scene: Scene, family: int) -> None:
    """Not even that his packet has travelled too far, by which a traceroute finds a router."""
    for limit in ("net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"):
        scene.pod.sysctl(limit, 0)
    with Tap(scene.host) as at_host:

        def attack(seconds: float) -> bool:
            sent = token()
            scene.tap.send(udp(HOST[family], NAMED[family], (5000, 5001), sent, hops=1), scene.mac)
            return at_host.hears(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "arriving"))
