"""What the doctor finds of NICs, each provoked on a node's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, Node, source

from cni_macvlan_egress.admin.examination import nics

from .patient import Findings, Patient


def look(patient: Patient, node: Node, **how: Any) -> Findings:
    return patient.look(nics, node=node, **how)


def fake_sys(patient: Patient, node: Node, driver: str, *more: str) -> list[str]:
    """What /sys/class/net would say if eth0 was another NIC, as words for mount(8)."""
    directory = patient.directory / "sys"
    nic = directory / "eth0"
    (nic / "device").mkdir(parents=True)
    link = node.link("eth0")
    assert link
    for name, text in {"ifindex": link["ifindex"], "address": link["address"], "flags": "0x1003"}.items():
        (nic / name).write_text(f"{text}\n")
    (nic / "device/driver").symlink_to(f"../../../bus/drivers/{driver}")
    for name in more:
        (nic / name).mkdir()
    return [f"--bind {directory} /sys/class/net"]


def test_nic_of_the_default_route_is_well(patient: Patient, well: Node) -> None:
    found = look(patient, well)
    assert found.ills() == set()
    (choice,) = [one for one in found if one.id == "nic-choice"]
    assert choice.summary.startswith('eth0 ("auto" takes the default route\'s): veth, MAC ')
    assert choice.summary.endswith("MTU 1500")


def test_no_nic_to_attach_to(patient: Patient, ill: Node) -> None:
    ill.ip("route del default", "-6 route del default")
    look(patient, ill).shows("nic-choice", "error", "no default route", '"master"')


def test_nic_that_does_not_exist(patient: Patient, well: Node) -> None:
    path = patient.chain(master="eth7")
    found = look(patient, well).shows("nic-missing", "error", "eth7", path)
    assert "the node has: eth0" in found.cure


def test_nic_of_a_grant_that_does_not_exist(patient: Patient, well: Node) -> None:
    patient.chain(allow=[{"namespaces": ["*"], "masters": ["eth0", "bond7"]}])
    found = look(patient, well)
    found.shows("nic-missing", "error", "bond7, a grant names it")
    assert found.ills() == {"nic-missing"}


def test_nic_that_is_down(patient: Patient, ill: Node) -> None:
    ill.ip("link set eth0 down")
    patient.chain(master="eth0")
    look(patient, ill).shows("nic-down", "error", "eth0", "ip link set eth0 up")


def test_nic_that_is_a_port(patient: Patient, ill: Node) -> None:
    ill.ip("link add br7 type bridge", "link set eth0 master br7")
    look(patient, ill).shows("nic-port", "error", "eth0", "name br7")
    assert "br7 (bridge)" in look(patient, ill).of("nic-port")[0].evidence


@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
def test_nic_that_is_stacked(patient: Patient, ill: Node, kind: str) -> None:
    ill.ip(f"link add mv0 link eth0 type {kind}", "link set mv0 up")
    patient.chain(master="mv0")
    look(patient, ill).shows("nic-stacked", "error", kind, "below mv0")


@pytest.mark.parametrize("name", ["lo", "tun0"])
def test_nic_that_is_no_ethernet(patient: Patient, ill: Node, name: str) -> None:
    if name == "tun0":
        ill.run("ip", "tuntap", "add", "tun0", "mode", "tun")
    patient.chain(master=name)
    look(patient, ill).shows("nic-not-ethernet", "error", name)


def test_nic_without_carrier(patient: Patient, ill: Node, ward: Lab) -> None:
    ward.lan.ip(f"link set {ward.lan.port(ill)} down")
    patient.chain(master="eth0")
    look(patient, ill).shows("nic-carrier", "warning", "eth0", "ip -s link show dev eth0")


def test_promiscuous_nic(patient: Patient, ill: Node) -> None:
    ill.ip("link set eth0 promisc on")
    look(patient, ill).shows("nic-promiscuous", "note", "eth0", "ip link set eth0 promisc off")
    found = look(patient, ill, mounts=())  # by way of /sys, where another namespace's is not in the way
    found.shows("nic-promiscuous", "note", "eth0")


def test_mtu_that_is_too_large(patient: Patient, well: Node) -> None:
    path = patient.chain(mtu=9000)
    look(patient, well).shows("nic-mtu", "error", '"mtu": 9000, and eth0 has 1500', f"{path} to 1500")


def test_mtu_that_is_too_small_for_ipv6(patient: Patient, ill: Node) -> None:
    ill.ip("link set eth0 mtu 1000")
    look(patient, ill).shows("nic-mtu-ipv6", "warning", "eth0 has MTU 1000", "ip link set eth0 mtu 1280")


def test_wireless_nic(patient: Patient, ill: Node) -> None:
    mounts = fake_sys(patient, ill, "iwlwifi", "phy80211")
    look(patient, ill, mounts=mounts).shows("nic-wireless", "warning", "eth0")


@pytest.mark.parametrize(
    ("driver", "kind", "severity", "cure"),
    [
        ("ena", "nic-cloud", "warning", "AWS"),
        ("gve", "nic-cloud", "warning", "Cloud NAT"),
        ("hv_netvsc", "nic-hypervisor", "note", "MacAddressSpoofing"),
        ("vmxnet3", "nic-hypervisor", "note", "forged transmits"),
    ],
)
def test_virtual_nic(patient: Patient, ill: Node, driver: str, kind: str, severity: str, cure: str) -> None:
    found = look(patient, ill, mounts=fake_sys(patient, ill, driver))
    found.shows(kind, severity, f"eth0 has driver {driver}", cure)


@pytest.mark.parametrize(
    ("vendor", "cure"),
    [("Google", "Cloud NAT"), ("OpenStack Foundation", "--allowed-address"), ("QEMU", "trustGuestRxFilters")],
)
def test_virtio_is_told_apart_by_the_machine(patient: Patient, ill: Node, vendor: str, cure: str) -> None:
    mounts = fake_sys(patient, ill, "virtio_net")
    machine = patient.directory / "class/dmi/id"
    machine.mkdir(parents=True)
    (machine / "sys_vendor").write_text(f"{vendor}\n")
    classes = patient.directory / "class"
    os.mkdir(classes / "net")
    found = look(patient, ill, mounts=[f"--bind {classes} /sys/class", mounts[0]])
    (one,) = found.of("nic-cloud") + found.of("nic-hypervisor")
    assert vendor in one.evidence
    assert cure in one.cure


def test_azure_is_told_by_its_mark(patient: Patient, ill: Node) -> None:
    mounts = fake_sys(patient, ill, "hv_netvsc")
    machine = patient.directory / "class/dmi/id"
    machine.mkdir(parents=True)
    (machine / "chassis_asset_tag").write_text("7783-7084-3265-9085-8269-3286-77\n")
    (patient.directory / "class/net").mkdir()
    mounts = [f"--bind {patient.directory}/class /sys/class", *mounts]
    look(patient, ill, mounts=mounts).shows("nic-cloud", "warning", "Azure", "Azure")


def test_more_macvlans_than_filters(patient: Patient, ill: Node) -> None:
    pod = ill.pod()
    ill.add(pod, source("192.168.12.99/24"), conf={"conflictDetection": "off"}).ok()
    ill.ip("link add mv1 link eth0 type macvlan", "link add mv2 link eth0 type macvlan")
    mounts = fake_sys(patient, ill, "bnxt_en")
    found = look(patient, ill, state_dir=ill.state_dir, mounts=mounts)
    found.shows("nic-filters", "warning", "eth0 carries 3, and driver bnxt_en has about 3")
    found = look(patient, ill, state_dir=ill.state_dir)
    assert found.of("nic-filters") == []
    assert any("carries 3 macvlans" in one.summary for one in found)
    ill.delete(pod).ok()


def test_sys_of_another_namespace_is_not_believed(patient: Patient, ill: Node) -> None:
    """Index and MAC address tell that it speaks of another interface of the same name."""
    mounts = fake_sys(patient, ill, "ena")
    Path(patient.directory / "sys/eth0/address").write_text("02:00:00:00:00:01\n")
    found = look(patient, ill, mounts=mounts)
    assert found.of("nic-cloud") == []
    assert any("veth, MAC" in one.summary for one in found)
