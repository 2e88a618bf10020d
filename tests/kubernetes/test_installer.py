"""The installer beside a main CNI and containerd that live on: rewrites, removal, restarts."""

from __future__ import annotations

from lab.machine import eventually
from lab.network import OUTSIDE4
from lab.traffic import exchange

from .admin import EGRESS, STATE, Admin, conflist, egress_pod, pod
from .cluster import CONFLIST, Cluster
from .components import NODE


def _entries(cluster: Cluster) -> list[str]:
    return [plugin["type"] for plugin in conflist(cluster, CONFLIST)["plugins"]]


def test_watch_puts_the_entry_back_when_the_main_cni_writes_its_conflist(
    admin: Admin, cluster: Cluster
) -> None:
    watch = admin.start("install", "--watch", "--namespaces", "egress")
    eventually(lambda: "macvlan-egress" in _entries(cluster), lambda: watch.log)
    for number in range(3):
        cluster.write_main_cni()
        eventually(lambda: "macvlan-egress" in _entries(cluster), lambda: watch.log)
        cluster.kubectl.apply_objects(egress_pod(f"after-{number}", OUTSIDE4, f"192.168.12.{100 + number}"))
        cluster.running("egress", f"after-{number}")
    assert watch.log.count("restored:") == 3


def test_pods_that_outlive_the_plugin_are_deleted_and_block_nothing(
    installed: Admin, cluster: Cluster
) -> None:
    cluster.kubectl.apply_objects(egress_pod("outlives", OUTSIDE4), pod("clients", "plain"))
    for namespace, name in (("egress", "outlives"), ("clients", "plain")):
        cluster.running(namespace, name)
    assert "1 pod has an egress interface" in installed.run("uninstall")
    assert _entries(cluster) == ["bridge"]
    cluster.kubectl("delete", "pod", "outlives", "-n", "egress")
    cluster.kubectl("delete", "pod", "plain", "-n", "clients")
    # containerd asks the conflist of the moment, so nobody tells the plugin; of the pod itself nothing is left.
    note = {EGRESS, *(path.name for path in cluster.machine.path(f"{STATE}/attachments").glob("*.json"))}
    eventually(lambda: set(installed.traces()) == note, lambda: f"left: {installed.traces()}", 60)
    installed.run("install", "--namespaces", "egress")
    cluster.kubectl.apply_objects(egress_pod("heir", OUTSIDE4))
    cluster.running("egress", "heir")


def test_pods_live_on_and_new_ones_start_when_containerd_is_killed(
    installed: Admin, cluster: Cluster
) -> None:
    cluster.kubectl.apply_objects(egress_pod("first", OUTSIDE4), pod("clients", "client"))
    first, client = cluster.running("egress", "first"), cluster.running("clients", "client")
    cluster.kill_containerd()
    cluster.start_containerd()
    network = cluster.network(client)
    to = (first["status"]["podIP"], 80)
    assert exchange("tcp", network, to, cluster.outside, 80).source == EGRESS
    cluster.kubectl.apply_objects(egress_pod("second", OUTSIDE4, "192.168.12.100"))
    cluster.running("egress", "second")


def test_pods_get_their_addresses_back_after_the_node_has_lost_them(
    installed: Admin, cluster: Cluster
) -> None:
    """As a reboot does: containerd, every pod and its namespaces end at once, and no DEL is called."""
    cluster.kubectl.apply_objects(egress_pod("survivor", OUTSIDE4), pod("clients", "client"))
    cluster.running("egress", "survivor")
    cluster.running("clients", "client")
    cluster.crash_node()
    assert cluster.kubectl.get("node", NODE)
    cluster.start_node()
    to = (cluster.running_again("egress", "survivor")["status"]["podIP"], 80)
    network = cluster.network(cluster.running_again("clients", "client"))
    eventually(
        lambda: exchange("tcp", network, to, cluster.outside, 80).source == EGRESS,
        "the survivor leads nowhere",
    )
