"""What the doctor finds in the CNI configuration directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cni_macvlan_egress.admin.examination import conflists, policies

from .patient import Findings, Patient

BRIDGE = {"type": "bridge", "ipam": {"type": "host-local"}}
NETWORKS = ["10.244.0.0/16"]


def look(patient: Patient, **places: str) -> Findings:
    return patient.look(conflists, policies, **places)


def test_sound_conflist_is_well(patient: Patient) -> None:
    found = look(patient)
    assert found.ills() == set()
    assert {one.id for one in found} >= {"entry", "entry-keys", "entry-allow", "entry-annotations"}


def test_missing_directory(patient: Patient) -> None:
    found = look(patient, cni_dir=f"{patient.root}/nowhere")
    found.shows("cni-dir", "error", "No such file or directory", "--cni-dir")


def test_directory_without_configuration(patient: Patient) -> None:
    (patient.cni_dir / "10-pods.conflist").rename(patient.cni_dir / "10-pods.conflist.bak")
    look(patient).shows("conflist-none", "error", str(patient.cni_dir), str(patient.cni_dir))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"plugins": []}', 'no "plugins"'),
        ('{"plugins": [{}]}', 'a plugin without "type"'),
    ],
    ids=["cut", "list", "deep", "empty", "typeless"],
)
def test_file_that_comes_first_and_is_broken_is_an_error(patient: Patient, text: str, reason: str) -> None:
    (patient.cni_dir / "05-broken.conflist").write_text(text)
    look(patient).shows("conflist-invalid", "error", reason, "05-broken.conflist")


def test_list_in_a_conf_is_told(patient: Patient) -> None:
    (patient.cni_dir / "05-list.conf").write_text(json.dumps({"plugins": [BRIDGE]}))
    look(patient).shows("conflist-invalid", "error", "a list of plugins belongs into a .conflist")


def test_broken_file_beside_is_a_warning(patient: Patient) -> None:
    (patient.cni_dir / "99-broken.json").write_bytes(b"\xff")
    look(patient).shows("conflist-invalid", "warning", "not UTF-8", "99-broken.json")


def test_crio_passes_over_a_broken_file(patient: Patient) -> None:
    patient.write("etc/crio/crio.conf", "[crio]\n")
    with patient.listening("run/crio/crio.sock"):
        (patient.cni_dir / "05-broken.conflist").write_text("{")
        found = look(patient)
    found.shows("conflist-invalid", "warning", "not JSON")
    assert found.of("entry-shadowed") == []


def test_network_that_crio_names_is_the_one_that_counts(patient: Patient) -> None:
    patient.write("etc/crio/crio.conf", '[crio.network]\ncni_default_network = "pods"\n')
    patient.conflist(BRIDGE, file="05-other.conflist")
    (patient.cni_dir / "05-other.conflist").write_text(json.dumps({"name": "other", "plugins": [BRIDGE]}))
    with patient.listening("run/crio/crio.sock"):
        assert look(patient).of("entry-shadowed") == []


def test_cni_version_of_the_future(patient: Patient) -> None:
    path = patient.conflist(cniVersion="9.0.0")
    look(patient).shows("conflist-version", "error", "9.0.0", path)


@pytest.mark.parametrize("name", [None, "-pods", 7])
def test_network_without_a_proper_name(patient: Patient, name: object) -> None:
    path = patient.conflist(name=name)
    look(patient).shows("conflist-name", "error", repr(name), path)


def test_conflist_that_others_can_write(patient: Patient) -> None:
    path = Path(patient.conflist())
    path.chmod(0o666)
    look(patient).shows("conflist-writable", "warning", "-rw-rw-rw-", f"chmod go-w {path}")


def test_no_entry(patient: Patient) -> None:
    patient.conflist(BRIDGE)
    look(patient).shows("entry", "error", "10-pods.conflist", "macvlan-egress install")


def test_entry_in_a_file_that_the_runtime_does_not_take(patient: Patient) -> None:
    first = patient.conflist(BRIDGE, file="05-flannel.conflist")
    look(patient).shows("entry-shadowed", "error", f"the runtime takes {first}", first)


def test_multus_may_stand_before(patient: Patient) -> None:
    (patient.cni_dir / "00-multus.conf").write_text(json.dumps({"name": "m", "type": "multus-shim"}))
    found = look(patient)
    found.shows("multus", "note", "00-multus.conf", "macvlan-egress install")
    assert found.of("entry-shadowed") == []


def test_entry_in_a_network_that_multus_delegates_to(patient: Patient) -> None:
    (patient.cni_dir / "10-pods.conflist").unlink()
    delegate = {"name": "pods", "plugins": [BRIDGE, patient.entry(allow=None)]}
    conf = {"cniVersion": "1.0.0", "name": "m", "type": "multus", "delegates": [delegate]}
    (patient.cni_dir / "00-multus.conf").write_text(json.dumps(conf))
    found = look(patient)
    assert found.of("entry") == []
    found.shows("entry-allow", "error", "00-multus.conf")


def test_entry_twice(patient: Patient) -> None:
    path = patient.conflist(BRIDGE, patient.entry(), patient.entry())
    look(patient).shows("entry-twice", "warning", "bridge → macvlan-egress → macvlan-egress", path)


@pytest.mark.parametrize("behind", ["bridge", "made-up-main-plugin"])
def test_entry_before_the_main_plugin(patient: Patient, behind: str) -> None:
    patient.conflist(patient.entry(), {"type": behind})
    look(patient).shows("entry-order", "error", f"macvlan-egress → {behind}", behind)


def test_main_plugin_behind_a_chained_entry(patient: Patient) -> None:
    patient.conflist({"type": "portmap"}, patient.entry(), {"type": "calico"})
    look(patient).shows("entry-order", "error", "calico", "calico")


def test_meta_plugins_behind_are_no_mistake(patient: Patient) -> None:
    patient.conflist(BRIDGE, patient.entry(), {"type": "portmap"})
    assert look(patient).ills() == set()


@pytest.mark.parametrize(
    ("keys", "words"),
    [({"mastre": "eth0"}, "did you mean 'master'"), ({"mtu": "big"}, "mtu"), ({"allow": [{}]}, "namespaces")],
    ids=["unknown", "value", "grant"],
)
def test_entry_that_is_refused(patient: Patient, keys: dict[str, Any], words: str) -> None:
    path = patient.chain(**keys)
    look(patient).shows("entry-keys", "error", words, path)


def test_policy_without_cluster_networks(patient: Patient) -> None:
    path = patient.chain(policy={"kubernetes": True})
    found = look(patient)
    found.shows("entry-cluster-networks", "error", "policy", path)
    assert found.of("entry-keys") == []


def test_default_route_without_cluster_networks(patient: Patient) -> None:
    patient.chain(routes="default")
    look(patient).shows("entry-cluster-networks", "warning", "routes")


def test_nobody_is_allowed(patient: Patient) -> None:
    path = patient.chain(allow=None)
    look(patient).shows("entry-allow", "error", "None", '"allow": [{"namespaces": ["NAMESPACE"]}]')
    assert path in look(patient).of("entry-allow")[0].cure


def test_annotations_that_nobody_passes(patient: Patient) -> None:
    patient.chain(capabilities={"ips": True})
    found = look(patient)
    found.shows("entry-annotations", "error", "{'ips': True}", '"io.kubernetes.cri.pod-annotations": true')


def test_annotations_from_another_source(patient: Patient) -> None:
    patient.chain(capabilities=None, annotations=["/etc/annotations"])
    assert look(patient).of("entry-annotations") == []


def test_check_of_the_main_plugin_fails(patient: Patient) -> None:
    path = patient.conflist(disableCheck=None)
    look(patient).shows("entry-check", "note", "bridge", path)
    patient.write("etc/crio/crio.conf", "[crio]\n")
    with patient.listening("run/crio/crio.sock"):
        look(patient).shows("entry-check", "warning", "bridge", path)


def test_kubeconfig_that_is_not_there(patient: Patient) -> None:
    patient.chain(kubeconfig="/etc/kubeconfig")
    look(patient).shows("entry-kubeconfig", "error", f"{patient.root}/etc/kubeconfig")
    patient.write("etc/kubeconfig", "x")
    assert look(patient).of("entry-kubeconfig") == []


def test_policies_of_a_directory(patient: Patient) -> None:
    patient.chain(policy={"directory": "/etc/policies"}, clusterNetworks=NETWORKS)
    directory = f"{patient.root}/etc/policies"
    look(patient).shows("policy-directory", "warning", directory, f"mkdir -p {directory}")
    text = "kind: EgressFirewall\napiVersion: k8s.ovn.org/v1\nmetadata: {name: default, namespace: shop}\nspec: 7\n"
    patient.write("etc/policies/broken.yaml", text)
    found = look(patient)
    assert found.of("policy-directory") == []
    assert {one.severity for one in found.of("policy-documents")} == {"error"}
    assert any("shop" in one.evidence for one in found.of("policy-documents"))


def test_hostile_names_reach_no_terminal_as_they_are(patient: Patient) -> None:
    (patient.cni_dir / "05-\x1b[2J.conflist").write_text("{")
    (found,) = look(patient).of("conflist-invalid")
    assert "\x1b" not in found.evidence + found.cure
    assert "05-" in found.evidence


def test_standalone_network_needs_no_grant(patient: Patient) -> None:
    patient.conflist(patient.entry(allow=None, capabilities={"ips": True}))
    assert look(patient).ills() == set()
