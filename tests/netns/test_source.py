"""A pod with a source address: on the LAN with its own MAC and address, and otherwise as before."""

from __future__ import annotations

import pytest
from lab import Lan, Namespace, Node, source, unchanged
from lab.network import OUTSIDE4, OUTSIDE6

TCP = 6
HOST4, HOST6 = "192.168.12.50", "fd00:12::50"
DUAL = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1")
PROTOCOL = "77"


@pytest.mark.parametrize("main", ["calico", "bridge", "ptp"])
def test_whole_life_after_any_main_plugin(node: Node, lan: Lan, outside: Namespace, main: str) -> None:
    host = lan.host(HOST4, HOST6)
    pod = node.pod(main)
    with unchanged(pod, node):
        node.add(pod, DUAL).ok()
        for target, address, own in ((host, HOST4, "192.168.12.99"), (host, HOST6, "fd00:12::99")):
            assert pod.reach(target, address, source=own) == own
            assert target.reach(pod, own) == address
        assert pod.reach(outside, OUTSIDE4, source="192.168.12.99") == "192.168.12.99"
        assert pod.reach(outside, OUTSIDE6, source="fd00:12::99") == "fd00:12::99"
        node.check(pod).ok()
        node.delete(pod).ok()
    pod.disconnect()


def test_lan_sees_the_pods_own_mac_and_address(node: Node, lan: Lan) -> None:
    host = lan.host(HOST4)
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24")).ok()
    with lan.capture() as wire:
        assert pod.reach(host, HOST4, source="192.168.12.99") == "192.168.12.99"
        there = wire.wait(lambda f: f.source == "192.168.12.99" and f.proto == TCP, "the pod's TCP")
        back = wire.wait(lambda f: f.destination == "192.168.12.99" and f.proto == TCP, "the host's TCP")
    mac = pod.mac("macvlan0")
    assert mac != node.mac()
    assert (there.src, there.dst) == (mac, host.mac())
    assert (back.src, back.dst) == (host.mac(), mac)


def test_traffic_of_a_process_bound_to_macvlan0_leaves_by_it(node: Node, outside: Namespace) -> None:
    pod = node.pod()
    node.add(pod, DUAL).ok()
    assert pod.reach(outside, OUTSIDE4, device="macvlan0") == "192.168.12.99"
    assert pod.reach(outside, OUTSIDE6, device="macvlan0") == "fd00:12::99"


def test_other_traffic_of_the_pod_stays_on_eth0(node: Node, lan: Lan, outside: Namespace) -> None:
    lan.host(HOST4)
    pod, neighbour = node.pod(), node.pod()
    targets = (
        OUTSIDE4,
        OUTSIDE6,
        "192.168.12.10",
        HOST4,
        HOST6,
        neighbour.address,
        neighbour.address6,
        "10.96.0.10",
    )
    before = {target: pod.route_get(target) for target in targets}
    node.add(pod, DUAL).ok()
    assert {target: pod.route_get(target) for target in targets} == before
    assert pod.reach(outside, OUTSIDE4) == pod.address
    assert pod.reach(outside, OUTSIDE6) == pod.address6
    assert outside.reach(pod, pod.address) == OUTSIDE4
    assert neighbour.reach(pod, pod.address) == neighbour.address


def test_main_table_stays_as_it_was(node: Node) -> None:
    pod = node.pod()
    before = {family: pod.routes(family=family) for family in (4, 6)}
    node.add(pod, DUAL).ok()
    for family in (4, 6):
        new = [route for route in pod.routes(family=family) if route not in before[family]]
        assert [route for route in new if not route["dst"].startswith(("fe80:", "multicast"))] == []


@pytest.mark.parametrize("family", [4, 6])
def test_table_of_its_own_holds_prefix_and_default_route(node: Node, family: int) -> None:
    pod = node.pod()
    node.add(pod, DUAL).ok()
    rules = [rule for rule in pod.rules(family) if rule.get("protocol") == PROTOCOL]
    own = "192.168.12.99" if family == 4 else "fd00:12::99"
    assert any(rule["src"] == own for rule in rules)
    assert any(rule.get("oif") == "macvlan0" for rule in rules)
    assert all(7200 <= rule["priority"] < 7300 for rule in rules)
    (table,) = {rule["table"] for rule in rules}
    assert int(table) >= 7200
    routes = {route["dst"]: route for route in pod.routes(table, family)}
    prefix, gateway = ("192.168.12.0/24", "192.168.12.1") if family == 4 else ("fd00:12::/64", "fd00:12::1")
    assert routes["default"]["gateway"] == gateway
    assert prefix in routes
    assert {route["dev"] for route in routes.values()} == {"macvlan0"}
    assert {route["protocol"] for route in routes.values()} == {PROTOCOL}


def test_address_carries_its_prefix_but_no_prefix_route(node: Node) -> None:
    pod = node.pod()
    node.add(pod, DUAL).ok()
    addresses = pod.addresses("macvlan0")
    assert set(addresses) == {"192.168.12.99/24", "fd00:12::99/64"}
    assert all(address["noprefixroute"] for address in addresses.values())


def test_link_is_up_with_the_nodes_nic_as_parent(node: Node) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24")).ok()
    link = pod.link("macvlan0")
    assert link is not None
    assert "UP" in link["flags"]
    assert link["link_index"] == (node.link("eth0") or {})["ifindex"]
    assert link["linkinfo"]["info_kind"] == "macvlan"
    assert link["linkinfo"]["info_data"]["mode"] == "bridge"
    assert node.link("macvlan0") is None


def test_source_without_prefix_length_is_reached_through_the_gateway(
    node: Node, lan: Lan, outside: Namespace
) -> None:
    host = lan.host(HOST4, HOST6)
    pod = node.pod()
    node.add(pod, source("192.168.12.99,fd00:12::99", "192.168.12.1,fd00:12::1")).ok()
    assert set(pod.addresses("macvlan0")) == {"192.168.12.99/32", "fd00:12::99/128"}
    assert pod.reach(host, HOST4, source="192.168.12.99") == "192.168.12.99"
    assert pod.reach(host, HOST6, source="fd00:12::99") == "fd00:12::99"
    assert pod.reach(outside, OUTSIDE4, source="192.168.12.99") == "192.168.12.99"
    assert host.reach(pod, "192.168.12.99") == HOST4


def test_gateway_outside_the_prefix_is_reached_on_link(node: Node, lan: Lan, outside: Namespace) -> None:
    lan.ip("address add 192.168.77.1/32 dev br0", "route add 192.168.12.98/32 dev br0")
    pod = node.pod()
    node.add(pod, source("192.168.12.98/28", "192.168.77.1")).ok()
    with lan.capture() as wire:
        assert pod.reach(outside, OUTSIDE4, source="192.168.12.98") == "192.168.12.98"
        wire.wait(
            lambda f: f.destination == "192.168.77.1" and f.source == "192.168.12.98", "ARP for the gateway"
        )


def test_source_without_gateway_reaches_its_prefix_and_no_further(
    node: Node, lan: Lan, outside: Namespace
) -> None:
    host = lan.host(HOST4)
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24", "")).ok()
    assert pod.reach(host, HOST4, source="192.168.12.99") == "192.168.12.99"
    assert host.reach(pod, "192.168.12.99") == HOST4
    with lan.capture() as wire:
        pod.reach(outside, OUTSIDE4, source="192.168.12.99", timeout=0.3)
        assert not wire.frames(lambda f: f.src == pod.mac("macvlan0") and f.destination == OUTSIDE4)


def test_sysctls_of_the_interface(node: Node) -> None:
    pod = node.pod()
    node.add(pod, DUAL).ok()
    found = {
        key: pod.sysctl(f"net/{key.replace('IF', 'macvlan0')}")
        for key in (
            "ipv4/conf/IF/arp_ignore", "ipv4/conf/IF/arp_announce", "ipv4/conf/IF/rp_filter",
            "ipv4/conf/IF/forwarding", "ipv6/conf/IF/accept_ra", "ipv6/conf/IF/forwarding",
            "ipv6/conf/IF/disable_ipv6",
        )
    }  # fmt: skip
    assert found == {
        "ipv4/conf/IF/arp_ignore": "1",
        "ipv4/conf/IF/arp_announce": "2",
        "ipv4/conf/IF/rp_filter": "2",
        "ipv4/conf/IF/forwarding": "0",
        "ipv6/conf/IF/accept_ra": "0",
        "ipv6/conf/IF/forwarding": "0",
        "ipv6/conf/IF/disable_ipv6": "0",
    }


def test_ipv6_is_off_on_the_interface_without_an_ipv6_source(node: Node) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24")).ok()
    assert pod.sysctl("net/ipv6/conf/macvlan0/disable_ipv6") == "1"
    assert pod.sysctl("net/ipv6/conf/eth0/disable_ipv6") == "0"


def test_arp_is_answered_for_own_addresses_only(node: Node, lan: Lan) -> None:
    host = lan.host(HOST4)
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24")).ok()
    host.ip(f"route add {pod.address}/32 dev eth0")
    with lan.capture(host) as wire:
        assert host.reach(pod, pod.address, timeout=0.5) is None
        assert wire.frames(lambda f: f.destination == pod.address), (
            "the host asked for the pod's eth0 address"
        )
        assert not wire.frames(lambda f: f.source == pod.address)


def test_nothing_is_forwarded_from_the_lan_into_the_cluster(node: Node, lan: Lan) -> None:
    host = lan.host(HOST4)
    pod, neighbour = node.pod(), node.pod()
    pod.sysctl("net/ipv4/ip_forward", 1)  # as a pod inherits it on a Kubernetes node
    node.add(pod, source("192.168.12.99/24")).ok()
    host.ip("route add 10.244.0.0/16 via 192.168.12.99")
    assert host.reach(neighbour, neighbour.address, timeout=0.5) is None
