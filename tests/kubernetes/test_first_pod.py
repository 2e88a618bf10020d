"""The README's way: install, then an annotated pod, and others that are left alone."""

from __future__ import annotations

from lab.network import OUTSIDE4
from lab.traffic import exchange

from .admin import EGRESS, REPOSITORY, Admin, conflist, pod
from .cluster import CONFLIST, MAIN_CNI, Cluster
from .components import NODE_ADDRESS


def test_pod_with_annotations_is_seen_outside_by_its_address(installed: Admin, cluster: Cluster) -> None:
    cluster.kubectl.apply((REPOSITORY / "conf/pod-egress.yaml").read_text())
    network = cluster.network(cluster.running("egress", "egress"))
    visit = exchange("tcp", network, (OUTSIDE4, 8080), cluster.outside, 8080, source=EGRESS)
    assert visit.source == EGRESS
    assert exchange("tcp", network, (OUTSIDE4, 8080), cluster.outside, 8080).source == NODE_ADDRESS
    assert EGRESS in installed.run("status")


def test_pod_without_annotations_is_untouched(installed: Admin, cluster: Cluster) -> None:
    cluster.kubectl.apply_objects(pod("egress", "plain"))
    network = cluster.network(cluster.running("egress", "plain"))
    assert "macvlan0" not in network.run("ip", "link")
    assert not network.run("nft", "list", "ruleset")
    assert exchange("tcp", network, (OUTSIDE4, 8080), cluster.outside, 8080).source == NODE_ADDRESS


def test_install_adds_its_entry_behind_the_main_cni_and_nothing_else(
    installed: Admin, cluster: Cluster
) -> None:
    found = conflist(cluster, CONFLIST)
    (*main, entry) = found["plugins"]
    assert {**found, "plugins": main} == MAIN_CNI
    assert entry["type"] == "macvlan-egress"
    assert "up to date" in installed.run("install", "--namespaces", "egress")


def test_pod_from_before_the_installation_keeps_its_network(admin: Admin, cluster: Cluster) -> None:
    cluster.kubectl.apply_objects(pod("clients", "old"))
    network = cluster.network(cluster.running("clients", "old"))
    admin.run("install", "--namespaces", "egress")
    assert exchange("tcp", network, (OUTSIDE4, 8080), cluster.outside, 8080).source == NODE_ADDRESS
