"""The LAN is told at once where an address is now."""

from __future__ import annotations

from lab import Lab, Lan, Node, source, unchanged

DUAL = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1")


def test_gratuitous_arp_and_unsolicited_advertisement_are_sent(node: Node, lan: Lan) -> None:
    pod = node.pod()
    with lan.capture() as wire:
        node.add(pod, DUAL).ok()
        arp = wire.wait(lambda f: f.is_gratuitous_arp and f.source == "192.168.12.99", "gratuitous ARP")
        advertisement = wire.wait(
            lambda f: f.is_unsolicited_na and f.target == "fd00:12::99", "unsolicited NA"
        )
    mac = pod.mac("macvlan0")
    assert (arp.src, arp.dst) == (mac, "ff:ff:ff:ff:ff:ff")
    assert (advertisement.src, advertisement.dst) == (mac, "33:33:00:00:00:01")


def test_probes_come_before_the_announcement_and_claim_nothing(node: Node, lan: Lan) -> None:
    pod = node.pod()
    with lan.capture() as wire:
        node.add(pod, DUAL).ok()
        wire.wait(lambda f: f.is_gratuitous_arp and f.source == "192.168.12.99", "gratuitous ARP")
        frames = wire.frames(lambda f: f.src == pod.mac("macvlan0"))
    probes = [f for f in frames if f.is_arp_probe and f.destination == "192.168.12.99"]
    assert len(probes) >= 2
    first_claim = next(
        i for i, f in enumerate(frames) if f.ethertype == 0x0806 and f.source == "192.168.12.99"
    )
    assert frames.index(probes[0]) < first_claim
    assert any(f.is_nd_probe and f.target == "fd00:12::99" for f in frames)
    assert not [f for f in frames[:first_claim] if f.source == "fd00:12::99"]


def test_router_learns_the_new_place_of_an_address_that_moves_to_another_node(
    lab: Lab, node: Node, lan: Lan
) -> None:
    old, other_node = node.pod(), lab.another_node("192.168.12.11", "fd00:12::11")
    node.add(old, DUAL).ok()
    assert lan.reach(old, "192.168.12.99")
    assert lan.reach(old, "fd00:12::99")
    assert lan.neighbour("192.168.12.99") == lan.neighbour("fd00:12::99") == old.mac("macvlan0")
    node.delete(old).ok()

    new = other_node.pod()
    with lan.capture(other_node) as wire:
        other_node.add(new, DUAL).ok()
        wire.wait(lambda f: f.is_gratuitous_arp and f.source == "192.168.12.99", "gratuitous ARP")
        wire.wait(lambda f: f.is_unsolicited_na and f.target == "fd00:12::99", "unsolicited NA")
    assert lan.neighbour("192.168.12.99") == lan.neighbour("fd00:12::99") == new.mac("macvlan0")
    assert lan.reach(new, "192.168.12.99", timeout=0.5)
    assert lan.reach(new, "fd00:12::99", timeout=0.5)


def test_mac_from_the_address_moves_with_it(lab: Lab, node: Node) -> None:
    other_node = lab.another_node("192.168.12.11", "fd00:12::11")
    old, new = node.pod(), other_node.pod()
    node.add(old, DUAL, conf={"mac": "address"}).ok()
    mac = old.mac("macvlan0")
    node.delete(old).ok()
    other_node.add(new, DUAL, conf={"mac": "address"}).ok()
    assert new.mac("macvlan0") == mac


def test_bare_interface_announces_nothing(node: Node, lan: Lan) -> None:
    pod = node.pod()
    with unchanged(node), lan.capture() as wire:
        node.add(pod, {"pod.network.openshift.io/assign-macvlan": "true"}).ok()
        mac = pod.mac("macvlan0")
        node.delete(pod).ok()
        assert not wire.frames(lambda f: f.src == mac and f.ethertype == 0x0806)
