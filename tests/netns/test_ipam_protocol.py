"""How an IPAM plugin is called, and what becomes of one that misbehaves."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from lab import Answer, Node, Pod, unchanged

IPAM_FAILED = 109


def attach(node: Node, pod: Pod, ipam: dict[str, Any]) -> Answer:
    return node.send_add(pod, node.standalone(pod, conf={"ipam": ipam}))


RECORDER = """#!/bin/sh
cat > {directory}/$CNI_COMMAND.stdin
env | sort > {directory}/$CNI_COMMAND.environment
test "$CNI_COMMAND" = ADD && echo '{{"cniVersion": "1.1.0", "ips": [{{"address": "192.168.12.66/24"}}]}}'
exit 0
"""


@pytest.fixture
def recorder(node: Node) -> str:
    """An IPAM plugin that keeps what it was called with; returns where."""
    directory = f"{node.directory}/recorded"
    os.mkdir(directory)
    bin_dir = f"{node.directory}/bin"
    os.mkdir(bin_dir)
    os.symlink(f"{node.bin_dir}/macvlan-egress", f"{bin_dir}/macvlan-egress")
    with open(f"{bin_dir}/recorder", "w") as handle:
        handle.write(RECORDER.format(directory=directory))
    os.chmod(f"{bin_dir}/recorder", 0o700)
    node.bin_dir = bin_dir
    return directory


def seen(directory: str, verb: str) -> tuple[dict[str, str], dict[str, Any]]:
    with open(f"{directory}/{verb}.environment") as handle:
        environment = dict(line.rstrip("\n").split("=", 1) for line in handle if "=" in line)
    with open(f"{directory}/{verb}.stdin") as handle:
        return environment, json.load(handle)


def test_every_verb_is_passed_on_with_its_environment(node: Node, recorder: str) -> None:
    pod = node.pod()
    attach(node, pod, {"type": "recorder", "own": {"key": 1}}).ok()
    node.check(pod, "net1").ok()
    conf = {"name": "lan", "ipam": {"type": "recorder"}}
    node.status(conf).ok()
    node.gc(pod, conf=conf).ok()
    node.delete(pod, "net1").ok()
    for verb in ("ADD", "CHECK", "DEL"):
        environment, stdin = seen(recorder, verb)
        assert environment["CNI_COMMAND"] == verb
        assert environment["CNI_CONTAINERID"] == pod.container_id
        assert environment["CNI_IFNAME"] == "net1"
        assert environment["CNI_PATH"] == node.bin_dir
        assert environment["CNI_NETNS"] == pod.path
        assert stdin["ipam"] == {"type": "recorder", "own": {"key": 1}}
        assert stdin["cniVersion"] == "1.1.0"
    assert seen(recorder, "GC")[1]["cni.dev/valid-attachments"] == [
        {"containerID": pod.container_id, "ifname": "net1"}
    ]
    assert seen(recorder, "STATUS")[0]["CNI_COMMAND"] == "STATUS"


def test_late_delete_releases_by_the_recorded_ipam(node: Node, recorder: str) -> None:
    pod = node.pod()
    attach(node, pod, {"type": "recorder", "own": {"key": 1}}).ok()
    pod.requests["net1"] = pod.requests["net1"].but(ipam=None)
    node.delete(pod, "net1").ok()
    assert seen(recorder, "DEL")[1]["ipam"] == {"type": "recorder", "own": {"key": 1}}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo no json at all", ["recorder"]),
        ('echo \'{"cniVersion": "1.1.0"}\'', ["recorder", "address"]),
        ('echo \'{"cniVersion": "1.1.0", "ips": [{"address": "192.168.12.999/24"}]}\'', ["192.168.12.999"]),
        ('echo \'{"cniVersion": "1.1.0", "ips": 7}\'', ["recorder"]),
        ("echo broken >&2; exit 3", ["recorder", "broken"]),
        ('echo \'{"code": 7, "msg": "my own words"}\'; exit 1', ["my own words"]),
        ("kill -9 $$", ["recorder"]),
    ],
)
def test_misbehaving_ipam_plugin_fails_the_add_and_leaves_nothing(
    node: Node, recorder: str, script: str, words: list[str]
) -> None:
    with open(f"{node.bin_dir}/recorder", "w") as handle:
        handle.write(f'#!/bin/sh\ncat > /dev/null\ntest "$CNI_COMMAND" = ADD || exit 0\n{script}\n')
    pod = node.pod()
    with unchanged(pod, node):
        answer = attach(node, pod, {"type": "recorder"})
        assert answer.status != 0
        assert answer.json["code"] in (IPAM_FAILED, 6)
        for word in words:
            assert word in answer.json["msg"] + answer.json.get("details", ""), answer


# -- Debian's host-local speaks no version after 1.0.0


def older(node: Node) -> dict[str, Any]:
    ranges = [[{"subnet": "192.168.12.0/24", "rangeStart": "192.168.12.200"}]]
    return {"type": "host-local", "ranges": ranges, "dataDir": f"{node.directory}/leases"}


def test_add_by_a_plugin_that_does_not_speak_the_version_leaves_nothing(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        attach(node, pod, older(node)).refused(IPAM_FAILED, "host-local", "version")
    node.send("DEL", node.standalone(pod, conf={"ipam": older(node)})).ok()
    assert not os.path.exists(node.record(pod, "net1"))


def test_status_says_that_the_plugin_does_not_speak_the_version(node: Node) -> None:
    node.status({"name": "lan", "ipam": older(node)}).refused(50, "host-local", "1.1.0", "1.0.0")


def test_gc_bears_with_a_plugin_that_does_not_know_it(node: Node) -> None:
    node.gc(conf={"name": "lan", "ipam": older(node)}).ok()
