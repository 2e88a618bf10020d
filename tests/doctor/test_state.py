"""What the doctor finds of directories, records and rules that are left, each provoked for real."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, Node, Pod, source
from lab.needed import REPOSITORY

from cni_macvlan_egress.admin.examination import enforcement, leftovers, storage

from .patient import Findings, Patient

OFF = {"conflictDetection": "off"}
ANNOTATIONS = source("192.168.12.99/24")
LONG_AGO = 3600
DENY_ALL = """\
apiVersion: k8s.ovn.org/v1
kind: EgressFirewall
metadata: {name: default, namespace: shop}
spec: {egress: [{type: Deny, to: {cidrSelector: 0.0.0.0/0}}]}
"""


def look(patient: Patient, node: Node) -> Findings:
    places = {"state_dir": node.state_dir, "run_dir": node.run_dir, "log_file": node.log_file}
    return patient.look(leftovers, enforcement, node=node, **places)


def stores(patient: Patient, node: Node | None = None, **how: object) -> Findings:
    return patient.look(storage, node=node, **how)  # type: ignore[arg-type]


@pytest.fixture
def pod(ill: Node, ward: Lab) -> Iterator[Pod]:
    """A pod that has been attached."""
    pod = ill.pod()
    ill.add(pod, ANNOTATIONS, conf=OFF).ok()
    yield pod
    pod.remove()


def age(path: str | Path) -> None:
    then = time.time() - LONG_AGO
    os.utime(path, (then, then), follow_symlinks=False)


# -- directories, room and log


def test_directories_of_a_fresh_node_are_well(patient: Patient, well: Node) -> None:
    found = stores(patient, well, mounts=[f"-t tmpfs none {patient.run_dir.parent}"])
    assert found.ills() == set()
    assert {one.id for one in found} == {"state-dir", "run-dir", "run-dir-volatile", "disk-space", "log-file"}


@pytest.mark.parametrize(("kind", "option"), [("state-dir", "state_dir"), ("run-dir", "run_dir")])
def test_directory_that_is_a_file(patient: Patient, tmp_path: Path, kind: str, option: str) -> None:
    (tmp_path / "file").touch()
    found = stores(patient, **{option: f"{tmp_path}/file/below"})
    found.shows(kind, "error", f"{tmp_path}/file is no directory", f"{tmp_path}/file/below")


def test_directory_on_a_read_only_file_system(patient: Patient, well: Node) -> None:
    parent = patient.state_dir.parent
    found = stores(patient, well, mounts=[f"-t tmpfs -o ro none {parent}"])
    found.shows("state-dir", "error", f"{parent} is on a read-only file system")


def test_full_disk(patient: Patient, well: Node) -> None:
    found = stores(patient, well, mounts=[f"-t tmpfs -o size=64k none {patient.state_dir.parent}"])
    found.shows("disk-space", "error", "64 KiB left", f"df -h {patient.state_dir.parent}")


def test_disk_without_room_for_files(patient: Patient, well: Node) -> None:
    found = stores(patient, well, mounts=[f"-t tmpfs -o nr_inodes=9 none {patient.state_dir.parent}"])
    found.shows("disk-space", "error", "and 8 files", "df -i")


def test_run_directory_that_outlives_a_boot(patient: Patient) -> None:
    found = stores(patient, run_dir=str(REPOSITORY / "never-made"))
    found.shows("run-dir-volatile", "warning", "never-made is on ", "tmpfs")


@pytest.mark.parametrize("what", ["directory", "link", "parent"])
def test_log_that_cannot_be_written(patient: Patient, what: str) -> None:
    path = patient.log_file
    if what == "directory":
        path.mkdir()
    elif what == "link":
        path.symlink_to("elsewhere.log")
    else:
        path = path.parent / "nowhere/plugin.log"
    stores(patient, log_file=str(path)).shows("log-file", "warning", str(path.parent), str(path))


def test_huge_log(patient: Patient) -> None:
    with patient.log_file.open("wb") as file:
        file.truncate(300 << 20)  # takes no room: it is a hole
    stores(patient).shows("log-size", "warning", "300 MiB", "logrotate")


# -- records


def test_attachments_that_are_sound_are_well(patient: Patient, ill: Node, pod: Pod) -> None:
    found = look(patient, ill)
    assert found.ills() == set()
    assert any("1 attachments are as ADD left them" in one.summary for one in found)


def test_record_of_a_pod_that_is_gone(patient: Patient, ill: Node, pod: Pod) -> None:
    pod.remove()
    record = ill.record(pod)
    look(patient, ill).shows("records-dead", "note", os.path.basename(record), f"rm {record}")


def test_add_that_was_killed(patient: Patient, ill: Node, pod: Pod) -> None:
    path = Path(ill.record(pod))
    path.write_text(json.dumps({**json.loads(path.read_text()), "phase": "adding"}))
    assert look(patient, ill).ills() == set()  # it may be going on
    age(path)
    look(patient, ill).shows("records-interrupted", "warning", f"shop/{pod.name}", "delete the pod")


def test_record_that_cannot_be_understood(patient: Patient, ill: Node, pod: Pod) -> None:
    path = Path(ill.record(pod))
    path.write_text("{")
    found = look(patient, ill)
    found.shows("records-unreadable", "warning", str(path), str(path))
    assert path.exists()


def test_state_file_that_was_moved_aside(patient: Patient, ill: Node) -> None:
    path = Path(f"{ill.state_dir}/unreadable/c1@eth0.json")
    path.parent.mkdir(parents=True)
    path.touch()
    look(patient, ill).shows("records-aside", "note", str(path), f"rm {path}")


def test_attachment_that_has_drifted(patient: Patient, ill: Node, pod: Pod) -> None:
    pod.ip("link set macvlan0 mtu 1400")
    look(patient, ill).shows("attachments-drifted", "warning", "1400", "macvlan-egress status")


def test_claim_without_a_record(patient: Patient, ill: Node, pod: Pod) -> None:
    os.unlink(ill.record(pod))
    claim = f"{ill.state_dir}/addresses/192.168.12.99"
    look(patient, ill).shows("claims-orphaned", "note", "192.168.12.99", f"rm {claim}")


def test_file_that_was_not_finished(patient: Patient, ill: Node, pod: Pod) -> None:
    path = Path(f"{ill.state_dir}/attachments/.c1@eth0.json.tmp")
    path.touch()
    assert look(patient, ill).ills() == set()  # the write may be going on
    age(path)
    look(patient, ill).shows("temporary-files", "note", str(path), f"rm {path}")


def test_macvlans_in_the_nodes_own_namespace(patient: Patient, ill: Node) -> None:
    ill.ip("link add shim link eth0 type macvlan mode bridge")
    look(patient, ill).shows("macvlans-on-node", "note", "shim (mode bridge", "ip link delete shim")
    ill.ip("link delete shim", "link add macvlan0 link eth0 type macvlan")
    look(patient, ill).shows("macvlans-on-node", "warning", "a pod's name", "ip link delete macvlan0")


def test_state_that_surprises_a_check_is_a_finding(patient: Patient, ill: Node) -> None:
    Path(f"{ill.state_dir}").mkdir(exist_ok=True)
    Path(f"{ill.state_dir}/attachments").touch()
    found = look(patient, ill)
    assert {one.severity for one in found.of("check-failed")} == {"warning"}
    assert any("Not a directory" in one.evidence for one in found.of("check-failed"))


# -- egress policies


@pytest.fixture
def policed(ill: Node, tmp_path: Path) -> Iterator[Node]:
    """A node on which a policy is in force for a pod."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/shop.yaml").write_text(DENY_ALL)
    settings = {"policy": {"directory": str(tmp_path / "policies")}, "clusterNetworks": ["10.244.0.0/16"]}
    pod = ill.pod()
    ill.add(pod, ANNOTATIONS, conf={**OFF, **settings}).ok()
    yield ill
    pod.remove()


def test_policy_in_force_is_well(patient: Patient, policed: Node) -> None:
    patient.chain(policy={"directory": "/etc/policies"}, clusterNetworks=["10.244.0.0/16"])
    found = look(patient, policed)
    assert found.ills() == set()
    assert any("policies of shop are in force" in one.summary for one in found)


def test_rules_that_somebody_has_changed(patient: Patient, policed: Node) -> None:
    patient.chain(policy={"directory": "/etc/policies"}, clusterNetworks=["10.244.0.0/16"])
    policed.run("nft", "flush chain netdev macvlan_egress ns-shop-ip4")
    look(patient, policed).shows("policy-differs", "error", "ns-shop-ip4", "macvlan-egress policy sync")


def test_rules_that_no_policy_has_made(patient: Patient, ill: Node) -> None:
    ill.run("nft", "add table netdev macvlan_egress { chain left { counter; }; }")
    look(patient, ill).shows("policy-leftover", "warning", "no policy is in force", "nft delete table")


def test_rules_of_a_configuration_without_policy(patient: Patient, policed: Node) -> None:
    look(patient, policed).shows("policy-leftover", "warning", "no entry has 'policy'")


def test_state_of_policies_that_cannot_be_read(patient: Patient, policed: Node) -> None:
    Path(f"{policed.run_dir}/policy/state.json").write_text("{")
    look(patient, policed).shows("policy-state", "warning", f"{policed.run_dir}/policy", "policy sync")
