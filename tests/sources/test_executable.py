"""The plugin as a runtime runs it, on a node whose runtime tells no annotations: the API server does."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import TOKEN, USER, ApiServer
from authority import Authority, Pair, data
from kubeconfigs import Kubeconfig
from lab import ASSIGN, Node, Pod, Request, source, unchanged

ASKED = source("192.168.12.99/24")
IO_FAILURE, INVALID_CONFIGURATION, TRY_AGAIN_LATER = 5, 7, 11
NOBODY_SAYS = {"runtimeConfig": {}, "annotations": ["runtime", "kubernetes"]}
# As a pod has its files, for one process only: /var/run is /run, and the pod's namespace stays under its name.
AS_POD = """\
set -e
mount --rbind /run/netns {directory}/netns
mount --rbind {directory} /run
exec "$0"
"""


@pytest.fixture
def api(node: Node, certificate: Pair, authority: Authority) -> Iterator[ApiServer]:
    """On the node's own loopback interface."""
    server = ApiServer(node.socket(socket.AF_INET), certificate, authority)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def pod(node: Node) -> Pod:
    return node.pod()


def uid(pod: Pod) -> str:
    return dict(pair.split("=", 1) for pair in pod.args.split(";"))["K8S_POD_UID"]


def annotate(api: ApiServer, pod: Pod, annotations: dict[str, str] | None) -> None:
    api.add_pod("shop", pod.name, uid(pod), annotations)


def conf(leading_to_api: Kubeconfig, **keys: Any) -> dict[str, Any]:
    return {**NOBODY_SAYS, "kubeconfig": leading_to_api.write(), **keys}


def test_pod_annotated_at_the_api_gets_its_interface(
    node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig
) -> None:
    annotate(api, pod, ASKED)
    with unchanged(pod, node):
        result = node.add(pod, conf=conf(kubeconfig)).ok()
        assert "192.168.12.99/24" in [ip["address"] for ip in result["ips"]]
        assert set(pod.addresses("macvlan0")) == {"192.168.12.99/24"}
        assert len(api.requests) == 1
        assert api.requests[0].path == f"/api/v1/namespaces/shop/pods/{pod.name}"
        api.close()  # CHECK and DEL go by what ADD recorded
        node.check(pod).ok()
        node.delete(pod).ok()


def test_pod_without_annotations_at_the_api_is_passed_through(
    node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig
) -> None:
    annotate(api, pod, None)
    with unchanged(pod, node):
        assert node.add(pod, conf=conf(kubeconfig)).ok() == pod.previous
    assert len(api.requests) == 1


@pytest.mark.parametrize("annotations", [{}, {ASSIGN: "true"}])
def test_api_is_not_asked_if_the_runtime_tells(
    node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig, annotations: dict[str, str]
) -> None:
    annotate(api, pod, ASKED)
    without = conf(kubeconfig)
    del without["runtimeConfig"]
    node.add(pod, annotations, conf=without).ok()
    assert (pod.link("macvlan0") is not None) == bool(annotations)
    assert pod.link("macvlan0") is None or not pod.addresses("macvlan0")
    assert api.connections == 0


def test_network_of_its_own_obeys_the_api_too(
    node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig
) -> None:
    annotate(api, pod, ASKED)
    keys = conf(kubeconfig, allow=[{"namespaces": ["shop"]}])
    request = node.standalone(pod, conf=keys).but(environment={"CNI_ARGS": pod.args})
    node.send_add(pod, request).ok()
    assert set(pod.addresses("net1")) == {"192.168.12.99/24"}


def test_pod_that_the_api_does_not_know(node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig) -> None:
    with unchanged(pod, node):
        node.add(pod, conf=conf(kubeconfig)).refused(TRY_AGAIN_LATER, api.url, f"shop/{pod.name}", "404")
    annotate(api, pod, ASKED)
    node.add(pod, conf=conf(kubeconfig)).ok()


def test_pod_that_was_replaced(node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig) -> None:
    api.add_pod("shop", pod.name, "another", ASKED)
    with unchanged(pod, node):
        node.add(pod, conf=conf(kubeconfig)).refused(TRY_AGAIN_LATER, "another", uid(pod))


def test_api_that_does_not_answer(node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig) -> None:
    api.answer = lambda connection, _: api.hold(connection)
    with unchanged(pod, node):
        answer = node.add(pod, conf=conf(kubeconfig))
        answer.refused(TRY_AGAIN_LATER, api.url, "no answer within 5 s")
    with open(node.log_file) as log:
        assert "no answer within 5 s" in log.read()


def test_api_that_is_down(node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig) -> None:
    api.close()
    with unchanged(pod, node):
        node.add(pod, conf=conf(kubeconfig)).refused(TRY_AGAIN_LATER, api.url, "Connection refused")


def test_api_that_nobody_vouches_for(
    node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig, strangers: Authority
) -> None:
    annotate(api, pod, ASKED)
    api.use(strangers.server("IP:127.0.0.1"))
    with unchanged(pod, node):
        node.add(pod, conf=conf(kubeconfig)).refused(TRY_AGAIN_LATER, api.url, "certificate")
    assert not api.requests


def test_kubeconfig_that_is_missing_or_bad(
    node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig
) -> None:
    missing = f"{node.directory}/missing"
    kubeconfig.cluster["insecure-skip-tls-verify"] = True
    with unchanged(pod, node):
        node.add(pod, conf=conf(kubeconfig, kubeconfig=missing)).refused(IO_FAILURE, missing)
        node.add(pod, conf=conf(kubeconfig)).refused(INVALID_CONFIGURATION, "insecure-skip-tls-verify")
    assert api.connections == 0


def test_pod_name_from_outside_cannot_lead_elsewhere(
    node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig
) -> None:
    annotate(api, pod, ASKED)
    hostile = f"K8S_POD_NAMESPACE=x/pods/../../shop;K8S_POD_NAME={pod.name}"
    request = node.request(pod, conf=conf(kubeconfig)).but(environment={"CNI_ARGS": hostile})
    with unchanged(pod, node):
        node.send("ADD", request).refused(4, "K8S_POD_NAMESPACE")
    assert api.connections == 0


def test_nobody_to_ask(node: Node, pod: Pod) -> None:
    with unchanged(pod, node):
        node.add(pod, conf=NOBODY_SAYS).refused(INVALID_CONFIGURATION, "kubeconfig")


def test_service_account_of_the_pod_it_runs_in(
    node: Node, pod: Pod, api: ApiServer, authority: Authority, tmp_path: Path
) -> None:
    annotate(api, pod, ASKED)
    run = tmp_path / "run-of-the-pod"
    account = run / "secrets/kubernetes.io/serviceaccount"
    account.mkdir(parents=True)
    (run / "netns").mkdir()
    (account / "token").write_text(f"{TOKEN}\n")
    shutil.copy(authority.certificate, account / "ca.crt")
    request = node.request(pod, conf=NOBODY_SAYS)
    variables = {
        "CNI_COMMAND": "ADD",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(api.port),
        **request.environment,
    }
    # The variables without the files are no service account.
    node.execute(variables, request.stdin).refused(INVALID_CONFIGURATION, "kubeconfig")
    wrapper = ("unshare", "--mount", "sh", "-c", AS_POD.format(directory=run))
    node.execute(variables, request.stdin, wrapper=wrapper).ok()
    assert set(pod.addresses("macvlan0")) == {"192.168.12.99/24"}


def test_client_key_is_written_to_no_file(
    node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig, authority: Authority
) -> None:
    client = authority.client(USER)
    api.users.add(USER)
    annotate(api, pod, ASKED)
    kubeconfig.user.clear()
    kubeconfig.user.update(
        {"client-certificate-data": data(client.certificate), "client-key-data": data(client.key)}
    )
    request = node.request(pod, conf=conf(kubeconfig))
    trace = f"{node.directory}/trace"
    wrapper = ("strace", "-f", "-qq", "-o", trace, "-e", "trace=open,openat,creat,memfd_create")
    node.execute({"CNI_COMMAND": "ADD", **request.environment}, request.stdin, wrapper=wrapper).ok()
    assert api.requests[0].client == USER
    with open(trace) as handle:
        calls = handle.read().splitlines()
    assert [call for call in calls if "memfd_create" in call]
    made = [call.split('"')[1] for call in calls if "O_CREAT" in call or "creat(" in call]
    assert made
    own = (node.state_dir, node.run_dir, node.log_file)
    assert [path for path in made if not path.startswith(own)] == []


def test_environment_of_the_runtime_makes_no_difference(
    node: Node, pod: Pod, api: ApiServer, kubeconfig: Kubeconfig
) -> None:
    annotate(api, pod, ASKED)
    proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:1")
    keys = f"{node.directory}/keys"
    request: Request = node.request(pod, conf=conf(kubeconfig)).but(
        environment={**proxies, "SSLKEYLOGFILE": keys, "KUBECONFIG": "/nonexistent"}
    )
    node.send("ADD", request).ok()
    assert not os.path.exists(keys)
