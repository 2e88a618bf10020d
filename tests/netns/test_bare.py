"""Only assign-macvlan: a bare interface for a container that configures it itself, as OpenShift gives it."""

from __future__ import annotations

import pytest
from lab import ASSIGN, Lan, Namespace, Node, Pod, unchanged
from lab.network import OUTSIDE4, PODS4, PODS6

CONF = {"clusterNetworks": [PODS4, PODS6, "10.96.0.0/12"]}
MAINS = ("calico", "bridge", "ptp")


def configure_as_egress_router(pod: Pod) -> None:
    """What the script of OpenShift's egress router image does."""
    pod.ip(
        "address add 192.168.12.99/32 dev macvlan0",
        "link set macvlan0 up",
        "route add 192.168.12.1/32 dev macvlan0",
        "route del default",
        "route add default via 192.168.12.1 dev macvlan0",
    )


@pytest.mark.parametrize("wish", ["true", "eth0"])
def test_interface_is_up_and_without_address(node: Node, wish: str) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        result = node.add(pod, {ASSIGN: wish}).ok()
        link = pod.link("macvlan0")
        assert link is not None
        assert "UP" in link["flags"]
        assert pod.addresses("macvlan0") == {}
        assert result["interfaces"][-1]["name"] == "macvlan0"
        assert result["ips"] == pod.previous["ips"]
        node.check(pod).ok()
        node.delete(pod).ok()


@pytest.mark.parametrize("main", MAINS)
def test_container_that_moves_the_default_route_keeps_node_and_cluster(
    node: Node, lan: Lan, outside: Namespace, main: str
) -> None:
    host = lan.host("192.168.12.50")
    pod, neighbour = node.pod(main), node.pod(main)
    node.add(pod, {ASSIGN: "true"}, conf=CONF).ok()
    configure_as_egress_router(pod)
    assert pod.reach(outside, OUTSIDE4) == "192.168.12.99"
    assert pod.reach(host, "192.168.12.50") == "192.168.12.99"
    assert pod.reach(node, "192.168.12.10") == pod.address
    assert pod.reach(neighbour, neighbour.address) == pod.address
    assert neighbour.reach(pod, pod.address) == neighbour.address
    assert pod.route_get("10.96.0.10")["dev"] == "eth0"


def test_ipv6_of_node_and_cluster_stay_on_eth0(node: Node) -> None:
    pod, neighbour = node.pod(), node.pod()
    node.add(pod, {ASSIGN: "true"}, conf=CONF).ok()
    pod.ip(
        "address add fd00:12::99/64 dev macvlan0 nodad",
        "-6 route replace default via fd00:12::1 dev macvlan0",
    )
    assert pod.reach(node, "fd00:12::10") == pod.address6
    assert pod.reach(neighbour, neighbour.address6) == pod.address6


def test_container_that_only_adds_an_address_reaches_the_lan(node: Node, lan: Lan) -> None:
    host = lan.host("192.168.12.50")
    pod = node.pod()
    node.add(pod, {ASSIGN: "true"}).ok()
    pod.ip("address add 192.168.12.99/24 dev macvlan0")
    assert pod.reach(host, "192.168.12.50") == "192.168.12.99"
    assert host.reach(pod, "192.168.12.99") == "192.168.12.50"
    assert pod.reach(node, "192.168.12.10") == pod.address


def test_no_setting_differs_from_a_macvlan_made_by_hand(node: Node) -> None:
    pod = node.pod()
    rules = pod.rules(4), pod.rules(6)
    node.add(pod, {ASSIGN: "true"}).ok()
    node.ip(f"link add link eth0 name plain0 netns {pod.name} type macvlan mode bridge")
    pod.ip("link set plain0 up")
    sysctls = pod.snapshot()["sysctls"]
    ours = [line for line in sysctls if "/macvlan0/" in line]
    assert ours
    assert [line.replace("/macvlan0/", "/plain0/") for line in ours] == [
        line for line in sysctls if "/plain0/" in line
    ]
    assert (pod.rules(4), pod.rules(6)) == rules
    assert pod.snapshot()["nftables"] == []


def test_routes_that_exist_already_are_not_doubled(node: Node) -> None:
    pod = node.pod("bridge")  # eth0's own prefix covers the cluster network here
    before = pod.routes()
    node.add(pod, {ASSIGN: "true"}, conf={"clusterNetworks": ["10.244.0.0/24"]}).ok()
    new = [route["dst"] for route in pod.routes() if route not in before]
    assert new == ["192.168.12.10"]


def test_every_address_of_the_node_on_the_master_is_kept_reachable(node: Node) -> None:
    node.ip("address add 192.168.12.11/24 dev eth0")
    pod = node.pod()
    node.add(pod, {ASSIGN: "true"}).ok()
    configure_as_egress_router(pod)
    assert pod.reach(node, "192.168.12.11") == pod.address


def test_what_the_container_did_does_not_hinder_delete(node: Node) -> None:
    pod = node.pod()
    with unchanged(node):
        node.add(pod, {ASSIGN: "true"}, conf=CONF).ok()
        configure_as_egress_router(pod)
        node.check(pod).ok()
        node.delete(pod).ok()
    assert pod.link("macvlan0") is None
    assert not [route for route in pod.routes() if route["dst"] == "192.168.12.10"]
