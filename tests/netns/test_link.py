"""Which kind of link a pod gets: mode, MTU, MAC, name, parent."""

from __future__ import annotations

from itertools import pairwise

import pytest
from lab import ASSIGN, Lan, Node, Pod, source, unchanged

SOURCE = source("192.168.12.99/24")
MASTER_UNUSABLE, INTERFACE_EXISTS, INVALID_ANNOTATION = 101, 102, 106
OFF = {"conflictDetection": "off"}


def mode_of(pod: Pod, name: str = "macvlan0") -> str:
    return str((pod.link(name) or {})["linkinfo"]["info_data"]["mode"])


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
@pytest.mark.parametrize("where", ["configuration", "annotation"])
def test_mode(node: Node, lan: Lan, mode: str, where: str) -> None:
    host = lan.host("192.168.12.50")
    pod = node.pod()
    asked = {**SOURCE, "macvlan-egress/mode": mode} if where == "annotation" else SOURCE
    conf = {**OFF, "mode": mode} if where == "configuration" else OFF
    with unchanged(pod, node):
        node.add(pod, asked, conf=conf).ok()
        assert mode_of(pod) == mode
        assert pod.reach(host, "192.168.12.50", source="192.168.12.99") == "192.168.12.99"
        node.check(pod).ok()
        node.delete(pod).ok()


@pytest.mark.parametrize(("mode", "met"), [("bridge", "192.168.12.99"), ("private", None)])
def test_siblings_meet_in_bridge_mode_only(node: Node, mode: str, met: str | None) -> None:
    pods = [node.pod(), node.pod()]
    for pod, address in zip(pods, ("192.168.12.99/24", "192.168.12.98/24"), strict=True):
        node.add(pod, source(address, mode=mode)).ok()
    assert pods[0].reach(pods[1], "192.168.12.98", source="192.168.12.99", timeout=0.5) == met


def test_passthru_takes_the_nic_alone(node: Node, lan: Lan) -> None:
    lan.plug(node, "eth1")
    host = lan.host("192.168.12.50")
    first, second = node.pod(), node.pod()
    asked = {**source("192.168.12.99/24", mode="passthru"), ASSIGN: "eth1"}
    with unchanged(first, node):
        node.add(first, asked).ok()
        assert mode_of(first) == "passthru"
        assert first.reach(host, "192.168.12.50", source="192.168.12.99") == "192.168.12.99"
        with unchanged(second):
            answer = node.add(second, {**asked, "macvlan-egress/source": "192.168.12.98/24"}, conf=OFF)
            assert answer.status != 0
            assert "eth1" in answer.json["msg"]
        node.check(first).ok()
        node.delete(first).ok()


def test_mtu_is_the_masters(node: Node) -> None:
    node.ip("link set eth0 mtu 1400")
    pod = node.pod()
    result = node.add(pod, SOURCE).ok()
    assert (pod.link("macvlan0") or {})["mtu"] == 1400
    assert result["interfaces"][-1]["mtu"] == 1400


@pytest.mark.parametrize("where", ["configuration", "annotation"])
def test_smaller_mtu(node: Node, where: str) -> None:
    pod = node.pod()
    asked = {**SOURCE, "macvlan-egress/mtu": "1300"} if where == "annotation" else SOURCE
    node.add(pod, asked, conf={**OFF, **({"mtu": 1300} if where == "configuration" else {})}).ok()
    assert (pod.link("macvlan0") or {})["mtu"] == 1300


@pytest.mark.parametrize("where", ["configuration", "annotation"])
def test_mtu_above_the_masters_is_refused(node: Node, where: str) -> None:
    pod = node.pod()
    asked = {**SOURCE, "macvlan-egress/mtu": "9000"} if where == "annotation" else SOURCE
    with unchanged(pod, node):
        answer = node.add(pod, asked, conf={**OFF, **({"mtu": 9000} if where == "configuration" else {})})
        answer.refused(INVALID_ANNOTATION if where == "annotation" else 7, "9000", "1500", "eth0")


def test_ipv6_needs_an_mtu_of_1280(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod, source("fd00:12::99/64", "fd00:12::1", mtu="1279")).refused(INVALID_ANNOTATION, "1280")


@pytest.mark.parametrize("where", ["configuration", "annotation"])
def test_given_mac(node: Node, lan: Lan, where: str) -> None:
    pod = node.pod()
    mac = "02:0a:0b:0c:0d:0e"
    asked = {**SOURCE, "macvlan-egress/mac": mac} if where == "annotation" else SOURCE
    result = node.add(pod, asked, conf={**OFF, **({"mac": mac} if where == "configuration" else {})}).ok()
    assert pod.mac("macvlan0") == result["interfaces"][-1]["mac"] == mac
    assert lan.reach(pod, "192.168.12.99")
    assert lan.neighbour("192.168.12.99") == mac


def test_mac_from_the_address_is_stable_private_and_its_own(node: Node) -> None:
    macs = []
    for address in ("192.168.12.99/24", "192.168.12.99/24", "192.168.12.98/24", "192.168.12.99/32"):
        pod = node.pod()
        node.add(pod, source(address, mac="address"), conf=OFF).ok()
        macs.append(pod.mac("macvlan0"))
        node.delete(pod).ok()
    assert macs[0] == macs[1] == macs[3] != macs[2]
    for mac in macs:
        assert int(mac[:2], 16) & 0b11 == 0b10, f"{mac} is not a locally administered unicast address"


def test_mac_of_the_kernel_differs_from_pod_to_pod(node: Node) -> None:
    pods = [node.pod(), node.pod(), node.pod()]
    for number, pod in enumerate(pods):
        node.add(pod, source(f"192.168.12.{90 + number}/24"), conf=OFF).ok()
    macs = sorted(pod.mac("macvlan0") for pod in pods)
    assert all(one != other for one, other in pairwise([*macs, node.mac()]))


def test_name_of_the_interface(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        result = node.add(pod, SOURCE, conf={**OFF, "ifName": "lan0"}).ok()
        assert result["interfaces"][-1]["name"] == "lan0"
        assert set(pod.addresses("lan0")) == {"192.168.12.99/24"}
        node.check(pod).ok()
        node.delete(pod).ok()


@pytest.mark.parametrize("name", ["macvlan0", "eth0"])
def test_existing_interface_of_that_name_is_left_alone(node: Node, name: str) -> None:
    pod = node.pod()
    if name != "eth0":
        pod.ip(f"link add {name} type veth peer name other")
    with unchanged(pod, node):
        node.add(pod, SOURCE, conf={**OFF, "ifName": name}).refused(INTERFACE_EXISTS, name)


def test_macvlan_of_somebody_else_is_left_alone_too(node: Node) -> None:
    pod = node.pod()
    node.ip(f"link add link eth0 name macvlan0 netns {pod.name} type macvlan mode bridge")
    with unchanged(pod, node):
        node.add(pod, SOURCE, conf=OFF).refused(INTERFACE_EXISTS, "macvlan0")


def second_nic(node: Node, lan: Lan) -> int:
    lan.plug(node, "eth1")
    node.ip("address add 192.168.50.10/24 dev eth1", "address add fd00:50::10/64 dev eth1")
    return int((node.link("eth1") or {})["ifindex"])


@pytest.mark.parametrize(
    "asked",
    [
        source("192.168.50.99/24", "192.168.50.1"),
        source("10.1.1.1/32", "192.168.50.1"),
        source("192.168.50.99/24", ""),
        source("fd00:50::99/64", "fd00:50::1"),
    ],
    ids=["gateway", "gateway-outside-prefix", "source", "ipv6"],
)
def test_auto_takes_the_nic_whose_subnet_it_is(node: Node, lan: Lan, asked: dict[str, str]) -> None:
    index = second_nic(node, lan)
    pod = node.pod()
    node.add(pod, asked, conf=OFF).ok()
    assert (pod.link("macvlan0") or {})["link_index"] == index


def test_auto_without_source_takes_the_nic_of_the_default_route(node: Node, lan: Lan) -> None:
    second_nic(node, lan)
    pod = node.pod()
    node.add(pod, {ASSIGN: "true"}).ok()
    assert (pod.link("macvlan0") or {})["link_index"] == (node.link("eth0") or {})["ifindex"]


def test_named_nic_wins_over_auto_and_over_the_configuration(node: Node, lan: Lan) -> None:
    index = second_nic(node, lan)
    for conf in ({}, {"master": "eth0"}):
        pod = node.pod()
        node.add(pod, {ASSIGN: "eth1"}, conf=conf).ok()
        assert (pod.link("macvlan0") or {})["link_index"] == index


def test_master_of_the_configuration(node: Node, lan: Lan) -> None:
    index = second_nic(node, lan)
    pod = node.pod()
    node.add(pod, {ASSIGN: "true"}, conf={"master": "eth1"}).ok()
    assert (pod.link("macvlan0") or {})["link_index"] == index


def test_bridge_that_holds_the_nic_can_be_master(node: Node, lan: Lan) -> None:
    lan.plug(node, "eth1")
    node.ip("link add br1 type bridge forward_delay 0", "link set eth1 master br1", "link set br1 up")
    host = lan.host("192.168.12.50")
    pod = node.pod()
    node.add(pod, {**SOURCE, ASSIGN: "br1"}).ok()
    assert pod.reach(host, "192.168.12.50", source="192.168.12.99") == "192.168.12.99"


def _missing(_: Node) -> str:
    return "nosuch0"


def _down(node: Node) -> str:
    node.ip("link add eth7 type veth peer name eth8")
    return "eth7"


def _loopback(_: Node) -> str:
    return "lo"


def _macvlan(node: Node) -> str:
    node.ip("link add link eth0 name mv0 type macvlan mode bridge", "link set mv0 up")
    return "mv0"


def _bridge_port(node: Node) -> str:
    node.ip(
        "link add br7 type bridge",
        "link set br7 up",
        "link add eth7 type veth peer name eth8",
        "link set eth8 up",
        "link set eth7 master br7 up",
    )
    node.settle("eth8")
    node.settle("br7")
    return "eth7"


@pytest.mark.parametrize("unusable", [_missing, _down, _loopback, _macvlan, _bridge_port])
@pytest.mark.parametrize("where", ["configuration", "annotation"])
def test_unusable_master_is_refused(node: Node, unusable, where: str) -> None:
    name = unusable(node)
    pod = node.pod()
    asked = {**SOURCE, ASSIGN: name} if where == "annotation" else SOURCE
    with unchanged(pod, node):
        answer = node.add(pod, asked, conf={"master": name} if where == "configuration" else {})
        answer.refused(MASTER_UNUSABLE, name)


def test_node_without_default_route_and_subnet_says_that_master_is_to_be_named(node: Node) -> None:
    node.ip("route del default", "-6 route del default")
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod, {ASSIGN: "true"}).refused(MASTER_UNUSABLE, "master")
