"""What the doctor finds of the kernel: on this one all works, so that parts of it are taken away."""

from __future__ import annotations

import errno
import glob
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from lab import Node

from cni_macvlan_egress.admin.examination import kernel_features, throwaway
from cni_macvlan_egress.kernel import sysctl
from cni_macvlan_egress.kernel.netlink import KernelError, Netlink
from cni_macvlan_egress.kernel.nftables import Nftables
from cni_macvlan_egress.protocol.errors import KERNEL_REFUSED, CniError

from .patient import Findings, Patient

FEATURES = {
    "network-namespaces", "macvlan", "macvlan-modes", "sysctls", "addresses-and-routes", "packet-sockets",
    "libnftables", "nftables", "redirect-rules", "netdev-ingress", "netdev-egress", "policy-rules",
}  # fmt: skip


def look(patient: Patient, node: Node, **how: Any) -> Findings:
    return patient.look(kernel_features, node=node, **how)


def names() -> list[str]:
    """The namespaces that have a name, less those of the tests."""
    return [one for one in sorted(os.listdir("/run/netns")) if not one.startswith("cme-")]


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, when: Callable[..., bool]) -> None:
    """Have the kernel refuse some requests, as one without the feature does."""
    before = getattr(Netlink, name)

    def act(self: Netlink, *arguments: Any, **options: Any) -> Any:
        if when(*arguments):
            raise KernelError("do it", errno.EOPNOTSUPP, "")
        return before(self, *arguments, **options)

    monkeypatch.setattr(Netlink, name, act)


def refuse_rules(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    before = Nftables.run

    def run(self: Nftables, commands: str, what: str, flags: int = 0) -> str:
        if all(word in commands for word in words):
            raise CniError(KERNEL_REFUSED, f"cannot {what}: nftables: Operation not supported")
        return before(self, commands, what, flags)

    monkeypatch.setattr(Nftables, "run", run)


def test_everything_is_tried_and_nothing_stays(patient: Patient, well: Node) -> None:
    before = well.snapshot(), names()
    found = look(patient, well)
    assert found.ills() == set()
    assert {one.id for one in found} == FEATURES
    assert (well.snapshot(), names()) == before


def test_without_namespaces(patient: Patient, well: Node) -> None:
    found = patient.report(well, "kernel", without="sys_admin")
    found.shows("network-namespaces", "error", "Operation not permitted", "CAP_SYS_ADMIN")


def test_without_anything_to_try_on(patient: Patient, well: Node) -> None:
    found = patient.report(well, "kernel", without="net_admin")
    found.shows("macvlan-untried", "warning", "bridge: Operation not permitted, tap: Operation not permitted")


def test_tap_where_there_is_no_bridge(patient: Patient, well: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_bridge(_name: str) -> None:
        raise OSError(errno.ENOPKG, "Package not installed")

    no_bridge.__name__ = "_make_bridge"
    monkeypatch.setattr(throwaway, "_make_bridge", no_bridge)
    assert look(patient, well).ills() == set()


def test_without_packet_sockets(patient: Patient, well: Node) -> None:
    found = patient.report(well, "kernel", without="net_raw")
    found.shows("packet-sockets", "error", "cannot probe", "CAP_NET_RAW")
    assert found.ills() == {"packet-sockets"}


def test_settings_that_are_read_only(patient: Patient, well: Node) -> None:
    mounts = ["--bind /proc/sys /proc/sys", "-o remount,bind,ro /proc/sys"]
    found = look(patient, well, mounts=mounts)
    found.shows("sysctls", "error", "Read-only file system", "/proc/sys")
    assert found.ills() == {"sysctls"}


def test_without_ipv6(patient: Patient, well: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "has_ipv6", lambda: False)
    found = look(patient, well)
    found.shows("ipv6", "note", "/proc/sys/net/ipv6")
    assert found.ills() == {"ipv6"}


def test_without_libnftables(patient: Patient, well: Node) -> None:
    (library,) = glob.glob("/usr/lib/*/libnftables.so.1")
    # A process of its own: this one may have loaded the library long ago.
    found = patient.report(well, "kernel", mounts=[f"--bind /dev/null {library}"])
    found.shows("libnftables", "error", "libnftables.so.1", "apt-get install libnftables1")
    assert found.ills() == {"libnftables"}


def test_without_macvlan(patient: Patient, well: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "create_macvlan", lambda *_: True)
    found = look(patient, well)
    found.shows("macvlan", "error", "Operation not supported", "modprobe macvlan")
    assert {one.id for one in found} >= {"redirect-rules", "policy-rules"}


def test_without_a_mode(patient: Patient, well: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "create_macvlan", lambda link, *_: link.mode == "passthru")
    found = look(patient, well)
    found.shows("macvlan-modes", "warning", "passthru: ")
    assert found.ills() == {"macvlan-modes"}


def test_without_policy_routing(patient: Patient, well: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "add_rule", lambda *_: True)
    found = look(patient, well)
    found.shows("addresses-and-routes", "error", "Operation not supported", "CONFIG_IP_MULTIPLE_TABLES")
    assert found.ills() == {"addresses-and-routes"}


@pytest.mark.parametrize(
    ("kind", "severity", "words", "also"),
    [
        ("nftables", "error", ("add table inet",), set()),
        ("redirect-rules", "error", ("dnat",), set()),
        ("netdev-ingress", "warning", ("hook ingress",), {"policy-rules"}),
        ("netdev-egress", "warning", ("hook egress",), {"policy-rules"}),
        ("policy-rules", "warning", ("netdev macvlan_egress", "fib saddr"), set()),
    ],
)
def test_without_a_part_of_nftables(
    patient: Patient,
    well: Node,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    severity: str,
    words: tuple[str, ...],
    also: set[str],
) -> None:
    refuse_rules(monkeypatch, *words)
    found = look(patient, well)
    found.shows(kind, severity, "Operation not supported")
    assert found.ills() == {kind, *also}


def test_trial_that_hangs_is_given_up(patient: Patient, well: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_features, "_SECONDS", 0.1)
    monkeypatch.setattr(kernel_features, "_try_all", lambda _pod: time.sleep(30))
    look(patient, well).shows("check-failed", "warning", "did not end within")


def test_trial_that_dies_is_told(patient: Patient, well: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_features, "_try_all", lambda _pod: os._exit(1))
    look(patient, well).shows("check-failed", "warning", "has died")
