"""`migrate`: OpenShift's routers in, unprivileged pods out, and no word lost on the way without saying so."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_macvlan_egress.admin import command_line
from cni_macvlan_egress.admin.manifests import pods
from cni_macvlan_egress.admin.migration import manifest
from cni_macvlan_egress.model.annotations import PodAnnotations

from .migrated import CASES, MANIFESTS, MIGRATED, words

ASSIGN = "pod.network.openshift.io/assign-macvlan"


def env(**values: Any) -> list[dict[str, Any]]:
    return [{"name": name, **(v if isinstance(v, dict) else {"value": v})} for name, v in values.items()]


def router(
    container: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    kind: str = "Pod",
    **variables: Any,
) -> dict[str, Any]:
    """A pod of the legacy form, or what makes such pods; None takes a variable away."""
    given = {
        "EGRESS_SOURCE": "192.168.12.99/24",
        "EGRESS_GATEWAY": "192.168.12.1",
        "EGRESS_DESTINATION": "80 tcp 203.0.113.25",
        **variables,
    }
    variables = env(**{name: value for name, value in given.items() if value is not None})
    main = {
        "name": "router",
        "image": "openshift/origin-egress-router",
        "env": variables,
        **(container or {}),
    }
    metadata = {"name": "egress", "namespace": "shop", "annotations": {ASSIGN: "true"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [main], **(spec or {})},
    }
    if kind == "Pod":
        return pod
    names = {"name": "egress", "namespace": "shop"}
    template = {"metadata": {"annotations": metadata["annotations"]}, "spec": pod["spec"]}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": names, "spec": {"template": template}}


def egress_router(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "network.operator.openshift.io/v1",
        "kind": "EgressRouter",
        "metadata": {"name": "egress", "namespace": "shop"},
        "spec": {
            "mode": "Redirect",
            "addresses": [{"ip": "192.168.12.99/24", "gateway": "192.168.12.1"}],
            "redirect": {"fallbackIP": "203.0.113.25"},
            **spec,
        },
    }


@pytest.fixture
def migrate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Migrates objects; gives the exit status, the objects that are printed, and what is said of them."""

    def run(*documents: dict[str, Any], options: tuple[str, ...] = ()) -> tuple[int, list[Any], str]:
        path = tmp_path / "in.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        status = command_line.main(["migrate", "-f", str(path), *options])
        output = capsys.readouterr()
        return status, list(yaml.safe_load_all(output.out)), output.err

    return run


def asked(document: Any) -> PodAnnotations:
    return PodAnnotations.of(document["metadata"]["annotations"])


# -- whole manifests


@pytest.mark.parametrize("case", CASES)
def test_manifest_is_migrated_as_expected(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(words(case)) == 0
    output = capsys.readouterr()
    assert output.out == (MIGRATED / f"{case}.yaml").read_text()
    assert output.err == (MIGRATED / f"{case}.txt").read_text()


@pytest.mark.parametrize("case", CASES)
def test_migrated_manifest_is_valid_and_needs_no_privilege(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = MIGRATED / f"{case}.yaml"
    assert command_line.main(["validate", "-f", str(path)]) == 0
    assert "192.168.12.99" in capsys.readouterr().out
    assert "privileged: true" not in path.read_text()
    assert "NET_ADMIN" not in path.read_text()
    (pod,) = pods(str(path))
    wanted = PodAnnotations.of(pod.annotations)
    assert {str(one.ip) for one in wanted.sources} >= {"192.168.12.99"}
    assert wanted.destinations or wanted.routes == "default"


@pytest.mark.parametrize("case", CASES)
def test_migrated_manifest_has_nothing_left_to_migrate(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["migrate", "-f", str(MIGRATED / f"{case}.yaml")]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "no egress router in it" in output.err


@pytest.mark.parametrize("case", [case for case in CASES if "--deployment" in CASES[case]])
def test_deployment_has_one_pod_at_a_time_and_its_service_selects_it(case: str) -> None:
    found = {one["kind"]: one for one in yaml.safe_load_all((MIGRATED / f"{case}.yaml").read_text())}
    spec = found["Deployment"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert found["Service"]["spec"]["selector"].items() <= labels.items()


def test_every_golden_manifest_belongs_to_a_case() -> None:
    assert {path.stem for path in MIGRATED.iterdir()} == set(CASES)
    assert {path.stem for path in MANIFESTS.glob("*.yaml")} == {source for source, *_ in CASES.values()}


# -- where manifests come from


def test_stdin_is_a_manifest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = (MANIFESTS / "init.yaml").read_text()
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert command_line.main(["migrate", "-f", "-"]) == 0
    assert capsys.readouterr().out == (MIGRATED / "init.yaml").read_text()


def test_json_of_kubectl_is_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": [router()]}, indent="\t"))
    assert command_line.main(["migrate", "-f", str(path)]) == 0
    assert asked(yaml.safe_load(capsys.readouterr().out)).destinations


def test_objects_of_a_typed_list_may_leave_out_their_kind(migrate: Any) -> None:
    item = egress_router()
    del item["kind"], item["apiVersion"]
    typed = {"apiVersion": "network.operator.openshift.io/v1", "kind": "EgressRouterList", "items": [item]}
    status, (pod,), _ = migrate(typed)
    assert status == 0
    assert asked(pod).sources


def test_config_map_may_be_in_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = {"valueFrom": {"configMapKeyRef": {"name": "routes", "key": "destination"}}}
    one, other = tmp_path / "pod.yaml", tmp_path / "map.yaml"
    one.write_text(yaml.safe_dump(router(EGRESS_DESTINATION=reference)))
    data = {"destination": "443 tcp 203.0.113.25\n"}
    other.write_text(yaml.safe_dump({"kind": "ConfigMap", "metadata": {"name": "routes"}, "data": data}))
    assert command_line.main(["migrate", "-f", str(one), "-f", str(other)]) == 0
    output = capsys.readouterr()
    assert "443 tcp 203.0.113.25" in output.out
    assert "copied from the ConfigMap routes" in output.err


def test_all_of_a_config_map_may_be_the_environment(migrate: Any) -> None:
    pod = router({"envFrom": [{"prefix": "EGRESS_", "configMapRef": {"name": "m"}}]}, EGRESS_DESTINATION=None)
    data = {"DESTINATION": "443 tcp 203.0.113.25", "SOURCE": "192.0.2.1"}
    config_map = {"kind": "ConfigMap", "metadata": {"name": "m", "namespace": "shop"}, "data": data}
    status, (_, migrated), _ = migrate(config_map, pod)
    assert status == 0
    assert str(asked(migrated).destinations[0]) == "443 tcp 203.0.113.25"
    assert str(asked(migrated).sources[0]) == "192.168.12.99/24"  # `env` wins


def test_config_map_of_another_namespace_is_another(migrate: Any) -> None:
    reference = {"valueFrom": {"configMapKeyRef": {"name": "routes", "key": "destination"}}}
    config_map = {
        "kind": "ConfigMap",
        "metadata": {"name": "routes", "namespace": "other"},
        "data": {"destination": "203.0.113.25"},
    }
    status, documents, said = migrate(router(EGRESS_DESTINATION=reference), config_map)
    assert (status, documents) == (1, [config_map])
    assert "kubectl get configmap routes" in said


# -- what is kept, and what is said


def test_other_objects_and_all_of_the_pod_that_is_not_the_routers_stay(migrate: Any) -> None:
    others = [
        {"kind": "Namespace", "metadata": {"name": "shop"}},
        {
            "kind": "Pod",
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "web", "image": "nginx"}]},
        },
    ]
    kept = {
        "nodeSelector": {"a": "b"},
        "tolerations": [{"operator": "Exists"}],
        "hostAliases": [{"ip": "192.0.2.1"}],
    }
    status, documents, _ = migrate(others[0], router(spec=kept), others[1])
    assert status == 0
    assert [documents[0], documents[2]] == others
    assert {key: documents[1]["spec"][key] for key in kept} == kept


def test_sidecar_keeps_its_way_out_and_its_volumes(migrate: Any) -> None:
    sidecar = {"name": "tail", "image": "busybox", "volumeMounts": [{"name": "logs", "mountPath": "/logs"}]}
    pod = router()
    pod["spec"]["containers"].append(sidecar)
    pod["spec"]["volumes"] = [
        {"name": "logs", "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": "gone", "emptyDir": {}},
    ]
    status, (migrated,), said = migrate(pod)
    assert status == 0
    assert migrated["spec"]["containers"][1] == sidecar
    assert [one["name"] for one in migrated["spec"]["volumes"]] == ["logs"]
    assert asked(migrated).routes == "default"
    assert "gone" in said
    assert "clusterNetworks" in said


def test_octal_mode_keeps_its_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pod = router()
    pod["spec"]["containers"].append(
        {"name": "a", "image": "b", "volumeMounts": [{"name": "c", "mountPath": "/c"}]}
    )
    text = yaml.safe_dump(pod) + "  volumes: [{name: c, secret: {secretName: s, defaultMode: 0440}}]\n"
    path = tmp_path / "in.yaml"
    path.write_text(text)
    assert command_line.main(["migrate", "-f", str(path)]) == 0
    (volume,) = yaml.safe_load(capsys.readouterr().out)["spec"]["volumes"]
    assert volume["secret"]["defaultMode"] == 0o440


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (router(EGRESS_DESTINATION="5000-9999 udp 203.0.113.25"), "lacks ports 5000 to 9999"),
        (router(EGRESS_DESTINATION="80 tcp 203.0.113.25\n203.0.113.26"), "all else, for 203.0.113.26"),
        (router(EGRESS_DESTINATION="203.0.113.26"), "headless"),
        (router(spec={"restartPolicy": "Never"}), "restartPolicy: Never becomes Always"),
    ],
    ids=["range", "rest", "rest alone", "restart"],
)
def test_what_a_deployment_with_a_service_cannot_do_is_said(migrate: Any, given: Any, said: str) -> None:
    status, _, words = migrate(given, options=("--deployment",))
    assert status == 0
    assert said in words


def test_two_holders_of_one_address_are_told_of_each_other(migrate: Any) -> None:
    other = router()
    other["metadata"]["name"] = "other"
    status, documents, said = migrate(router(), other)
    assert (status, len(documents)) == (0, 2)
    assert "Pod shop/other: warning: Pod shop/egress asks for 192.168.12.99 too" in said


def test_pod_that_a_controller_made_points_to_it(migrate: Any) -> None:
    pod = router()
    pod["metadata"]["ownerReferences"] = [{"kind": "ReplicationController", "name": "egress-1"}]
    status, (migrated,), said = migrate(pod)
    assert status == 0
    assert "ReplicationController egress-1 made it" in said
    assert "ownerReferences" not in migrated["metadata"]


def test_service_families_are_the_destinations(migrate: Any) -> None:
    six = [{"ip": "fd00:12::99/64", "gateway": "fd00:12::1"}]
    rule = {"destinationIP": "2001:db8::1", "port": 80, "protocol": "TCP"}
    given = egress_router(addresses=six, redirect={"redirectRules": [rule]})
    _, (_, service), _ = migrate(given, options=("--deployment",))
    assert service["spec"]["ipFamilies"] == ["IPv6"]


def test_check_prints_the_report_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["migrate", "--check", "-f", str(MANIFESTS / "redirect.yaml")]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out == (MIGRATED / "redirect.txt").read_text() + "Pod shop/egress-1: ok: can be migrated\n"


# -- what cannot be carried over

SECRET = {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
MISSING = {"valueFrom": {"configMapKeyRef": {"name": "routes", "key": "destination"}}}
FIELD = {"valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}
ANNOTATED = router()
ANNOTATED["metadata"]["annotations"]["macvlan-egress/mode"] = "private"
TWO = router()
TWO["spec"]["containers"] += router()["spec"]["containers"]
NO_ADDRESS = {"ip": "192.168.12.99/24"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (router(EGRESS_SOURCE=None), "EGRESS_SOURCE is not set"),
        (router(EGRESS_GATEWAY=""), "EGRESS_GATEWAY is not set"),
        (router(EGRESS_DESTINATION=None), "has no EGRESS_DESTINATION"),
        (router(EGRESS_DESTINATION=MISSING), "ConfigMap routes, which is not in the input"),
        (router(EGRESS_DESTINATION=SECRET), "Secret s"),
        (router(EGRESS_SOURCE=FIELD), "comes from fieldRef"),
        (router(EGRESS_GATEWAY={"value": 5}), "put the value into quotes"),
        (router(EGRESS_SOURCE=SECRET, EGRESS_DESTINATION="$(EGRESS_SOURCE)"), "it refers to EGRESS_SOURCE"),
        (router(LATER="203.0.113.25", EGRESS_DESTINATION="$(LATER)"), "'$(LATER)'"),
        (router(EGRESS_SOURCE="192.168.12.0/24"), "the network's own address"),
        (router(EGRESS_DESTINATION="80 tcp 203.0.113.999"), "203.0.113.999"),
        (router(EGRESS_DESTINATION="203.0.113.25\n80 tcp 203.0.113.26"), "has to be the last"),
        (router(EGRESS_DESTINATION="80 icmp 203.0.113.25"), "a protocol is one of"),
        (router(EGRESS_ROUTER_MODE="unit-test"), "'unit-test' is none of"),
        (router(spec={"hostNetwork": True}), "hostNetwork"),
        (router(kind="DaemonSet"), "a DaemonSet cannot hold an address"),
        (ANNOTATED, "macvlan-egress/mode already"),
        (TWO, "more than one egress router"),
        (egress_router(mode="Proxy"), "only Redirect exists"),
        (egress_router(addresses=[]), "spec.addresses: there is none"),
        (egress_router(addresses=[NO_ADDRESS]), "addresses[0].gateway: it is needed"),
        (egress_router(redirect={}), "neither a rule nor a fallbackIP"),
        (egress_router(redirect={"fallbackIP": "203.0.113.0/30"}), "leave out the prefix length"),
        (egress_router(networkInterface={"macvlan": {"mode": "Source"}}), "'source' is none of"),
        (egress_router(addresses="192.168.12.99"), "addresses: a list of objects is expected"),
        ({"kind": "Template", "objects": [router()]}, "oc process"),
    ],
)
def test_router_that_cannot_be_carried_over_is_left_out_with_the_reason(
    migrate: Any, given: Any, reason: str
) -> None:
    good = router(EGRESS_SOURCE="192.168.12.98/24")
    good["metadata"]["name"] = "good"
    status, documents, said = migrate(given, good)
    assert status == 1
    assert [one["metadata"]["name"] for one in documents] == ["good"]
    (error,) = [line for line in said.splitlines() if ": error: " in line]
    assert reason in error


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not YAML"),
        ("- a\n", "there is no 'kind' in it"),
        ("kind: Pod\nmetadata: &a {}\nspec: *a\n", "anchors"),
        ("kind: Pod\nkind: Pod\n", "stands there twice"),
        ("kind: List\nitems: [5]\n", "a list of objects is expected"),
        ("", "no egress router in it"),
        ("kind: Service\nmetadata: {name: a}\n", "no egress router in it"),
    ],
)
def test_what_is_no_manifest_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    path = tmp_path / "in.yaml"
    path.write_text(text)
    assert command_line.main(["migrate", "-f", str(path)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert reason in output.err


def test_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["migrate", "-f", "/nonexistent.yaml"]) == 1
    assert "/nonexistent.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["on", "0x10", "1.0", "null", "2019-03-01", "a: b", "-", "#", "'", "a\nb\n", "\t"]
)
def test_written_text_is_read_as_the_same_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "out.yaml"
    document = {"kind": "ConfigMap", "data": {"text": text}}
    path.write_text(manifest.write([document, document]))
    assert manifest.read(str(path)) == [document, document]
    assert yaml.safe_load_all(path.read_text()).__next__() == document
