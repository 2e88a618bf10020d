"""conf/kubernetes on a real API server, and the DaemonSet run from the real image.

Kubernetes 1.20 is older than what the manifests are for: it knows no ValidatingAdmissionPolicy, no `maxSurge` of a
DaemonSet and no `appArmorProfile`, so these are left out here. tests/manifests holds them against newer schemas.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator

import pytest
from daemon import image
from lab.machine import eventually
from lab.network import OUTSIDE4
from lab.traffic import exchange
from manifests.kustomize import KUBERNETES, find, render

from . import images
from .admin import EGRESS, Admin, conflist, egress_pod, pod
from .cluster import CONFLIST, Cluster
from .kubectl import Object

IMAGE = "docker.io/library/macvlan-egress:0.1.0"
DAEMON_SET = ("daemonset", "macvlan-egress", "-n", "kube-system")
_UNKNOWN_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


def _for_this_version(objects: list[Object]) -> list[Object]:
    known = [copy.deepcopy(one) for one in objects if one["kind"] not in _UNKNOWN_KINDS]
    spec = find(known, "DaemonSet")["spec"]
    spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    for container in spec["template"]["spec"]["containers"]:
        container["securityContext"].pop("appArmorProfile", None)
    return known


OBJECTS = _for_this_version(render(KUBERNETES / "base"))


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: one["kind"])
def test_api_server_takes_the_object(admin: Admin, cluster: Cluster, one: Object) -> None:
    assert "(server dry run)" in cluster.kubectl.apply_objects(
        one, options=("--dry-run=server", "--validate=true")
    )


@pytest.mark.parametrize(
    "name", ["service.yaml", "pod-egress.yaml", "pod-openshift-router.yaml", "rbac-policy.yaml"]
)
def test_api_server_takes_the_example(admin: Admin, cluster: Cluster, name: str) -> None:
    text = (KUBERNETES.parent / name).read_text()
    namespaces = {"egress", "egress-routers"}
    for namespace in namespaces - {one["metadata"]["name"] for one in cluster.kubectl.get("ns")["items"]}:
        cluster.kubectl("create", "namespace", namespace)
    assert "(server dry run)" in cluster.kubectl.apply(text, "--dry-run=server")


@pytest.fixture(scope="session")
def imported(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The image of conf/container, built and given to containerd."""
    built = image.build(tmp_path_factory.getbasetemp() / "image")
    cluster.import_image(lambda path: images.of_directory(path, IMAGE, built.root, built.config))


@pytest.fixture
def deployed(admin: Admin, cluster: Cluster, imported: None) -> Iterator[Admin]:
    """The DaemonSet, applied and ready on the node."""
    cluster.kubectl.apply_objects(*OBJECTS)
    cluster.kubectl("rollout", "status", *DAEMON_SET, "--timeout=120s")
    eventually(lambda: "macvlan-egress" in _types(cluster), "the entry is not in the conflist")
    yield admin
    for name in ("egress", "clients"):
        cluster.kubectl("delete", "pods", "--all", "-n", name, "--force", "--grace-period=0")
    eventually(lambda: not admin.traces(), lambda: f"left on the node: {admin.traces()}", 60)
    _apply_uninstall(cluster)
    eventually(lambda: "macvlan-egress" not in _types(cluster), "the entry stays in the conflist", 60)
    cluster.kubectl("delete", "-f", "-", "--timeout=120s", stdin=_list(OBJECTS))
    cluster.kubectl("delete", "pods", "--all", "-n", "kube-system", "--timeout=150s")


def test_daemon_set_serves_pods_and_is_rolled(deployed: Admin, cluster: Cluster) -> None:
    cluster.kubectl.apply_objects(egress_pod("served", OUTSIDE4), pod("clients", "client"))
    to = (cluster.running("egress", "served")["status"]["podIP"], 80)
    network = cluster.network(cluster.running("clients", "client"))
    assert exchange("tcp", network, to, cluster.outside, 80).source == EGRESS
    cluster.write_main_cni()
    eventually(lambda: "macvlan-egress" in _types(cluster), "the entry does not come back")
    cluster.kubectl("rollout", "restart", *DAEMON_SET)
    cluster.kubectl.apply_objects(egress_pod("meanwhile", OUTSIDE4, "192.168.12.100"))
    cluster.running("egress", "meanwhile")
    cluster.kubectl("rollout", "status", *DAEMON_SET, "--timeout=180s")
    assert exchange("tcp", network, to, cluster.outside, 80).source == EGRESS


def _apply_uninstall(cluster: Cluster) -> None:
    cluster.kubectl.apply_objects(*_for_this_version(render(KUBERNETES / "base", "uninstall")))
    cluster.kubectl("rollout", "status", *DAEMON_SET, "--timeout=180s")


def _types(cluster: Cluster) -> list[str]:
    return [plugin["type"] for plugin in conflist(cluster, CONFLIST)["plugins"]]


def _list(objects: list[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
