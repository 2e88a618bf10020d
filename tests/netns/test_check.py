"""CHECK sees every difference between the kernel and what ADD made."""

from __future__ import annotations

import os

import pytest
from lab import ASSIGN, Node, Pod, source, unchanged
from lab.network import PODS4

DRIFT, UNKNOWN_CONTAINER = 107, 3
DUAL = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1")
OFF = {"conflictDetection": "off"}


def own_rule(pod: Pod, selector: str, value: str) -> str:
    for rule in pod.rules():
        if rule.get("protocol") == "77" and rule.get(selector) == value:
            return f"priority {rule['priority']}"
    raise AssertionError(f"no rule with {selector} {value}")


def own_table(pod: Pod) -> str:
    return str(next(rule["table"] for rule in pod.rules() if rule.get("protocol") == "77"))


DRIFTS = {
    "address removed": (
        lambda pod: pod.ip("address delete 192.168.12.99/24 dev macvlan0"),
        ["192.168.12.99"],
    ),
    "IPv6 address removed": (
        lambda pod: pod.ip("address delete fd00:12::99/64 dev macvlan0"),
        ["fd00:12::99"],
    ),
    "other prefix length": (
        lambda pod: pod.ip(
            "address add 192.168.12.99/32 dev macvlan0 noprefixroute",
            "address delete 192.168.12.99/24 dev macvlan0",
        ),
        ["192.168.12.99/24"],
    ),
    "MAC changed": (lambda pod: pod.ip("link set macvlan0 address 02:00:00:00:00:07"), ["02:00:00:00:00:07"]),
    "down": (lambda pod: pod.ip("link set macvlan0 down"), ["macvlan0", "up"]),
    "MTU": (lambda pod: pod.ip("link set macvlan0 mtu 1400"), ["1400", "1500"]),
    "mode": (lambda pod: pod.ip("link set macvlan0 type macvlan mode private"), ["bridge", "private"]),
    "default route gone": (
        lambda pod: pod.ip(f"route delete default table {own_table(pod)}"),
        ["192.168.12.1"],
    ),
    "prefix route gone": (
        lambda pod: pod.ip(f"route delete 192.168.12.0/24 table {own_table(pod)}"),
        ["192.168.12.0/24"],
    ),
    "IPv6 default route gone": (
        lambda pod: pod.ip(f"-6 route delete default table {own_table(pod)}"),
        ["fd00:12::1"],
    ),
    "rule gone": (
        lambda pod: pod.ip(f"rule delete {own_rule(pod, 'src', '192.168.12.99')}"),
        ["192.168.12.99", "rule"],
    ),
    "device rule gone": (
        lambda pod: pod.ip(f"rule delete {own_rule(pod, 'oif', 'macvlan0')}"),
        ["macvlan0", "rule"],
    ),
    "arp_ignore": (lambda pod: pod.sysctl("net/ipv4/conf/macvlan0/arp_ignore", 0), ["arp_ignore"]),
    "arp_announce": (lambda pod: pod.sysctl("net/ipv4/conf/macvlan0/arp_announce", 0), ["arp_announce"]),
    "rp_filter": (lambda pod: pod.sysctl("net/ipv4/conf/macvlan0/rp_filter", 1), ["rp_filter"]),
    "forwarding": (lambda pod: pod.sysctl("net/ipv4/conf/macvlan0/forwarding", 1), ["forwarding"]),
    "accept_ra": (lambda pod: pod.sysctl("net/ipv6/conf/macvlan0/accept_ra", 1), ["accept_ra"]),
    "IPv6 off": (lambda pod: pod.sysctl("net/ipv6/conf/macvlan0/disable_ipv6", 1), ["fd00:12::99"]),
    "interface gone": (lambda pod: pod.ip("link delete macvlan0"), ["macvlan0"]),
    "interface renamed": (
        lambda pod: pod.ip("link set macvlan0 down", "link set macvlan0 name lan7", "link set lan7 up"),
        ["macvlan0"],
    ),
    "other kind of link": (
        lambda pod: pod.ip("link delete macvlan0", "link add macvlan0 type veth peer name other"),
        ["macvlan", "veth"],
    ),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_single_drift_is_found_and_named(node: Node, drift: str) -> None:
    pod = node.pod()
    node.add(pod, DUAL, conf=OFF).ok()
    node.check(pod).ok()
    change, words = DRIFTS[drift]
    change(pod)
    with unchanged(pod, node):
        node.check(pod).refused(DRIFT, *words)


def test_macvlan_of_another_parent_is_found(node: Node, lan) -> None:
    lan.plug(node, "eth1")
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    mac = pod.mac("macvlan0")
    pod.ip("link delete macvlan0")
    node.ip(f"link add link eth1 name macvlan0 netns {pod.name} address {mac} type macvlan mode bridge")
    node.check(pod).refused(DRIFT, "eth0")


def test_all_drifts_are_listed_at_once(node: Node) -> None:
    pod = node.pod()
    node.add(pod, DUAL, conf=OFF).ok()
    pod.sysctl("net/ipv4/conf/macvlan0/arp_ignore", 0)
    pod.ip(
        "link set macvlan0 mtu 1400",
        "link set macvlan0 type macvlan mode private",
        f"route delete default table {own_table(pod)}",
        "address delete 192.168.12.99/24 dev macvlan0",
    )
    node.check(pod).refused(DRIFT, "arp_ignore", "1400", "private", "192.168.12.99", "192.168.12.1")


def test_check_is_content_when_the_drift_is_mended(node: Node) -> None:
    pod = node.pod()
    node.add(pod, DUAL, conf=OFF).ok()
    pod.ip("link set macvlan0 mtu 1400")
    node.check(pod).refused(DRIFT)
    pod.ip("link set macvlan0 mtu 1500")
    node.check(pod).ok()


def test_route_of_a_bare_interface_is_checked(node: Node) -> None:
    pod = node.pod()
    node.add(pod, {ASSIGN: "true"}, conf={"clusterNetworks": [PODS4]}).ok()
    node.check(pod).ok()
    pod.ip(f"route delete {PODS4}")
    node.check(pod).refused(DRIFT, PODS4)


def test_drift_under_default_routes_is_found(node: Node) -> None:
    pod = node.pod()
    asked = source("192.168.12.99/24", routes="default")
    node.add(pod, asked, conf={**OFF, "clusterNetworks": [PODS4]}).ok()
    node.check(pod).ok()
    pod.ip(f"route delete {PODS4}")
    node.check(pod).refused(DRIFT, PODS4)


def test_lost_claim_of_the_address_is_found(node: Node) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    node.drop_claim("192.168.12.99")
    node.check(pod).refused(DRIFT, "192.168.12.99")


def test_pod_without_annotation_is_not_checked(node: Node) -> None:
    pod = node.pod()
    node.add(pod).ok()
    with unchanged(pod, node):
        node.check(pod).ok()
    assert node.written_files() == []


def test_attachment_without_a_record_is_unknown(node: Node) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    os.unlink(node.record(pod))
    with unchanged(pod, node):
        node.check(pod).refused(UNKNOWN_CONTAINER)


def test_check_of_a_vanished_pod_says_so(node: Node) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    pod.remove()
    answer = node.check(pod)
    assert answer.status != 0
    assert answer.json["code"] in (8, DRIFT)
    assert pod.path in answer.json["msg"] + answer.json.get("details", "")


def test_check_needs_version_0_4_0(node: Node) -> None:
    pod = node.pod(version="0.3.1")
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    node.check(pod).refused(1, "0.4.0")
