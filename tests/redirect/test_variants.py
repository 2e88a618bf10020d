"""The redirect beside other choices: mode and name of the interface, standalone use, gateways, older kernels."""

from __future__ import annotations

import pytest
from lab import POD_ANNOTATIONS, Lan, Namespace, Node, Pod, Request, unchanged
from lab.network import OUTSIDE4, OUTSIDE6
from lab.traffic import exchange

from .asking import EGRESS4, EGRESS6, GATEWAY4, GATEWAY6, OFF, egress, own, redirect, senders

INVALID_CONFIGURATION, MASTER_UNUSABLE = 7, 101
LINES = (f"80 tcp {OUTSIDE4} 8080", f"80 tcp {OUTSIDE6} 8080", OUTSIDE4)


def serves(pod: Pod, client: Namespace, outside: Namespace) -> None:
    """Both families arrive under the egress source."""
    for version in (4, 6):
        address = own(pod, version)
        assert exchange("tcp", client, (address, 80), outside, 8080).source == egress(address)
    assert exchange("udp", client, (pod.address, 53), outside, 53).source == EGRESS4


@pytest.mark.parametrize("mode", ["private", "vepa", "passthru"])
def test_every_mode_of_the_interface(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod, mode: str
) -> None:
    asked = redirect(*LINES, mode=mode)
    if mode == "passthru":  # it takes a NIC alone
        lan.plug(node, "eth1")
        asked["pod.network.openshift.io/assign-macvlan"] = "eth1"
    with unchanged(pod, node):
        node.add(pod, asked).ok()
        serves(pod, client, outside)
        node.check(pod).ok()
        node.delete(pod).ok()


@pytest.mark.parametrize("name", ["lan0", "net-1.20", "a=b+c"])
def test_name_of_the_interface(node: Node, outside: Namespace, pod: Pod, client: Pod, name: str) -> None:
    with unchanged(pod, node):
        node.add(pod, redirect(*LINES), conf={**OFF, "ifName": name}).ok()
        serves(pod, client, outside)
        node.check(pod).ok()
        node.delete(pod).ok()


@pytest.mark.parametrize("name", ['lan"0', "lan*", "lan{}", "lán"])
def test_name_that_no_rule_can_hold_is_refused(node: Node, pod: Pod, name: str) -> None:
    with unchanged(pod, node):
        node.add(pod, redirect(*LINES), conf={**OFF, "ifName": name}).refused(INVALID_CONFIGURATION, name)


def standalone(node: Node, pod: Pod, ifname: str = "net1") -> Request:
    """As Multus asks for a second network of an annotated pod."""
    conf = {
        **OFF,
        "allow": [{"namespaces": ["*"]}],
        "runtimeConfig": {POD_ANNOTATIONS: redirect(*LINES)},
    }
    return node.standalone(pod, ifname, conf=conf).but({"CNI_ARGS": pod.args})


@pytest.mark.parametrize("main", ["calico", "bridge", "ptp"])
def test_standalone_redirects_what_comes_by_the_default_routes_interface(
    node: Node, outside: Namespace, main: str
) -> None:
    pod, client = node.pod(main), node.pod(main)
    with unchanged(pod, node):
        node.send_add(pod, standalone(node, pod)).ok()
        serves(pod, client, outside)
        node.check(pod, "net1").ok()
        node.delete(pod, "net1").ok()


def test_standalone_in_a_pod_without_another_interface_is_refused(node: Node) -> None:
    pod = node.pod()
    pod.ip("link delete eth0")
    with unchanged(pod, node):
        node.send_add(pod, standalone(node, pod)).refused(MASTER_UNUSABLE, "main interface")


def test_gateway_itself_can_be_the_destination(node: Node, lan: Lan, pod: Pod, client: Pod) -> None:
    with unchanged(pod, node):
        node.add(pod, redirect(f"80 tcp {GATEWAY4}", f"80 tcp {GATEWAY6}"), conf=OFF).ok()
        for address in (pod.address, pod.address6):
            assert exchange("tcp", client, (address, 80), lan, 80).source == egress(address)
        node.check(pod).ok()
        node.delete(pod).ok()


def test_destination_that_is_a_gateway_outside_the_prefix(
    node: Node, lan: Lan, pod: Pod, client: Pod
) -> None:
    lan.ip("address add 192.168.77.1/32 dev br0", f"route add {EGRESS4}/32 dev br0")
    asked = redirect("80 tcp 192.168.77.1", families=(4,))
    asked |= {"macvlan-egress/source": EGRESS4, "macvlan-egress/gateway": "192.168.77.1"}
    node.add(pod, asked, conf=OFF).ok()
    assert exchange("tcp", client, (pod.address, 80), lan, 80).source == EGRESS4


def test_second_nic_carries_the_redirect(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod
) -> None:
    lan.plug(node, "eth1")
    asked = redirect(*LINES) | {"pod.network.openshift.io/assign-macvlan": "eth1"}
    node.add(pod, asked, conf=OFF).ok()
    with lan.capture(node, "eth1") as wire:
        serves(pod, client, outside)
        assert senders(wire, OUTSIDE4, OUTSIDE6) == {
            (pod.mac("macvlan0"), EGRESS4),
            (pod.mac("macvlan0"), EGRESS6),
        }


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"net/ipv6/conf/eth0/forwarding": 1},
        {"net/ipv6/conf/all/forwarding": 1},
        {"net/ipv6/conf/all/forwarding": 1, "net/ipv6/conf/eth0/forwarding": 0},
        {"net/ipv6/conf/default/forwarding": 1},
    ],
    ids=["host", "eth0-forwards", "router", "router-but-for-eth0", "new-links-forward"],
)
def test_kernel_without_force_forwarding(
    node: Node, outside: Namespace, pod: Pod, client: Pod, found: dict[str, int]
) -> None:
    """Before Linux 6.17, IPv6 is forwarded for all interfaces or none."""
    for key, value in found.items():
        pod.sysctl(key, value)
    as_host = {key: pod.sysctl(f"net/ipv6/conf/eth0/{key}") for key in ("forwarding", "accept_ra")}
    request = node.request(pod, redirect(*LINES), conf=OFF)
    hidden = "/proc/sys/net/ipv6/conf/eth0/force_forwarding"
    older = ("strace", "-f", "-qq", "-o", "/dev/null", "-P", hidden, "-e", "inject=openat:error=ENOENT")
    with unchanged(pod, node):
        node.execute({"CNI_COMMAND": "ADD", **request.environment}, request.stdin, wrapper=older).ok()
        assert pod.sysctl("net/ipv6/conf/eth0/force_forwarding") == "0"
        serves(pod, client, outside)
        assert {key: pod.sysctl(f"net/ipv6/conf/eth0/{key}") for key in as_host} == as_host
        assert pod.sysctl("net/ipv6/conf/macvlan0/forwarding") == "0"
        node.send("CHECK", request).ok()
        node.send("DEL", request).ok()
