"""An egress pod behind a Service: kube-proxy leads clients to it, and it leads them outside."""

from __future__ import annotations

from lab.machine import eventually

from .admin import EGRESS, REPOSITORY, Admin, pod
from .cluster import Cluster
from .kubectl import Object


def _available(deployment: Object) -> bool:
    status = deployment["status"]
    return bool(
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("updatedReplicas") == status.get("availableReplicas") == 1 == status.get("replicas")
    )


def test_client_of_the_service_is_seen_outside_by_the_egress_address(
    installed: Admin, cluster: Cluster
) -> None:
    cluster.kubectl.apply((REPOSITORY / "conf/service.yaml").read_text())
    cluster.kubectl.apply_objects(pod("clients", "client"))
    cluster.kubectl.wait_until("egress", "deployment", "payments", _available)
    client = cluster.network(cluster.running("clients", "client"))
    address = cluster.kubectl.get("service", "payments", "-n", "egress")["spec"]["clusterIP"]

    def leads_outside() -> bool:
        return cluster.source_of(client, (address, 443), 443) == EGRESS

    eventually(leads_outside, "the Service leads nowhere")
    # The successor has another pod's address; the Service and the egress address stay.
    cluster.kubectl("rollout", "restart", "deployment", "payments", "-n", "egress")
    cluster.kubectl.wait_until("egress", "deployment", "payments", _available)
    eventually(leads_outside, "the successor leads nowhere")
