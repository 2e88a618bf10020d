"""The README followed word by word, with a stopwatch: from the clone to a pod that the outside sees by its address."""

from __future__ import annotations

from lab.machine import eventually

from .admin import COMMAND, EGRESS, REPOSITORY, Admin, Stopwatch, pod
from .cluster import Cluster


def test_new_user_gets_from_the_clone_to_an_egress_pod(
    admin: Admin, cluster: Cluster, stopwatch: Stopwatch
) -> None:
    """What comes before `install` has been timed when the package was installed."""
    stopwatch.time(cluster, f"{COMMAND} install --namespaces egress")
    # It warns of things that a machine made of namespaces has, and says so by its status.
    assert "macvlan" in stopwatch.time(cluster, f"{COMMAND} doctor", check=False)
    stopwatch.time(cluster, f"kubectl apply -f {REPOSITORY}/conf/service.yaml")
    stopwatch.time(
        cluster, "kubectl wait --for=condition=Available deployment/payments -n egress --timeout=90s"
    )
    cluster.kubectl.apply_objects(pod("clients", "client"))
    client = cluster.network(cluster.running("clients", "client"))
    address = cluster.kubectl.get("service", "payments", "-n", "egress")["spec"]["clusterIP"]
    eventually(lambda: cluster.source_of(client, (address, 443), 443) == EGRESS, "the Service leads nowhere")
