"""Egress policies, in files and as API objects, changed while the pods that they are for run."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
import yaml
from lab.machine import eventually
from lab.network import OUTSIDE4

from . import pki
from .admin import CLUSTER_NETWORKS, EGRESS, REPOSITORY, SETTINGS, Admin, egress_pod, pod
from .cluster import Cluster
from .components import NODE_ADDRESS, SERVER
from .kubectl import Object

FILE = f"{SETTINGS}/policies.d/shop.yaml"
KUBECONFIG = f"{SETTINGS}/kubeconfig"
CRD = "crd/egressnetworkpolicies.network.openshift.io"
COMPONENT = REPOSITORY / "conf/kubernetes/components/policies/egressnetworkpolicies.yaml"


def deny(address: str = OUTSIDE4) -> Object:
    return {"type": "Deny", "to": {"cidrSelector": f"{address}/32"}}


def policy(*rules: Object) -> Object:
    return {
        "apiVersion": "network.openshift.io/v1",
        "kind": "EgressNetworkPolicy",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {"egress": list(rules)},
    }


class Scene:
    """A pod of the shop with an address of its own, and one without; what both reach."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        cluster.kubectl.apply_objects(
            pod("shop", "plain"), egress_pod("egress", OUTSIDE4, namespace="shop"), pod("clients", "client")
        )
        self._plain = cluster.network(cluster.running("shop", "plain"))
        self._egress = cluster.running("shop", "egress")
        self._client = cluster.network(cluster.running("clients", "client"))

    def reached(self) -> set[str]:
        """The sources that the outside sees of the shop's traffic."""
        redirected = (self._egress["status"]["podIP"], 80)
        return {
            self._cluster.source_of(self._plain, (OUTSIDE4, 80), 80),
            self._cluster.source_of(self._client, redirected, 80),
        } - {""}

    def becomes(self, expected: set[str]) -> None:
        seen: list[set[str]] = []

        def is_so() -> bool:
            seen.append(self.reached())
            return seen[-1] == expected

        eventually(is_so, lambda: f"expected {expected}, seen {seen}")


ALL = {NODE_ADDRESS, EGRESS}


def install(admin: Admin, *options: str) -> None:
    admin.run("install", "--namespaces", "egress", "shop", "--cluster-networks", *CLUSTER_NETWORKS, *options)


@pytest.mark.parametrize("follower", ["policy sync --follow", "daemon"])
def test_policy_in_a_file_is_changed_while_pods_run(admin: Admin, cluster: Cluster, follower: str) -> None:
    install(admin, "--policy")
    cluster.machine.run("mkdir", "-p", FILE.rpartition("/")[0])
    admin.start(*follower.split())
    scene = Scene(cluster)
    scene.becomes(ALL)
    cluster.machine.write(FILE, yaml.safe_dump(policy(deny())))
    scene.becomes(set())
    assert "denied: rule 1" in admin.run("policy", "explain", "shop", f"{OUTSIDE4}:80", check=False)
    cluster.machine.write(FILE, yaml.safe_dump(policy(deny("203.0.113.200"))))
    scene.becomes(ALL)
    cluster.machine.write(FILE, yaml.safe_dump(policy(deny())))
    scene.becomes(set())
    cluster.machine.path(FILE).unlink()
    scene.becomes(ALL)


@pytest.fixture
def kind(cluster: Cluster, admin: Admin) -> Iterator[None]:
    """The kind of the policies, and the plugin's own account that may read them."""
    cluster.kubectl.apply(COMPONENT.read_text())
    cluster.kubectl.apply((REPOSITORY / "conf/rbac-policy.yaml").read_text())
    cluster.kubectl("wait", "--for=condition=Established", CRD, "--timeout=30s")
    cluster.machine.write(KUBECONFIG, pki.kubeconfig(SERVER, {"token": _token(cluster)}))
    yield
    cluster.kubectl("delete", CRD, "--timeout=60s")
    cluster.kubectl("delete", "-f", "-", stdin=(REPOSITORY / "conf/rbac-policy.yaml").read_text())


@pytest.mark.parametrize("follower", ["policy sync --follow", "daemon"])
def test_policy_in_the_api_is_changed_while_pods_run(
    admin: Admin, cluster: Cluster, kind: None, follower: str
) -> None:
    install(admin, "--policy", "kubernetes", "--set", f"kubeconfig={json.dumps(KUBECONFIG)}")
    admin.start(*follower.split())
    scene = Scene(cluster)
    scene.becomes(ALL)
    cluster.kubectl.apply_objects(policy(deny()))
    scene.becomes(set())
    cluster.kubectl("get", "egressnetworkpolicies", "-A")
    assert "denied: rule 1" in admin.run("policy", "explain", "shop", f"{OUTSIDE4}:80", check=False)
    patch = json.dumps({"spec": {"egress": [deny("203.0.113.200")]}})
    cluster.kubectl("patch", "egressnetworkpolicy", "shop", "-n", "shop", "--type=merge", "-p", patch)
    scene.becomes(ALL)
    cluster.kubectl.apply_objects(policy(deny()))
    scene.becomes(set())
    cluster.kubectl("delete", "egressnetworkpolicy", "shop", "-n", "shop")
    scene.becomes(ALL)


def _token(cluster: Cluster) -> str:
    """The account's token, which this Kubernetes keeps in a secret."""
    found: list[Object] = []

    def is_there() -> bool:
        account = cluster.kubectl.get("serviceaccount", "macvlan-egress", "-n", "kube-system")
        found[:] = account.get("secrets", [])
        return bool(found)

    eventually(is_there, "the account gets no token")
    secret = cluster.kubectl.get("secret", found[0]["name"], "-n", "kube-system")
    return base64.b64decode(secret["data"]["token"]).decode()
