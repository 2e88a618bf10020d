"""An address that another host holds is not taken."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab import Lab, Lan, Node, source, unchanged

DUAL = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1")
ADDRESS_CONFLICT = 104


@pytest.mark.parametrize("held", ["192.168.12.99", "fd00:12::99"])
@pytest.mark.parametrize("detection", ["fast", "strict"])
def test_address_of_a_lan_host_is_refused_with_its_mac(
    node: Node, lan: Lan, held: str, detection: str
) -> None:
    host = lan.host(held)
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod, DUAL, conf={"conflictDetection": detection}).refused(ADDRESS_CONFLICT, held, host.mac())
    assert lan.reach(host, held) is not None


def test_one_family_alone_is_probed_too(node: Node, lan: Lan) -> None:
    host = lan.host("fd00:12::99")
    pod = node.pod()
    answer = node.add(pod, source("fd00:12::99/64", "fd00:12::1"))
    answer.refused(ADDRESS_CONFLICT, "fd00:12::99", host.mac())


def test_host_behind_a_32_bit_source_is_found_as_well(node: Node, lan: Lan) -> None:
    host = lan.host("192.168.12.99")
    node.add(node.pod(), source("192.168.12.99")).refused(ADDRESS_CONFLICT, host.mac())


def test_second_node_does_not_get_the_address(lab: Lab, node: Node) -> None:
    other_node = lab.another_node("192.168.12.11", "fd00:12::11")
    first, second = node.pod(), other_node.pod()
    node.add(first, DUAL).ok()
    with unchanged(second, other_node):
        other_node.add(second, DUAL).refused(ADDRESS_CONFLICT, first.mac("macvlan0"))
    node.check(first).ok()


@pytest.mark.parametrize("asked", [source("192.168.12.99/24"), source("fd00:12::99/64", "fd00:12::1")])
def test_two_nodes_at_the_same_moment_do_not_both_get_it(lab: Lab, node: Node, asked: dict[str, str]) -> None:
    other_node = lab.another_node("192.168.12.11", "fd00:12::11")
    pods = [node.pod(), other_node.pod()]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda pod: pod.node.add(pod, asked), pods))
    losers = [answer for answer in answers if answer.status]
    assert losers
    for answer in losers:
        answer.refused(ADDRESS_CONFLICT)


def test_nobody_is_asked_when_detection_is_off(node: Node, lan: Lan) -> None:
    lan.host("192.168.12.99")
    pod = node.pod()
    with lan.capture() as wire:
        node.add(pod, source("192.168.12.99/24"), conf={"conflictDetection": "off"}).ok()
        assert not wire.frames(lambda f: f.is_arp_probe or (f.is_nd_probe and f.target == "fd00:12::99"))


def test_refused_attempt_does_not_disturb_the_holder(node: Node, lan: Lan) -> None:
    host = lan.host("192.168.12.99")
    assert lan.reach(host, "192.168.12.99")
    node.add(node.pod(), source("192.168.12.99/24")).refused(ADDRESS_CONFLICT)
    assert lan.neighbour("192.168.12.99") == host.mac()


def test_address_is_usable_when_the_holder_has_gone(node: Node, lan: Lan) -> None:
    host = lan.host("192.168.12.99")
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24")).refused(ADDRESS_CONFLICT)
    host.ip("link set eth0 down")
    node.add(pod, source("192.168.12.99/24")).ok()


@pytest.mark.parametrize("detection", ["fast", "strict", "off"])
def test_no_address_is_tentative_when_add_returns(node: Node, detection: str) -> None:
    pod = node.pod()
    node.add(pod, DUAL, conf={"conflictDetection": detection}).ok()
    addresses = pod.addresses("macvlan0")
    assert len(addresses) == 2
    assert not [a for a in addresses.values() if a.get("tentative") or a.get("dadfailed")]


def test_strict_takes_the_time_of_rfc_5227(node: Node, lan: Lan) -> None:
    pod = node.pod()
    with lan.capture() as wire:
        started = time.monotonic()
        node.add(pod, source("192.168.12.99/24"), conf={"conflictDetection": "strict"}).ok()
        took = time.monotonic() - started
        probes = wire.frames(lambda f: f.is_arp_probe and f.destination == "192.168.12.99")
    assert len(probes) == 3  # PROBE_NUM
    assert took >= 4.0  # two spacings of PROBE_MIN and ANNOUNCE_WAIT
    assert took < 12.0


def test_fast_detection_of_both_families_costs_at_most_300_ms(node: Node, lan: Lan) -> None:
    pod = node.pod()
    with lan.capture() as wire:
        node.add(pod, DUAL).ok()
        wire.wait(lambda f: f.is_gratuitous_arp and f.source == "192.168.12.99", "gratuitous ARP")
        wire.wait(lambda f: f.is_unsolicited_na and f.target == "fd00:12::99", "unsolicited NA")
        ours = wire.frames(lambda f: f.src == pod.mac("macvlan0"))
    first_probe = next(f for f in ours if f.is_arp_probe or f.is_nd_probe)
    assert ours[-1].time - first_probe.time <= 0.3
