"""The daemon finds what has changed in a pod since ADD, and puts back what can be put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lab import Lan, Node, Pod, within
from lab.network import OUTSIDE4, OUTSIDE6
from redirect.asking import DRIFT, EGRESS4, EGRESS6, OFF
from redirect.asking import redirect as asking

from cni_macvlan_egress.attach.inspection import Inspection
from cni_macvlan_egress.attach.roster import Roster

from .running import Daemon, eventually

EGRESS = asking(f"80 tcp {OUTSIDE4}", f"80 tcp {OUTSIDE6}")
EVERY = ("--drift-every", "1")


@pytest.fixture
def pod(node: Node) -> Pod:
    pod = node.pod()
    node.add(pod, EGRESS, conf=OFF).ok()
    return pod


def told(daemon: Daemon, message: str = "drift") -> list[dict[str, Any]]:
    return [line for line in daemon.log if line["msg"] == message]


def looked(daemon: Daemon) -> None:
    """Everything has been looked at once more."""
    before = daemon.metric("drift_checks_total")
    eventually(lambda: daemon.metric("drift_checks_total") > before + 1, "nothing is looked at")


def test_drift_is_reported_once_and_shown_until_it_is_over(
    node: Node, pod: Pod, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(*EVERY).start()
    looked(daemon)
    assert daemon.metric("drifted") == 0
    pod.ip(f"address del {EGRESS4}/24 dev macvlan0")
    eventually(lambda: daemon.metric("drifted") == 1, "it is not found")
    looked(daemon)
    (line,) = daemon.told(lambda line: line["msg"] == "drift")
    assert line["level"] == "warning"
    assert line["attachment"] == f"{pod.container_id}@eth0"
    assert line["pod"] == f"shop/{pod.name}"
    assert any(EGRESS4 in one and "found" in one for one in line["differences"])
    assert f"{EGRESS4}/24" not in pod.addresses("macvlan0")
    node.delete(pod).ok()
    eventually(lambda: daemon.metric("drifted") == 0, "it is still counted")


DAMAGE: dict[str, tuple[str, ...]] = {
    "address": (f"address del {EGRESS4}/24 dev macvlan0",),
    "IPv6 address": (f"address del {EGRESS6}/64 dev macvlan0",),
    "route": (f"route del {OUTSIDE4}",),
    "rule": ("rule del priority 7200",),
    "link down": ("link set macvlan0 down",),
}


@pytest.mark.parametrize("what", [*DAMAGE, "sysctl", "table", "rules"])
def test_damage_is_repaired(node: Node, pod: Pod, what: str) -> None:
    node.check(pod).ok()
    if what == "sysctl":
        pod.sysctl("net/ipv4/conf/macvlan0/arp_ignore", 0)
    elif what == "table":
        pod.run("nft", "delete", "table", "inet", "macvlan_egress")
    elif what == "rules":
        pod.run("nft", "flush", "chain", "inet", "macvlan_egress", "forward")
    else:
        pod.ip(*DAMAGE[what])

    def work() -> tuple[object, object, object]:
        roster = Roster(node.state_dir)
        roster.scan()
        (key,) = roster.attachments
        inspection = Inspection(roster, node.run_dir)
        return inspection.differences(key), inspection.mend(key), inspection.differences(key)

    before, left, after = within(node.path, work)
    assert before
    assert (left, after) == ((), ())
    node.check(pod).ok()
    node.delete(pod).ok()


def test_drift_is_repaired_by_the_daemon(
    node: Node, pod: Pod, lan: Lan, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(*EVERY, "--drift", "repair").start()
    with lan.capture() as wire:
        pod.ip(f"address del {EGRESS4}/24 dev macvlan0", "rule del priority 7201")
        eventually(lambda: told(daemon, "drift repaired"), "it is not repaired")
        wire.wait(lambda f: f.is_gratuitous_arp and f.source == EGRESS4, "the announcement of the address")
    eventually(lambda: daemon.metric("drifted") == 0, "it is still counted")
    node.check(pod).ok()
    assert daemon.metric('drift_repairs_total{result="mended"}') >= 2
    assert daemon.metric('drift_repairs_total{result="failed"}') == 0


def test_vanished_interface_is_reported_and_not_made_anew(
    node: Node, pod: Pod, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(*EVERY, "--drift", "repair").start()
    pod.ip("link del macvlan0")
    eventually(lambda: told(daemon), "it is not reported")
    looked(daemon)
    assert pod.link("macvlan0") is None
    assert daemon.metric("drifted") == 1
    node.check(pod).refused(DRIFT)


def test_changed_mac_address_is_left_alone(pod: Pod, make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(*EVERY, "--drift", "repair").start()
    pod.ip("link set macvlan0 address 02:00:00:00:47:11", f"address del {EGRESS4}/24 dev macvlan0")
    eventually(lambda: told(daemon), "it is not reported")
    looked(daemon)
    assert pod.mac("macvlan0") == "02:00:00:00:47:11"
    assert f"{EGRESS4}/24" not in pod.addresses("macvlan0")


def test_address_that_a_lan_host_has_taken_is_not_put_back(
    node: Node, lan: Lan, make_daemon: Callable[..., Daemon]
) -> None:
    pod = node.pod()
    node.add(pod, EGRESS, conf={"conflictTimeoutMs": 100}).ok()
    daemon = make_daemon(*EVERY, "--drift", "repair").start()
    pod.ip(f"address del {EGRESS4}/24 dev macvlan0")
    host = lan.host(EGRESS4)
    eventually(lambda: daemon.metric('drift_repairs_total{result="failed"}'), "it is not tried")
    assert f"{EGRESS4}/24" not in pod.addresses("macvlan0")
    assert any(
        host.mac() in one
        for line in daemon.told(lambda line: line["msg"] == "drift")
        for one in line["differences"]
    )


def test_drift_watch_can_be_turned_off(
    node: Node, lan: Lan, pod: Pod, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(*EVERY, "--drift", "off").start()
    pod.ip(f"address del {EGRESS4}/24 dev macvlan0")
    eventually(lambda: daemon.metric("announcements_total") >= 1, "the caretaker does not work")
    assert daemon.metric("drift_checks_total") == 0


def test_nic_that_is_gone_or_renamed_is_told(
    node: Node, pod: Pod, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon().start()
    node.ip("link set eth0 down")
    eventually(lambda: daemon.metric("masters_unusable") == 1, "it is not seen")
    node.ip("link set eth0 name eth9")
    eventually(lambda: any("another name" in line["msg"] for line in daemon.log), "the new name is not seen")
    # What sits on it is looked at long before its turn.
    eventually(lambda: told(daemon), "the attachment is not looked at")
    node.ip("link set eth9 name eth0", "link set eth0 up")
    eventually(lambda: daemon.metric("masters_unusable") == 0, "that it is back is not seen")
