"""What is wrong stands in the pod's events, where its owner looks."""

from __future__ import annotations

import pytest
from lab import source
from lab.network import OUTSIDE4

from .admin import EGRESS, GATEWAY, Admin, egress_pod, pod
from .cluster import Cluster

FAILED = "FailedCreatePodSandBox"


@pytest.mark.parametrize(
    ("namespace", "destination", "words"),
    [
        ("shop", f"80 tcp {OUTSIDE4}", "shop"),
        ("egress", "80 tcp", "80 tcp"),
        ("egress", "80 tcp 203.0.113.999", "203.0.113.999"),
    ],
    ids=["namespace-without-grant", "destination-without-address", "no-address"],
)
def test_refusal_is_an_event_of_the_pod(
    installed: Admin, cluster: Cluster, namespace: str, destination: str, words: str
) -> None:
    annotations = source(f"{EGRESS}/24", GATEWAY, destination=destination)
    cluster.kubectl.apply_objects(pod(namespace, "refused", annotations))
    events = cluster.kubectl.wait_event(namespace, "refused", FAILED)
    (message,) = {line for line in events.splitlines() if line.startswith(FAILED)}
    assert "macvlan-egress" in message
    assert words in message.partition("macvlan-egress")[2]


def test_pod_starts_by_itself_once_the_address_is_free(installed: Admin, cluster: Cluster) -> None:
    holder = cluster.lab.lan.host(EGRESS)
    mac = holder.mac()
    cluster.kubectl.apply_objects(egress_pod("waiting", OUTSIDE4))
    assert mac in cluster.kubectl.wait_event("egress", "waiting", FAILED)
    holder.remove()
    cluster.running("egress", "waiting")
