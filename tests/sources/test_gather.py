"""Which source is asked for a pod's annotations, and when it is nobody."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer
from kubeconfigs import Kubeconfig

from cni_macvlan_egress.model.configuration import Configuration
from cni_macvlan_egress.protocol import environment, wire
from cni_macvlan_egress.protocol.call import Call
from cni_macvlan_egress.protocol.errors import CniError
from cni_macvlan_egress.sources.gather import annotations_of
from cni_macvlan_egress.sources.regular_file import BYTES_MAX

UID = "5a0f4e7e-0c61-4f7e-9d3b-0f6f1f0a7a11"
POD = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=router;K8S_POD_UID={UID}"
CAPABILITY = "io.kubernetes.cri.pod-annotations"
AT_THE_API, AT_THE_RUNTIME, IN_THE_FILE = ({"said/by": who} for who in ("api", "runtime", "file"))
INVALID_CONFIGURATION, TRY_AGAIN_LATER = 7, 11


@pytest.fixture(autouse=True)
def pod(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    api.add_pod("shop", "router", UID, AT_THE_API)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    path = tmp_path / "annotations"
    path.mkdir()
    return str(path)


def ask(
    *,
    kubeconfig: str | None = None,
    order: list[str] | None = None,
    runtime: Any = ...,
    args: str = POD,
    chained: bool = True,
) -> Any:
    conf: dict[str, Any] = {"cniVersion": "1.1.0", "name": "pods", "type": "macvlan-egress"}
    if kubeconfig is not None:
        conf["kubeconfig"] = kubeconfig
    if order is not None:
        conf["annotations"] = order
    if runtime is not ...:
        conf["runtimeConfig"] = {CAPABILITY: runtime}
    if chained:
        conf["prevResult"] = {"cniVersion": "1.1.0"}
    variables = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/none",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        "CNI_ARGS": args,
    }
    call = Call(environment.read(variables), wire.decode(json.dumps(conf)))
    return annotations_of(call, Configuration.of(call.configuration))


def test_api_is_asked_if_the_runtime_says_nothing(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    assert ask(kubeconfig=kubeconfig.write()) == AT_THE_API
    assert len(api.requests) == 1


@pytest.mark.parametrize("said", [AT_THE_RUNTIME, {}, None])
def test_api_is_not_asked_if_the_runtime_says_something(
    kubeconfig: Kubeconfig, api: ApiServer, said: dict[str, str] | None
) -> None:
    assert ask(kubeconfig=kubeconfig.write(), runtime=said) == (said or {})
    assert api.connections == 0


def test_first_source_of_the_order_wins(kubeconfig: Kubeconfig) -> None:
    order = ["kubernetes", "runtime"]
    assert ask(kubeconfig=kubeconfig.write(), order=order, runtime=AT_THE_RUNTIME) == AT_THE_API


def test_source_that_is_not_in_the_order_is_not_asked(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    with pytest.raises(CniError) as caught:
        ask(kubeconfig=kubeconfig.write(), order=["runtime"])
    assert caught.value.code == INVALID_CONFIGURATION
    assert api.connections == 0


def test_failure_of_the_api_does_not_pass_to_the_next_source(
    kubeconfig: Kubeconfig, api: ApiServer, directory: str
) -> None:
    (Path(directory) / "c1.json").write_text(json.dumps(IN_THE_FILE))
    order = ["runtime", "kubernetes", directory]
    assert ask(order=order) == IN_THE_FILE
    api.always_status(500, "broken")
    with pytest.raises(CniError) as caught:
        ask(kubeconfig=kubeconfig.write(), order=order)
    assert caught.value.code == TRY_AGAIN_LATER


@pytest.mark.parametrize("chained", [True, False])
def test_pod_without_annotations_at_the_api_is_known_to_have_none(
    kubeconfig: Kubeconfig, api: ApiServer, directory: str, chained: bool
) -> None:
    (Path(directory) / "c1.json").write_text(json.dumps(IN_THE_FILE))
    api.add_pod("shop", "router", UID)
    assert ask(kubeconfig=kubeconfig.write(), order=["kubernetes", directory], chained=chained) == {}


@pytest.mark.parametrize("args", ["", "K8S_POD_NAMESPACE=shop", "K8S_POD_NAME=router", "IgnoreUnknown=1;a=b"])
def test_api_is_not_asked_for_what_is_no_pod(kubeconfig: Kubeconfig, api: ApiServer, args: str) -> None:
    assert ask(kubeconfig=kubeconfig.write(), args=args) == {}
    assert api.connections == 0


def test_uid_is_compared_only_if_the_runtime_tells_it(kubeconfig: Kubeconfig) -> None:
    path = kubeconfig.write()
    assert ask(kubeconfig=path, args="K8S_POD_NAMESPACE=shop;K8S_POD_NAME=router") == AT_THE_API
    with pytest.raises(CniError) as caught:
        ask(kubeconfig=path, args=f"K8S_POD_NAMESPACE=shop;K8S_POD_NAME=router;K8S_POD_UID={UID[:-1]}")
    assert caught.value.code == TRY_AGAIN_LATER


def test_pod_whose_annotations_nobody_tells_is_an_error() -> None:
    with pytest.raises(CniError) as caught:
        ask()
    assert caught.value.code == INVALID_CONFIGURATION
    assert "kubeconfig" in caught.value.msg
    assert CAPABILITY in caught.value.msg


def test_standalone_network_needs_no_annotations() -> None:
    assert ask(chained=False) == {}


def test_kubeconfig_that_is_missing_is_no_reason_to_ask_nobody(tmp_path: Path) -> None:
    with pytest.raises(CniError) as caught:
        ask(kubeconfig=f"{tmp_path}/missing", chained=False)
    assert f"{tmp_path}/missing" in caught.value.msg


def test_file_that_is_a_pipe_is_an_error_and_not_waited_for(directory: str) -> None:
    os.mkfifo(f"{directory}/c1.json")
    with pytest.raises(CniError, match=r"c1\.json: it is not a regular file"):
        ask(order=[directory])


def test_huge_file_is_an_error(directory: str) -> None:
    Path(directory, "c1.json").write_text(json.dumps({"said/by": "file"}) + " " * BYTES_MAX)
    with pytest.raises(CniError, match="larger than 4 MiB"):
        ask(order=[directory])
