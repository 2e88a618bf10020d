"""A configuration or annotation that breaks a rule: which one, what about it, and nothing is touched."""

from __future__ import annotations

import os

import pytest
from lab import ASSIGN, Node, source, unchanged

CONFIGURATION, ANNOTATION, ADDRESS_HELD = 7, 106, 103
SOURCE = source("192.168.12.99/24")


def refused(node: Node, annotations: dict, conf: dict, code: int, *words: str) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        node.add(pod, annotations, conf=conf).refused(code, *words)
    assert not os.path.exists(node.record(pod))


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"mastr": "eth0"}, ["mastr", "'master'"]),
        ({"Mode": "bridge"}, ["Mode", "'mode'"]),
        ({"if_name": "macvlan0"}, ["if_name", "'ifName'"]),
        ({"xyzzy": 1}, ["xyzzy"]),
        ({"master": 5}, ["master", "5"]),
        ({"master": ""}, ["master"]),
        ({"master": "../eth0"}, ["master", "../eth0"]),
        ({"master": "a" * 16}, ["master"]),
        ({"mode": "bridged"}, ["mode", "bridged", "bridge", "private", "vepa", "passthru"]),
        ({"mode": ["bridge"]}, ["mode"]),
        ({"mtu": "1500"}, ["mtu", "1500"]),
        ({"mtu": 67}, ["mtu", "68"]),
        ({"mtu": -1}, ["mtu"]),
        ({"mtu": 1500.5}, ["mtu"]),
        ({"mtu": True}, ["mtu"]),
        ({"mtu": 10**30}, ["mtu"]),
        ({"ifName": "sixteen-bytes-if"}, ["ifName", "sixteen-bytes-if", "15"]),
        ({"ifName": "a/b"}, ["ifName", "a/b"]),
        ({"ifName": "a\u0000b"}, ["ifName"]),
        ({"ifName": ".."}, ["ifName"]),
        ({"ifName": ""}, ["ifName"]),
        ({"mac": "xx:yy"}, ["mac", "xx:yy"]),
        ({"mac": "01:00:5e:00:00:01"}, ["mac", "01:00:5e:00:00:01"]),
        ({"mac": "00:00:00:00:00:00"}, ["mac"]),
        ({"ipam": "host-local"}, ["ipam"]),
        ({"ipam": {}}, ["ipam", "type"]),
        ({"ipam": {"type": "../host-local"}}, ["ipam", "type"]),
        ({"allow": {}}, ["allow"]),
        ({"allow": "*"}, ["allow"]),
        ({"allow": [{}]}, ["allow", "namespaces"]),
        ({"allow": [{"namespaces": []}]}, ["allow", "namespaces"]),
        ({"allow": [{"namespaces": "*"}]}, ["allow", "namespaces"]),
        ({"allow": [{"namespaces": ["*"], "source": ["192.168.12.0/24"]}]}, ["allow", "source"]),
        ({"allow": [{"namespaces": ["*"], "sources": ["192.168.12.0/33"]}]}, ["allow", "192.168.12.0/33"]),
        ({"conflictDetection": "none"}, ["conflictDetection", "none", "off"]),
        ({"conflictDetection": False}, ["conflictDetection"]),
        ({"conflictTimeoutMs": "200"}, ["conflictTimeoutMs"]),
        ({"conflictTimeoutMs": 0}, ["conflictTimeoutMs"]),
        ({"routes": "everything"}, ["routes", "everything", "destinations", "default"]),
        ({"clusterNetworks": "10.244.0.0/16"}, ["clusterNetworks"]),
        ({"clusterNetworks": ["10.244.0.0/99"]}, ["clusterNetworks", "10.244.0.0/99"]),
        ({"clusterNetworks": ["pods"]}, ["clusterNetworks", "pods"]),
        ({"annotations": "runtime"}, ["annotations"]),
        ({"annotations": ["runtme"]}, ["annotations", "runtme"]),
        ({"stateDir": "state"}, ["stateDir", "state"]),
        ({"stateDir": 5}, ["stateDir"]),
        ({"runDir": "../run"}, ["runDir"]),
        ({"logFile": "x.log"}, ["logFile"]),
        ({"logLevel": "loud"}, ["logLevel", "loud", "info"]),
        ({"kubeconfig": "config"}, ["kubeconfig"]),
    ],
    ids=str,
)
def test_bad_key_of_the_configuration_is_named(node: Node, conf: dict, words: list[str]) -> None:
    refused(node, SOURCE, {"stateDir": node.state_dir, **conf}, CONFIGURATION, *words)


def test_unknown_key_is_refused_for_a_pod_without_annotation_too(node: Node) -> None:
    refused(node, {}, {"mastr": "eth0"}, CONFIGURATION, "mastr", "'master'")


S, G = "macvlan-egress/source", "macvlan-egress/gateway"


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        (source("192.168.12.300"), [S, "192.168.12.300"]),
        (source("192.168.12.99/33"), [S, "192.168.12.99/33"]),
        (source("192.168.12.99/-1"), [S]),
        (source("192.168.12.99/255.255.255.0"), [S]),
        (source("192.168.012.099"), [S]),
        (source("egress.example.com"), [S, "egress.example.com"]),
        ({ASSIGN: "true", S: ""}, [S]),
        ({ASSIGN: "true", S: " , "}, [S]),
        (source("192.168.12.99,192.168.12.98"), [S, "IPv4"]),
        (source("fd00:12::98,fd00:12::99", "fd00:12::1"), [S, "IPv6"]),
        (source("0.0.0.0"), [S, "0.0.0.0"]),
        (source("127.0.0.1"), [S, "127.0.0.1"]),
        (source("224.0.0.1"), [S, "224.0.0.1"]),
        (source("255.255.255.255"), [S]),
        (source("192.168.12.0/24"), [S, "192.168.12.0"]),
        (source("192.168.12.255/24"), [S, "192.168.12.255"]),
        (source("::", "fd00:12::1"), [S]),
        (source("::1", "fd00:12::1"), [S]),
        (source("ff02::1", "fd00:12::1"), [S]),
        (source("fe80::99/64", "fd00:12::1"), [S]),
        (source("fd00:12::99%eth0", "fd00:12::1"), [S]),
        (source("::ffff:192.168.12.99", "fd00:12::1"), [S]),
        (source("192.168.12.99/24\n", "192.168.12.1\n192.168.12.2"), [G]),
        (source("192.168.12.99/24", "192.168.12.1/24"), [G, "192.168.12.1/24"]),
        (source("192.168.12.99/24", "router"), [G, "router"]),
        (source("192.168.12.99/24", "192.168.12.99"), [G, "192.168.12.99"]),
        (source("192.168.12.99/24", "fd00:12::1"), [G, "fd00:12::1", "IPv6"]),
        (source("fd00:12::99/64", "192.168.12.1"), [G, "192.168.12.1", "IPv4"]),
        (source("192.168.12.99/24", "192.168.12.1,fd00:12::1"), [G, "fd00:12::1"]),
        (source("192.168.12.99/24", "192.168.12.1,192.168.12.2"), [G]),
        (source("192.168.12.99/24", "0.0.0.0"), [G, "0.0.0.0"]),
        (source("192.168.12.99/24", "224.0.0.5"), [G]),
        (source("192.168.12.99/24", "192.168.12.255"), [G, "192.168.12.255"]),
        ({ASSIGN: "true", G: "192.168.12.1"}, [G, S]),
        ({ASSIGN: "false", **{S: "192.168.12.99"}}, [ASSIGN, S]),
        ({ASSIGN: "true", "macvlan-egress/destination": "203.0.113.25"}, ["macvlan-egress/destination", S]),
        ({ASSIGN: "true", "macvlan-egress/routes": "default"}, ["macvlan-egress/routes", S]),
        (source("192.168.12.99", routes="all"), ["macvlan-egress/routes", "all", "destinations"]),
        (source("192.168.12.99", mtu="big"), ["macvlan-egress/mtu", "big"]),
        (source("192.168.12.99", mtu="67"), ["macvlan-egress/mtu", "67"]),
        (source("192.168.12.99", mtu="1e3"), ["macvlan-egress/mtu", "1e3"]),
        (source("192.168.12.99", mtu="٣٤٥٦"), ["macvlan-egress/mtu"]),
        (source("192.168.12.99", mode="hub"), ["macvlan-egress/mode", "hub", "bridge"]),
        (source("192.168.12.99", mac="zz"), ["macvlan-egress/mac", "zz"]),
        (source("192.168.12.99", mac="01:00:00:00:00:01"), ["macvlan-egress/mac", "01:00:00:00:00:01"]),
        ({**SOURCE, "macvlan-egress/sorce": "192.168.12.99"}, ["macvlan-egress/sorce", "source"]),
        ({**SOURCE, "macvlan-egress/": "x"}, ["macvlan-egress/"]),
        ({ASSIGN: "../eth0"}, [ASSIGN, "../eth0"]),
        ({ASSIGN: "sixteen-bytes-if"}, [ASSIGN, "sixteen-bytes-if"]),
        ({ASSIGN: "eth0\u0000"}, [ASSIGN]),
        ({ASSIGN: "eth0 eth1"}, [ASSIGN, "eth0 eth1"]),
    ],
    ids=lambda value: ",".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_bad_annotation_is_named_with_its_value(node: Node, annotations: dict, words: list[str]) -> None:
    refused(node, annotations, {}, ANNOTATION, *words)


@pytest.mark.parametrize("value", [True, 1, None, ["true"], {}])
def test_annotation_that_is_no_string_is_refused_or_ignored_like_absent(node: Node, value: object) -> None:
    refused(node, {S: value}, {}, ANNOTATION, S)


@pytest.mark.parametrize("assign", ["True", "TRUE", "yes", "1"])
def test_misspelt_true_is_taken_for_a_nic_and_the_error_shows_it(node: Node, assign: str) -> None:
    refused(node, {ASSIGN: assign}, {}, 101, assign)


def test_gateway_that_is_the_node_itself_is_refused(node: Node) -> None:
    refused(node, source("192.168.12.99/24", "192.168.12.10"), {}, ADDRESS_HELD, "192.168.12.10")


def test_annotations_that_are_no_object_are_refused(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        conf = {"runtimeConfig": {"io.kubernetes.cri.pod-annotations": "x"}}
        answer = node.add(pod, conf=conf)
        assert answer.status != 0
        assert answer.json["code"] in (6, 7, ANNOTATION)
        assert "pod-annotations" in answer.json["msg"]


def test_long_values_are_cut_in_the_message(node: Node) -> None:
    pod = node.pod()
    answer = node.add(pod, source("9" * 100_000))
    answer.refused(ANNOTATION, S)
    assert len(answer.stdout) < 2000


def test_state_directory_that_cannot_be_written_is_named(node: Node) -> None:
    path = f"{node.directory}/file"
    with open(path, "w") as handle:
        handle.write("in the way")
    refused(node, SOURCE, {"stateDir": path}, 5, path)


def test_log_file_that_cannot_be_written_does_not_stop_an_attachment(node: Node) -> None:
    pod = node.pod()
    node.add(pod, SOURCE, conf={"logFile": "/proc/nowhere/x.log"}).ok()
    node.delete(pod).ok()
