"""The daemon tells the LAN again and again where addresses are, and at once when a NIC has come back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from lab import Frame, Lan, Node, Pod, source

from .running import Daemon, Warm, eventually

ADDRESS4, ADDRESS6 = "192.168.12.99", "fd00:12::99"
DUAL = source(f"{ADDRESS4}/24,{ADDRESS6}/64", "192.168.12.1,fd00:12::1")
OFF = {"conflictDetection": "off"}
LONG_AGO = 1000.0  # seconds


def is_arp(frame: Frame) -> bool:
    return frame.is_gratuitous_arp and frame.source == ADDRESS4


def is_advertisement(frame: Frame) -> bool:
    return frame.is_unsolicited_na and frame.target == ADDRESS6


def grow_old(node: Node, pod: Pod) -> None:
    """The attachment was made long ago, so that only something new makes it be announced soon."""
    then = time.time() - LONG_AGO
    os.utime(node.record(pod), (then, then))


def test_new_attachment_is_announced_again_soon(lan: Lan, node: Node, daemon: Daemon, warm: Warm) -> None:
    pod = node.pod()
    with lan.capture() as wire:
        warm.send("ADD", node.request(pod, DUAL, conf=OFF)).ok()
        added = time.time()
        arp = wire.wait(lambda f: is_arp(f) and f.time > added, "another gratuitous ARP", 5)
        advertisement = wire.wait(lambda f: is_advertisement(f) and f.time > added, "another NA", 5)
    mac = pod.mac("macvlan0")
    assert (arp.src, arp.dst) == (mac, "ff:ff:ff:ff:ff:ff")
    assert (advertisement.src, advertisement.dst) == (mac, "33:33:00:00:00:01")
    eventually(lambda: daemon.metric("announcements_total") >= 1, "it is not counted")
    assert daemon.metric("announcements_failed_total") == 0


def test_old_attachment_is_announced_at_intervals(
    lan: Lan, node: Node, make_daemon: Callable[..., Daemon]
) -> None:
    pod = node.pod()
    node.add(pod, DUAL, conf=OFF).ok()
    grow_old(node, pod)
    make_daemon("--announce-every", "0.3").start()
    with lan.capture() as wire:
        eventually(lambda: len(wire.frames(is_arp)) > 2, "it is not announced again")
        assert wire.frames(is_advertisement)


def test_attachments_of_a_nic_that_gets_its_carrier_back_are_announced(
    lan: Lan, node: Node, make_daemon: Callable[..., Daemon]
) -> None:
    pod = node.pod()
    node.add(pod, DUAL, conf=OFF).ok()
    grow_old(node, pod)
    daemon = make_daemon("--announce-every", "3600").start()
    port = lan.port(node)
    lan.ip(f"link set {port} down")
    eventually(lambda: daemon.metric("masters_unusable") == 1, "the lost carrier is not seen")
    lan.ip(f"link set {port} up")
    with lan.capture() as wire:
        wire.wait(is_arp, "gratuitous ARP", 5)
        wire.wait(is_advertisement, "unsolicited NA", 5)
    assert daemon.metric("masters_unusable") == 0
    assert [line["msg"] for line in daemon.told(lambda line: line.get("master") == "eth0", 2)] == [
        "NIC eth0 of attachments: it has no carrier",
        "NIC eth0 of attachments works again",
    ]


def test_what_the_pod_has_changed_is_not_announced_over(
    lan: Lan, node: Node, make_daemon: Callable[..., Daemon]
) -> None:
    """To announce is to set the MAC address: that would change back what somebody has set."""
    changed, sound = node.pod(), node.pod()
    node.add(changed, DUAL, conf=OFF).ok()
    node.add(sound, source("192.168.12.98/24"), conf=OFF).ok()
    for pod in (changed, sound):
        grow_old(node, pod)
    changed.ip("link set macvlan0 address 02:00:00:00:47:11")
    daemon = make_daemon("--announce-every", "0.2").start()
    with lan.capture() as wire:
        eventually(lambda: daemon.metric("announcements_total") >= 3, "nothing is announced")
        assert not wire.frames(is_arp)
        assert wire.frames(lambda f: f.is_gratuitous_arp and f.source == "192.168.12.98")
    assert changed.mac("macvlan0") == "02:00:00:00:47:11"


def test_announcements_can_be_turned_off(lan: Lan, node: Node, make_daemon: Callable[..., Daemon]) -> None:
    pod = node.pod()
    daemon = make_daemon("--announce-every", "0", "--drift-every", "1").start()
    node.add(pod, DUAL, conf=OFF).ok()
    with lan.capture() as wire:
        eventually(lambda: daemon.metric("drift_checks_total") > 2, "the caretaker does not work")
        assert not wire.frames(is_arp)
