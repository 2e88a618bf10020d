"""Migrated pods on a node: the annotations that `migrate` wrote, a real ADD, and packets."""

from __future__ import annotations

import pytest
import yaml
from lab import Namespace, Node
from lab.network import OUTSIDE4, PODS4, PODS6
from lab.service import Service
from lab.traffic import exchange

from cni_macvlan_egress.admin.migrate import PAUSE, migrate
from cni_macvlan_egress.admin.migration import manifest
from cni_macvlan_egress.admin.migration.router_pod import Options

from .migrated import MANIFESTS

EGRESS4, EGRESS6, SERVICE = "192.168.12.99", "fd00:12::99", "10.96.0.50"
CONF = {"conflictDetection": "off", "clusterNetworks": [PODS4, PODS6, "10.96.0.0/12"]}


def migrated(name: str, *, drop_dns_proxy: bool = False) -> dict[str, dict]:
    """The Deployment and the Service that a manifest becomes, by kind."""
    options = Options(PAUSE, deployment=True, drop_dns_proxy=drop_dns_proxy)
    found, reports = migrate(manifest.read(str(MANIFESTS / f"{name}.yaml")), options)
    assert not [report for report in reports if report.failed]
    # As it is applied: written and read again.
    return {one["kind"]: one for one in yaml.safe_load_all(manifest.write(found))}


def annotations(objects: dict[str, dict]) -> dict[str, str]:
    return objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]


def test_redirect_of_a_migrated_pod_leads_outside_under_its_source(node: Node, outside: Namespace) -> None:
    for number in (26, 27):
        outside.ip(f"address add 203.0.113.{number}/24 dev eth0")
    objects = migrated("redirect")
    pod, client = node.pod(), node.pod()
    node.add(pod, annotations(objects), conf=CONF).ok()
    ports = [(one["protocol"].lower(), one["port"]) for one in objects["Service"]["spec"]["ports"]]
    assert ports == [("tcp", 80), ("tcp", 8080), ("udp", 8443)]
    for (protocol, port), (target, target_port) in zip(
        ports, [(OUTSIDE4, 80), ("203.0.113.26", 80), ("203.0.113.26", 443)], strict=True
    ):
        Service(node, SERVICE, [port], protocol=protocol).lead_to(pod.address)
        visit = exchange(protocol, client, (SERVICE, port), outside, target_port)
        assert (visit.source, visit.target) == (EGRESS4, target)
    visit = exchange("udp", client, (pod.address, 9999), outside, 9999)
    assert (visit.source, visit.target) == (EGRESS4, "203.0.113.27")
    node.check(pod).ok()
    node.delete(pod).ok()


def test_egress_router_object_leads_outside_in_both_families(node: Node, outside: Namespace) -> None:
    pod, client = node.pod(), node.pod()
    node.add(pod, annotations(migrated("egress-router")), conf=CONF).ok()
    assert pod.show("-d link show macvlan0")[0]["linkinfo"]["info_data"]["mode"] == "private"
    assert exchange("tcp", client, (pod.address, 8080), outside, 80).source == EGRESS4
    assert exchange("udp", client, (pod.address6, 53), outside, 5353).source == EGRESS6


@pytest.mark.parametrize(("name", "port"), [("http-proxy", 8080), ("dns-proxy", 100)])
def test_proxy_is_reached_by_eth0_and_leaves_from_the_source(
    node: Node, outside: Namespace, name: str, port: int
) -> None:
    objects = migrated(name)
    assert port in [one["port"] for one in objects["Service"]["spec"]["ports"]]
    pod, client = node.pod(), node.pod()
    node.add(pod, annotations(objects), conf=CONF).ok()
    assert exchange("tcp", client, (pod.address, port), pod, port).source == client.address
    assert exchange("tcp", pod, (OUTSIDE4, 443), outside, 443).source == EGRESS4
    assert pod.route_get("10.96.0.10")["dev"] == "eth0"  # the cluster's DNS


def test_lines_of_a_dropped_dns_proxy_are_a_redirect(node: Node, outside: Namespace) -> None:
    asked = annotations(migrated("dns-proxy", drop_dns_proxy=True))
    # No DNS here: what goes to an address is what can be tried.
    lines = [line for line in asked["macvlan-egress/destination"].splitlines() if OUTSIDE4 in line]
    pod, client = node.pod(), node.pod()
    node.add(pod, {**asked, "macvlan-egress/destination": "\n".join(lines)}, conf=CONF).ok()
    assert exchange("tcp", client, (pod.address, 8080), outside, 80).source == EGRESS4
