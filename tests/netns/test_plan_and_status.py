"""What an admin sees: `plan` before an ADD, `status` after it; both say what the kernel has."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from lab import Node, Pod, source, unchanged, within
from lab.network import OUTSIDE4

OFF = {"conflictDetection": "off"}
LINES = f"80 tcp {OUTSIDE4} 8080\n8000-8010 udp {OUTSIDE4}"
ANNOTATIONS = source("192.168.12.99/24", destination=LINES)


def command(node: Node, *words: str, status: int = 0) -> str:
    """Run an admin command on the node."""
    argv = [os.path.join(node.bin_dir, "macvlan-egress"), *words]
    done = within(node.path, lambda: subprocess.run(argv, capture_output=True, text=True, check=False))
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    return done.stdout


def status(node: Node, expected: int = 0) -> Any:
    return json.loads(command(node, "status", "--json", "--state-dir", node.state_dir, status=expected))


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "pod.json"
    metadata = {"name": "egress", "namespace": "shop", "annotations": ANNOTATIONS}
    path.write_text(json.dumps({"kind": "Pod", "metadata": metadata}))
    return str(path)


@pytest.fixture
def conflist(node: Node, tmp_path: Path) -> str:
    path = tmp_path / "10-pods.conflist"
    plugins = [{"type": "bridge"}, node.configuration(**OFF)]
    path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}))
    return str(path)


# -- plan


def test_plan_is_what_add_does(node: Node, manifest: str, conflist: str) -> None:
    pod = node.pod()
    words = ("plan", "--json", "-f", manifest, "--conflist", conflist, "--netns", pod.path)
    with unchanged(pod, node):
        (planned,) = json.loads(command(node, *words))
    node.add(pod, ANNOTATIONS, conf=OFF).ok()
    done = json.loads(Path(node.record(pod)).read_text())["plan"]
    done["link"]["mac"] = None
    assert planned["plan"] == done


def test_plan_for_an_assumed_pod_reads_like_ip_and_nft(node: Node, manifest: str, conflist: str) -> None:
    before = node.snapshot()
    text = command(node, "plan", "-f", manifest, "--conflist", conflist)
    assert node.snapshot() == before
    for words in (
        "Pod egress, namespace shop",
        "macvlan0: macvlan on eth0, mode bridge, mtu 1500",
        "192.168.12.99/24",
        f"{OUTSIDE4}/32 via 192.168.12.1 dev macvlan0 src 192.168.12.99 onlink",
        "7200: from 192.168.12.99/32 lookup 7200",
        "net.ipv4.conf.eth0.forwarding = 1",
        f"dnat ip to {OUTSIDE4}:8080",
    ):
        assert words in text


def test_plan_of_a_pod_that_would_be_refused_says_why(node: Node, manifest: str, conflist: str) -> None:
    document = json.loads(Path(manifest).read_text())
    document["metadata"]["annotations"] = source("192.168.12.10/24")
    Path(manifest).write_text(json.dumps(document))
    text = command(node, "plan", "-f", manifest, "--conflist", conflist, status=1)
    assert "192.168.12.10" in text
    assert "the node's own" in text


# -- status


def test_status_counts_the_flows_of_each_line(node: Node) -> None:
    pod, client = node.pod(), node.pod()
    node.add(pod, ANNOTATIONS, conf=OFF).ok()
    assert [line["flows"] for line in status(node)["attachments"][0]["destinations"]] == [0, 0]
    for _ in range(3):
        _knock(client, pod)
    deadline = time.monotonic() + 5
    while True:
        (attachment,) = status(node)["attachments"]
        if attachment["packets"]["out"]["packets"] == 3 or time.monotonic() > deadline:
            break
    assert attachment["state"] == "attached"
    assert [line["flows"] for line in attachment["destinations"]] == [0, 3]
    assert attachment["packets"]["out"]["packets"] == 3
    text = command(node, "status", "--state-dir", node.state_dir)
    assert f"8000-8010 udp {OUTSIDE4}: 3 flows" in text
    assert f"80 tcp {OUTSIDE4} 8080: 0 flows" in text


def _knock(client: Pod, pod: Pod) -> None:
    with client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (pod.address, 8005))


def test_status_shows_drift_and_what_is_gone(node: Node) -> None:
    drifted, gone, well = node.pod(), node.pod(), node.pod()
    for number, pod in enumerate((drifted, gone, well)):
        node.add(pod, source(f"192.168.12.9{number}/24"), conf=OFF).ok()
    drifted.ip("link set macvlan0 mtu 1400")
    gone.remove()
    found = {one["containerID"]: one for one in status(node, 1)["attachments"]}
    assert found[well.container_id]["state"] == "attached"
    assert found[gone.container_id]["state"] == "gone"
    assert found[drifted.container_id]["state"] == "drifted"
    assert any("1400" in text for text in found[drifted.container_id]["differences"])
    assert "! mtu of macvlan0" in command(node, "status", "--state-dir", node.state_dir, status=1)


def test_status_names_a_state_file_that_cannot_be_read(node: Node) -> None:
    pod = node.pod()
    node.add(pod, source("192.168.12.99/24"), conf=OFF).ok()
    Path(node.record(pod)).write_text("{")
    assert status(node, 1)["unreadable"] == [node.record(pod)]
    assert os.path.exists(node.record(pod))


def test_status_of_a_node_without_attachments(node: Node) -> None:
    assert status(node) == {"attachments": [], "policies": {}, "unreadable": []}
    assert "no attachments" in command(node, "status", "--state-dir", node.state_dir)
