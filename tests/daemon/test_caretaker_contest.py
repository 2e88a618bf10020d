"""A node that was cut off comes back, and another one has its pod's address by then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from lab import Frame, Lab, Lan, Node, Pod, source

from .running import Daemon, eventually

ADDRESSES = ("192.168.12.99", "fd00:12::99")
ASKED = {
    "192.168.12.99": source("192.168.12.99/24", "192.168.12.1"),
    "fd00:12::99": source("fd00:12::99/64", "fd00:12::1"),
}
QUICK = {"conflictTimeoutMs": 50}


@dataclass
class Return:
    """The old pod, whose node is cut off, and the new one on another node."""

    lan: Lan
    node: Node
    old: Pod
    new: Pod
    address: str

    def plug_in(self) -> None:
        self.lan.ip(f"link set {self.lan.port(self.node)} up")

    def is_claim(self, frame: Frame) -> bool:
        """Whether the old pod says to the LAN that the address is its own."""
        claims = (frame.is_gratuitous_arp and frame.source == self.address) or (
            frame.is_unsolicited_na and frame.target == self.address
        )
        return claims and frame.src == self.old.mac("macvlan0")


@pytest.fixture(params=ADDRESSES)
def comeback(lab: Lab, node: Node, lan: Lan, request: pytest.FixtureRequest) -> Return:
    address = request.param
    old = node.pod()
    node.add(old, ASKED[address], conf=QUICK).ok()
    then = time.time() - 1000
    os.utime(node.record(old), (then, then))
    lan.ip(f"link set {lan.port(node)} down")
    other = lab.another_node("192.168.12.11", "fd00:12::11")
    new = other.pod()
    other.add(new, ASKED[address], conf=QUICK).ok()
    return Return(lan, node, old, new, address)


def holds(pod: Pod, address: str) -> bool:
    shown = pod.show("address show dev macvlan0")
    return address in [one["local"] for one in shown[0]["addr_info"]]


def test_node_that_comes_back_does_not_announce_what_another_one_has(
    comeback: Return, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon("--announce-every", "0.5").start()
    eventually(lambda: daemon.metric("masters_unusable") == 1, "the lost carrier is not seen")
    comeback.plug_in()
    with comeback.lan.capture() as wire:
        eventually(lambda: daemon.metric("contested") == 1, "the other holder is not found")
        announced = daemon.metric("announcements_total")
        assert not wire.frames(comeback.is_claim)
    (line,) = daemon.told(lambda line: line.get("mac") == comeback.new.mac("macvlan0"))
    assert comeback.address in line["msg"]
    assert holds(comeback.old, comeback.address)  # it is reported, and nothing else
    assert daemon.metric("announcements_total") == announced
    comeback.new.node.delete(comeback.new).ok()
    eventually(lambda: daemon.metric("contested") == 0, "it is not seen that the other one has gone")
    eventually(lambda: daemon.metric("announcements_total") > announced, "it is not announced again")


def test_node_that_comes_back_steps_back_if_it_may_and_returns_when_the_address_is_free(
    comeback: Return, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon("--announce-every", "0.5", "--drift", "repair", "--drift-every", "1").start()
    eventually(lambda: daemon.metric("masters_unusable") == 1, "the lost carrier is not seen")
    comeback.plug_in()
    eventually(lambda: not holds(comeback.old, comeback.address), "the address is not taken off")
    eventually(lambda: daemon.metric("stepped_back_total") >= 1, "that is not counted")
    assert comeback.lan.reach(comeback.new, comeback.address) is not None
    assert comeback.lan.neighbour(comeback.address) == comeback.new.mac("macvlan0")
    comeback.new.node.delete(comeback.new).ok()
    eventually(lambda: holds(comeback.old, comeback.address), "the address is not put back", 30)
    assert comeback.lan.reach(comeback.old, comeback.address) is not None
    eventually(lambda: comeback.node.check(comeback.old).status == 0, "CHECK finds a difference", 30)


def test_add_of_another_node_that_asks_for_the_address_drives_nobody_away(
    lab: Lab, node: Node, make_daemon: Callable[..., Daemon]
) -> None:
    pod, other = node.pod(), lab.another_node("192.168.12.11", "fd00:12::11")
    node.add(pod, ASKED[ADDRESSES[0]], conf=QUICK).ok()
    daemon = make_daemon("--announce-every", "0.2", "--drift", "repair").start()
    eventually(lambda: daemon.metric("announcements_total") > 1, "nothing is announced")
    for _ in range(5):
        assert other.add(other.pod(), ASKED[ADDRESSES[0]]).status != 0
    assert daemon.metric("contested") == daemon.metric("stepped_back_total") == 0
    assert holds(pod, ADDRESSES[0])
