"""The plugin as the whole of a network: a podman container whose only interface is the macvlan."""

from __future__ import annotations

import ipaddress
import os

import pytest
import shipped
from lab import Lan, Namespace, Node
from podman import Failure, Podman

ROUTER = "192.168.12.1"
FIRST, LAST = shipped.addresses(shipped.STANDALONE)
SECOND = str(ipaddress.ip_address(FIRST) + 1)
MAC = "02:00:5e:10:00:01"


@pytest.fixture
def podman(podman: Podman) -> Podman:
    podman.network()
    return podman


def test_container_is_on_the_lan(podman: Podman, lan: Lan) -> None:
    container = podman.start()
    assert container.links() == ["eth0", "lo"]
    assert container.link("eth0")["linkinfo"]["info_kind"] == "macvlan"
    assert list(container.addresses("eth0")) == [f"{FIRST}/24"]
    container.execute("ping", "-c", "1", "-W", "2", ROUTER)
    assert lan.reach(container, FIRST) == ROUTER


def test_podman_shows_the_address_asked_for_and_the_mac(podman: Podman, lan: Lan) -> None:
    podman.network(mac=MAC)
    container = podman.start("--ip", LAST)
    assert container.mac("eth0") == MAC
    shown = container.settings["Networks"]["lan"]
    assert (shown["IPAddress"], shown["IPPrefixLen"]) == (LAST, 24)
    assert (shown["Gateway"], shown["MacAddress"]) == (ROUTER, MAC)
    container.execute("ping", "-c", "1", "-W", "2", ROUTER)
    assert lan.neighbour(LAST) == MAC


def test_mac_asked_for_on_the_command_line(podman: Podman) -> None:
    assert podman.start("--mac-address", MAC).mac("eth0") == MAC


def test_containers_reach_each_other_and_beyond_the_router(podman: Podman, outside: Namespace) -> None:
    one, other = podman.start(), podman.start()
    assert podman.leases() == [FIRST, SECOND]
    assert one.reach(other, SECOND) == FIRST
    assert one.reach(outside, "203.0.113.25") == FIRST


def test_removing_the_container_leaves_nothing(podman: Podman, node: Node) -> None:
    before = node.snapshot()
    container = podman.start()
    assert podman.records()
    assert podman.leases() == [FIRST]
    container.remove()
    assert podman.records() == []
    assert podman.leases() == []
    assert not os.path.exists(container.path)
    assert node.snapshot() == before


def test_held_address_is_refused_with_its_holder_and_given_back(podman: Podman, lan: Lan, node: Node) -> None:
    holder = lan.host(FIRST)
    with pytest.raises(Failure) as failure:
        podman.start()
    assert FIRST in str(failure.value)
    assert holder.mac() in str(failure.value)
    assert podman.records() == []
    assert podman.leases() == []
