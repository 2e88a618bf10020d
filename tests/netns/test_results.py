"""What is printed: the chain's result with ours added, in the version that was asked for."""

from __future__ import annotations

import json

import pytest
from lab import POD_ANNOTATIONS, Node, source, unchanged

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
DUAL = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1")
OFF = {"conflictDetection": "off"}


@pytest.mark.parametrize("version", VERSIONS)
def test_interface_and_addresses_are_appended_in_every_version(node: Node, version: str) -> None:
    pod = node.pod(version=version)
    with unchanged(pod, node):
        result = node.add(pod, DUAL, conf=OFF).ok()
        assert result["cniVersion"] == version
        assert result["interfaces"][:-1] == pod.previous["interfaces"]
        assert result["ips"][:-2] == pod.previous["ips"]
        assert result["dns"] == pod.previous["dns"]
        ours = result["interfaces"][-1]
        assert ours.pop("mtu", None) == (1500 if version == "1.1.0" else None)
        assert ours == {"name": "macvlan0", "mac": pod.mac("macvlan0"), "sandbox": pod.path}
        added = [
            {"address": "192.168.12.99/24", "gateway": "192.168.12.1", "interface": 1},
            {"address": "fd00:12::99/64", "gateway": "fd00:12::1", "interface": 1},
        ]
        if version < "1.0.0":
            added = [{"version": number, **ip} for number, ip in zip("46", added, strict=True)]
        assert result["ips"][-2:] == added
        if version >= "0.4.0":
            node.check(pod).ok()
        node.delete(pod).ok()


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
@pytest.mark.parametrize("main", ["bridge", "ptp"])
def test_chain_after_debians_plugins_in_every_version(node: Node, main: str, version: str) -> None:
    pod = node.pod(main, version)
    result = node.add(pod, DUAL, conf=OFF).ok()
    names = [one["name"] for one in pod.previous["interfaces"]]
    assert [one["name"] for one in result["interfaces"]] == [*names, "macvlan0"]
    assert [ip["interface"] for ip in result["ips"]][-2:] == [len(names), len(names)]
    assert result["ips"][:-2] == pod.previous["ips"]
    node.delete(pod).ok()
    pod.disconnect()


def test_unknown_fields_of_the_previous_result_survive(node: Node) -> None:
    pod = node.pod()
    pod.previous["x-vendor"] = {"deep": [1, None, "é", {"a": 1.5}]}
    pod.previous["interfaces"][0]["socketPath"] = "/run/x.sock"
    pod.previous["interfaces"][0]["x-more"] = [True]
    pod.previous["routes"] = [{"dst": "0.0.0.0/0", "x-why": "because", "mtu": 1400}]
    result = node.add(pod, DUAL, conf=OFF).ok()
    assert result["x-vendor"] == pod.previous["x-vendor"]
    assert result["interfaces"][0] == pod.previous["interfaces"][0]
    assert result["routes"] == pod.previous["routes"]


@pytest.mark.parametrize(
    "previous", [{"cniVersion": "1.1.0"}, {"cniVersion": "1.1.0", "interfaces": None, "ips": []}]
)
def test_empty_previous_result_is_enough(node: Node, previous: dict) -> None:
    pod = node.pod()
    pod.previous = previous
    result = node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    assert [one["name"] for one in result["interfaces"]] == ["macvlan0"]
    assert result["ips"][0]["interface"] == 0


# -- pass-through

PREVIOUS = """{ "ips":[ {"address" : "10.244.0.5/24",  "interface":1, "x": 1.50} ],
\t"interfaces": [{"name":"cni0"}, {"name":"eth0","sandbox":"/x","unknown":{"b":1,"a":2}}],
  "cniVersion": "%s", "x-vendor": "\\u00e9 é", "x-vendor-big": 12345678901234567890, "dns": {} }"""


def passed_through(node: Node, pod, **keys) -> str:
    request = node.request(pod, conf=keys)
    version = request.document["cniVersion"]
    previous = PREVIOUS % version
    document = request.but(prevResult=None).stdin
    stdin = document[:-1] + f', "prevResult": {previous}}}'
    json.loads(stdin)
    answer = node.execute({"CNI_COMMAND": "ADD", **request.environment}, stdin)
    answer.ok()
    assert answer.stdout.rstrip("\n") == previous
    return answer.stderr


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        {},
        {"some/other": "annotation"},
        {"pod.network.openshift.io/assign-macvlan": "false"},
        {"pod.network.openshift.io/assign-macvlan": ""},
        {"pod.network.openshift.io/assign-macvlan-not": "true", "xmacvlan-egress/source": "192.168.12.99"},
    ],
)
def test_unannotated_pod_gets_the_previous_result_to_the_letter(node: Node, annotations: dict | None) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        assert passed_through(node, pod, runtimeConfig={POD_ANNOTATIONS: annotations}) == ""
    assert node.written_files() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_pass_through_in_every_version(node: Node, version: str) -> None:
    pod = node.pod(version=version)
    passed_through(node, pod)
    assert node.written_files() == []


def test_pass_through_cares_for_nothing_that_an_attachment_needs(node: Node) -> None:
    pod = node.pod()
    pod.remove()
    passed_through(node, pod, master="nosuch0", allow=[], stateDir="/proc/nowhere")


def test_previous_result_of_another_version_is_converted(node: Node) -> None:
    pod = node.pod(version="0.4.0")
    result = node.add(pod, conf={"cniVersion": "1.0.0"}).ok()
    assert result["cniVersion"] == "1.0.0"
    assert [ip["address"] for ip in result["ips"]] == [ip["address"] for ip in pod.previous["ips"]]
    assert not any("version" in ip for ip in result["ips"])


def test_unannotated_pod_passes_all_verbs_without_a_trace(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod).ok()
        node.check(pod).ok()
        node.delete(pod).ok()
        node.delete(pod).ok()
    assert node.written_files() == []


def test_pass_through_imports_nothing_heavy(node: Node) -> None:
    pod = node.pod()
    request = node.request(pod)
    trace = f"{node.directory}/trace"
    for verb in ("ADD", "DEL"):
        answer = node.execute(
            {"CNI_COMMAND": verb, **request.environment},
            request.stdin,
            wrapper=("strace", "-f", "-qq", "-e", "trace=open,openat,socket", "-o", trace),
        )
        answer.ok()
        with open(trace) as handle:
            seen = handle.read()
        assert "/passthrough." in seen  # else this shows nothing
        for heavy in ("pydantic", "pyroute2", "/yaml/", "asyncio", "/json/", "/subprocess", "AF_NETLINK"):
            assert heavy not in seen, heavy


def test_version_lists_what_is_spoken(node: Node) -> None:
    answer = node.execute({"CNI_COMMAND": "VERSION"}, '{"cniVersion": "1.0.0"}')
    assert answer.ok() == {
        "cniVersion": "1.1.0",
        "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }
