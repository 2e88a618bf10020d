"""Somebody on either side takes the egress pod for his router."""

from __future__ import annotations

import pytest
from lab.attacker import Process

from .guards import Chain, Line, Rule, assert_stopped
from .scene import (
    FAMILIES,
    NAMED,
    OTHER,
    SERVER_PORT,
    TCP_CHAIN,
    TCP_PORT,
    UDP_CHAIN,
    UNNAMED,
    Scene,
)

ATTACKERS = ("host", "outside")
MEANS = ("connects", "sends", "pings")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_lan_reaches_no_other_pod_through_it(scene: Scene, attacker: str, means: str, family: int) -> None:
    address = scene.neighbour_address[family]
    with scene.sent_to_the_pod(attacker, address) as namespace:
        attack = getattr(Process(namespace), means)
        assert_stopped(
            lambda seconds: attack(scene.neighbour, address, seconds),
            Chain(scene.pod, "arriving"),
            Chain(scene.pod, "forward"),
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("means", MEANS)
def test_lan_does_not_reach_the_node_from_its_pods_side(scene: Scene, means: str, family: int) -> None:
    address = scene.node_address[family]
    with scene.sent_to_the_pod("host", address) as host:
        attack = getattr(Process(host), means)
        assert_stopped(
            lambda seconds: attack(scene.node, address, seconds),
            Chain(scene.pod, "arriving"),
            Chain(scene.pod, "forward"),
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("target", ["named", "unnamed", "other"])
def test_lan_host_has_no_gateway_in_it(scene: Scene, target: str, means: str, family: int) -> None:
    """In by the macvlan; out by it to a destination, by the main interface to anywhere else."""
    address = {"named": NAMED, "unnamed": UNNAMED, "other": OTHER}[target][family]
    victim = scene.other if target == "other" else scene.outside
    with scene.sent_to_the_pod("host", address) as host:
        attack = getattr(Process(host), means)
        assert_stopped(
            lambda seconds: attack(victim, address, seconds),
            Chain(scene.pod, "arriving"),
            Chain(scene.pod, "forward"),
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("target", ["named", "unnamed", "other"])
def test_pod_has_no_gateway_in_it(scene: Scene, target: str, means: str, family: int) -> None:
    """A destination is reached by its lines only, not by its own address."""
    address = {"named": NAMED, "unnamed": UNNAMED, "other": OTHER}[target][family]
    victim = scene.other if target == "other" else scene.outside
    with scene.sent_to_the_main_interface(scene.neighbour, address):
        attack = getattr(Process(scene.neighbour), means)
        assert_stopped(lambda seconds: attack(victim, address, seconds), Chain(scene.pod, "forward"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("means", MEANS)
def test_pod_has_no_gateway_in_it_by_a_route_of_the_node(scene: Scene, means: str, family: int) -> None:
    address = NAMED[family]
    with scene.sent_to_the_main_interface(scene.node, address):
        attack = getattr(Process(scene.neighbour), means)
        assert_stopped(lambda seconds: attack(scene.outside, address, seconds), Chain(scene.pod, "forward"))


@pytest.mark.parametrize("family", FAMILIES)
def test_line_takes_only_what_is_sent_to_the_pod(scene: Scene, family: int) -> None:
    """Not what a pod sends through it to somebody else, at the same port."""
    with scene.sent_to_the_main_interface(scene.neighbour, UNNAMED[family]):
        process = Process(scene.neighbour)
        assert_stopped(
            lambda seconds: process.connects(scene.outside, UNNAMED[family], seconds, TCP_PORT, SERVER_PORT),
            Rule(scene.pod, "prerouting", "fib daddr type"),
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_port_that_no_line_takes_leads_nowhere(scene: Scene, protocol: str, family: int) -> None:
    process, address, port = Process(scene.neighbour), scene.pod_address[family], 4711

    def attack(seconds: float) -> bool:
        if protocol == "udp":
            return process.sends(scene.outside, address, seconds, port)
        return process.connects(scene.outside, address, seconds, port, SERVER_PORT)

    chain = TCP_CHAIN[family] if protocol == "tcp" else UDP_CHAIN[family]
    assert_stopped(attack, Line(scene.pod, protocol, port, chain))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_has_no_port_leads_nowhere_without_a_line_for_everything(scene: Scene, family: int) -> None:
    assert not Process(scene.neighbour).pings(scene.outside, scene.pod_address[family], 0.2)
    assert Process(scene.neighbour).pings(scene.pod, scene.pod_address[family], 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_line_itself_is_served(scene: Scene, family: int) -> None:
    """The way that all these attacks have not found."""
    assert Process(scene.neighbour).connects(
        scene.outside, scene.pod_address[family], 2, TCP_PORT, SERVER_PORT
    )
