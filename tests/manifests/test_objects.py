"""The objects of conf/kubernetes: valid, and true to what the code does."""

from __future__ import annotations

import copy
import importlib
import json
from argparse import ArgumentParser, Namespace
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from cni_macvlan_egress import __version__
from cni_macvlan_egress.admin.daemon import SOCKET
from cni_macvlan_egress.model.configuration import Configuration
from cni_macvlan_egress.model.keys import (
    DEFAULT_LOG_FILE,
    DEFAULT_POLICY_DIRECTORY,
    DEFAULT_RUN_DIR,
    DEFAULT_STATE_DIR,
    ENVELOPE,
)

from .kustomize import FILE, KUBERNETES, Object, find, names, render

CONF = KUBERNETES.parent
COMPONENTS = ("monitoring", "policies", "uninstall")
VARIANTS = {
    "base": render(KUBERNETES / "base"),
    **{name: render(KUBERNETES / "overlays" / name) for name in ("k3s", "openshift")},
    **{name: render(KUBERNETES / "base", name) for name in COMPONENTS},
    "all": render(KUBERNETES / "base", *COMPONENTS),
}
# The first version with ValidatingAdmissionPolicy, and the last that the schemas are known of.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
OTHERS_KINDS = ("PodMonitor", "NetworkAttachmentDefinition")
EXECUTABLE = "/opt/cni-macvlan-egress/bin/macvlan-egress"
UNSHARE = ["/usr/bin/unshare", "--mount-proc", "--propagation", "unchanged"]

STRING = {"type": "string"}
STRINGS = {"type": "array", "items": STRING}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "required": required, "properties": properties, "additionalProperties": False,
    }  # fmt: skip


# As far as they are used here; the kinds are their own projects'.
RELABELING = closed(
    [], sourceLabels=STRINGS, targetLabel=STRING, regex=STRING, action={"enum": ["labeldrop"]}
)
ENDPOINT = closed(
    ["port"],
    port=STRING,
    path=STRING,
    interval={"type": "string", "pattern": "^[0-9]+s$"},
    relabelings={"type": "array", "items": RELABELING},
)
SPECS = {
    "PodMonitor": (
        "monitoring.coreos.com/v1",
        closed(
            ["selector", "podMetricsEndpoints"],
            selector=closed([], matchLabels={"type": "object"}),
            podMetricsEndpoints={"type": "array", "items": ENDPOINT, "minItems": 1},
        ),
    ),
    "NetworkAttachmentDefinition": ("k8s.cni.cncf.io/v1", closed(["config"], config=STRING)),
}


def pod_of(objects: list[Object]) -> Object:
    spec: Object = find(objects, "DaemonSet")["spec"]["template"]["spec"]
    return spec


def containers(objects: list[Object]) -> dict[str, Object]:
    pod = pod_of(objects)
    return {one["name"]: one for one in (*pod["initContainers"], *pod["containers"])}


def parsed(container: Object) -> tuple[str, Namespace]:
    """The command of a container, taken by the command line's own parser."""
    words = [*container.get("command", []), *container["args"]]
    if words[: len(UNSHARE)] == UNSHARE:
        words = words[len(UNSHARE) + 1 :]
    words = [word.replace("$(HOST_IP)", "192.168.12.10") for word in words]
    parser = ArgumentParser()
    importlib.import_module(f"cni_macvlan_egress.admin.{words[0]}").configure(parser)
    return words[0], parser.parse_args(words[1:])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_are_what_kubernetes_publishes(variant: str, version: str) -> None:
    for one in VARIANTS[variant]:
        if one["kind"] not in OTHERS_KINDS:
            kubernetes_validate.validate(one, version, strict=True)


def test_schemas_find_a_slip_of_the_pen() -> None:
    daemonset = copy.deepcopy(find(VARIANTS["base"], "DaemonSet"))
    pod_of([daemonset])["containers"][0]["securityContext"]["capabilites"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="capabilites"):
        kubernetes_validate.validate(daemonset, VERSIONS[0], strict=True)


def test_kinds_of_other_projects_have_their_form() -> None:
    found = [one for objects in VARIANTS.values() for one in objects if one["kind"] in OTHERS_KINDS]
    found += list(yaml.safe_load_all((CONF / "multus-nad.yaml").read_text()))
    for one in found:
        version, schema = SPECS[one["kind"]]
        assert one["apiVersion"] == version
        jsonschema.validate(one["spec"], schema)
    assert {one["kind"] for one in found} == set(OTHERS_KINDS)


def test_every_file_is_used() -> None:
    for path in KUBERNETES.rglob("*"):
        if path.is_file() and path.name != FILE:
            assert path.name in names(path.parent), path


def test_rights_are_in_one_place() -> None:
    assert (CONF / "rbac-policy.yaml").resolve() == KUBERNETES / "base/rbac.yaml"


@pytest.mark.parametrize("variant", VARIANTS)
def test_parts_fit_together(variant: str) -> None:
    objects = VARIANTS[variant]
    daemonset, account = find(objects, "DaemonSet"), find(objects, "ServiceAccount")
    pod = pod_of(objects)
    labels = daemonset["spec"]["template"]["metadata"]["labels"]
    assert daemonset["spec"]["selector"]["matchLabels"] == labels
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert daemonset["metadata"]["namespace"] == account["metadata"]["namespace"]
    for one in objects:
        for subject in one.get("subjects", ()):
            assert subject["namespace"] == account["metadata"]["namespace"]
            assert subject["name"] == account["metadata"]["name"]
    maps = {one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"}
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert {one["configMap"]["name"] for one in volumes.values() if "configMap" in one} <= maps
    for container in containers(objects).values():
        assert container["image"] == f"macvlan-egress:{__version__}"
        assert {one["name"] for one in container["volumeMounts"]} <= volumes.keys()


@pytest.mark.parametrize("variant", VARIANTS)
def test_commands_are_understood(variant: str) -> None:
    for container in containers(VARIANTS[variant]).values():
        words, arguments = parsed(container)
        mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
        if words == "launcher":
            assert arguments.native and arguments.no_direct and arguments.socket == SOCKET
            assert not mounts[arguments.write].get("readOnly")
        elif words in ("install", "uninstall"):
            assert not mounts[arguments.cni_dir].get("readOnly")
            assert arguments.state_dir.startswith("/var/lib/cni/") and not mounts["/var/lib/cni"].get(
                "readOnly"
            )
        else:
            assert words == "daemon"


def test_installer_watches_and_has_the_entry() -> None:
    container = containers(VARIANTS["base"])["install"]
    _, arguments = parsed(container)
    assert arguments.watch and arguments.no_executable
    directory, _, file = arguments.config.rpartition("/")
    assert {one["mountPath"]: one["name"] for one in container["volumeMounts"]}[directory] == "entry"
    entry = json.loads(find(VARIANTS["base"], "ConfigMap")["data"][file])
    assert Configuration.of(entry).allow


def test_uninstaller_leaves_nobody_who_would_install() -> None:
    assert {parsed(one)[0] for one in containers(VARIANTS["uninstall"]).values()} == {
        "launcher", "uninstall", "daemon",
    }  # fmt: skip
    update = find(VARIANTS["uninstall"], "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"]
    assert update == {"maxSurge": 0, "maxUnavailable": 1}  # else the old pod still watches


@pytest.mark.parametrize("variant", VARIANTS)
def test_daemon_has_the_directories_that_it_works_in(variant: str) -> None:
    objects = VARIANTS[variant]
    volumes = {one["name"]: one.get("hostPath", {}).get("path") for one in pod_of(objects)["volumes"]}
    mounts = {one["mountPath"]: one for one in containers(objects)["daemon"]["volumeMounts"]}

    def place(path: str) -> Object:
        """The mount that a path of the daemon is on; the node knows it by the same path."""
        inner = max((one for one in mounts if path == one or path.startswith(f"{one}/")), key=len)
        assert volumes[mounts[inner]["name"]] == inner
        return mounts[inner]

    for path in (DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, DEFAULT_LOG_FILE, SOCKET):
        assert not place(path).get("readOnly"), path
    assert place(DEFAULT_POLICY_DIRECTORY).get("readOnly")
    assert place("/run/netns")["mountPropagation"] == "HostToContainer"
    plugins = volumes["cni-bin"]
    assert plugins and place(plugins)
    launcher = containers(objects)["launcher"]
    assert [volumes[one["name"]] for one in launcher["volumeMounts"]] == [plugins]


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_privileged(variant: str) -> None:
    pod = pod_of(VARIANTS[variant])
    assert not pod.keys() & {"hostPID", "hostIPC", "shareProcessNamespace"}
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for name, container in containers(VARIANTS[variant]).items():
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert "privileged" not in context
        assert context["capabilities"]["drop"] == ["ALL"]
        assert (name == "daemon") == ("appArmorProfile" in context)


def test_upgrade_overlaps_unless_a_port_is_in_the_way() -> None:
    def strategy(variant: str) -> Object:
        found: Object = find(VARIANTS[variant], "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"]
        return found

    assert strategy("base") == {"maxSurge": 1, "maxUnavailable": 0}
    assert "ports" not in containers(VARIANTS["base"])["daemon"]
    assert strategy("monitoring") == {"maxSurge": 0, "maxUnavailable": 1}


def test_calls_end_before_the_pod_is_killed() -> None:
    _, arguments = parsed(containers(VARIANTS["base"])["daemon"])
    assert pod_of(VARIANTS["base"])["terminationGracePeriodSeconds"] > arguments.deadline


def test_prometheus_finds_the_daemons_port() -> None:
    objects = VARIANTS["monitoring"]
    monitor = find(objects, "PodMonitor")["spec"]
    daemonset = find(objects, "DaemonSet")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= daemonset["template"]["metadata"]["labels"].items()
    (port,) = containers(objects)["daemon"]["ports"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == port["name"]
    _, arguments = parsed(containers(objects)["daemon"])
    assert arguments.listen == f"192.168.12.10:{port['containerPort']}"


def test_openshifts_network_is_the_plugins_configuration() -> None:
    network = find(VARIANTS["openshift"], "NetworkAttachmentDefinition", "lan")
    conf = json.loads(network["spec"]["config"])
    assert conf["name"] == network["metadata"]["name"]
    own = {key: value for key, value in conf.items() if key not in ENVELOPE}
    assert Configuration.of(own).annotations == ("kubernetes",)  # Multus passes none on
