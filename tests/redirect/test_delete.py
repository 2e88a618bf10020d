"""DEL with the pod still there: rules, routes and settings of the redirect are gone, all else is as it was."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from lab import Lan, Namespace, Node, Pod, unchanged
from lab.network import OUTSIDE4, OUTSIDE6, PODS4, PODS6
from lab.traffic import exchange

from .asking import OFF, own, redirect

CONF = {**OFF, "clusterNetworks": [PODS4, PODS6]}
LINES = (f"80 tcp {OUTSIDE4} 8080", f"53 udp {OUTSIDE4},203.0.113.26", OUTSIDE6)
TABLE = "inet macvlan_egress"

# Settings that a pod may be found with, as another plugin or the node's own defaults have left them.
FOUND = {
    "plain": {},
    "forwarding for all": {"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1},
    "forwarding for eth0": {"net/ipv4/conf/eth0/forwarding": 1, "net/ipv6/conf/eth0/forwarding": 1},
    "strict reverse path filter": {"net/ipv4/conf/all/rp_filter": 1, "net/ipv4/conf/eth0/rp_filter": 1},
    "loose reverse path filter": {"net/ipv4/conf/eth0/rp_filter": 2},
    "other defaults": {"net/ipv4/conf/default/forwarding": 1, "net/ipv4/conf/default/rp_filter": 1},
}


@pytest.mark.parametrize(
    ("found", "routes"), [("plain", "destinations"), *((found, "default") for found in FOUND)]
)
def test_every_setting_is_put_back(
    node: Node, outside: Namespace, pod: Pod, client: Pod, found: str, routes: str
) -> None:
    for key, value in FOUND[found].items():
        pod.sysctl(key, value)
    with unchanged(pod, node):
        node.add(pod, redirect(*LINES, routes=routes), conf=CONF).ok()
        assert exchange("tcp", client, (pod.address, 80), outside, 8080).source == "192.168.12.99"
        assert exchange("tcp", client, (pod.address6, 80), outside, 80).source == "fd00:12::99"
        node.check(pod).ok()
        node.delete(pod).ok()
    with unchanged(pod, node):
        node.delete(pod).ok()


def _table_gone(pod: Pod) -> None:
    pod.run("nft", "delete", "table", *TABLE.split())


def _table_enlarged(pod: Pod) -> None:
    pod.run("nft", "-f", "-", stdin=f"add chain {TABLE} more\nadd rule {TABLE} forward jump more\n")


def _table_asleep(pod: Pod) -> None:
    pod.run("nft", "-f", "-", stdin=f"add table {TABLE} {{ flags dormant ; }}\n")


def _routes_gone(pod: Pod) -> None:
    pod.ip(f"route delete {OUTSIDE4}", f"-6 route delete {OUTSIDE6}")


def _rules_gone(pod: Pod) -> None:
    for family in (4, 6):
        for rule in pod.rules(family):
            if rule.get("protocol") == "77":
                pod.ip(f"-{family} rule delete priority {rule['priority']}")


def _interface_gone(pod: Pod) -> None:
    pod.ip("link delete macvlan0")


@pytest.mark.parametrize(
    "happening",
    [_table_gone, _table_enlarged, _table_asleep, _routes_gone, _rules_gone, _interface_gone],
    ids=lambda happening: happening.__name__,
)
def test_delete_reaches_its_goal_whatever_was_changed(
    node: Node, pod: Pod, happening: Callable[[Pod], None]
) -> None:
    with unchanged(pod, node):
        node.add(pod, redirect(*LINES, routes="default"), conf=CONF).ok()
        happening(pod)
        node.delete(pod).ok()


def test_delete_without_a_record_removes_rules_and_routes(node: Node, pod: Pod) -> None:
    before = pod.snapshot()
    node.add(pod, redirect(*LINES, routes="default"), conf=CONF).ok()
    os.unlink(node.record(pod))
    node.delete(pod).ok()
    after = pod.snapshot()
    for part in ("links", "addresses", "routes4", "routes6", "rules4", "rules6", "nftables"):
        assert after[part] == before[part]


def test_tables_of_others_are_left_alone(node: Node, pod: Pod) -> None:
    pod.run(
        "nft",
        "-f",
        "-",
        stdin="add table ip macvlan_egress\n"
        "add chain ip macvlan_egress out { type nat hook output priority -100 ; }\n"
        "add table inet macvlan_egress_2\n",
    )
    with unchanged(pod, node):
        node.add(pod, redirect(*LINES), conf=CONF).ok()
        node.delete(pod).ok()


def test_collection_takes_the_redirect_back_too(node: Node, pod: Pod) -> None:
    with unchanged(pod, node):
        node.add(pod, redirect(*LINES, routes="default"), conf=CONF).ok()
        node.gc().ok()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("forwarding", [0, 1])
def test_flows_end_with_the_redirect(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod, version: int, forwarding: int
) -> None:
    """None goes on by the main interface, even if the pod may forward there."""
    pod.sysctl("net/ipv4/ip_forward", forwarding)
    pod.sysctl("net/ipv6/conf/all/forwarding", forwarding)
    node.add(pod, redirect(OUTSIDE4, OUTSIDE6), conf=CONF).ok()
    server = OUTSIDE4 if version == 4 else OUTSIDE6
    to = (own(pod, version), 4711)
    assert exchange("udp", client, to, outside, 4711, source_port=4711).target == server
    node.delete(pod).ok()
    with lan.capture() as wire:
        visit = exchange("udp", client, to, pod, 4711, source_port=4711)
        assert (visit.source, visit.target) == (own(client, version), own(pod, version))
        assert not wire.frames(lambda f: f.destination == server)
