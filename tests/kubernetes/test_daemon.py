"""Warm mode on the node: the daemon behind the native launcher, rolled while pods are made and deleted."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from lab.machine import Process
from lab.network import OUTSIDE4
from lab.traffic import exchange

from .admin import EGRESS, SOCKET, Admin, egress_pod, pod
from .cluster import Cluster

PODS = 6


def _take_over(admin: Admin, old: Process) -> Process:
    """As the documentation has it without systemd: the new one takes the socket, the old one finishes."""
    new = admin.start_daemon()
    assert old.end() == 0, old.log
    return new


def _restart(admin: Admin, old: Process) -> Process:
    assert old.end() == 0, old.log
    return admin.start_daemon()


def _kill(admin: Admin, old: Process) -> Process:
    old.end(signal.SIGKILL)
    return admin.start_daemon()


def test_pod_is_served_by_the_daemon(admin: Admin, cluster: Cluster) -> None:
    daemon = admin.start_daemon()
    admin.run("install", "--namespaces", "egress", "--native", "--no-direct", "--socket", SOCKET)
    cluster.kubectl.apply_objects(egress_pod("warm", OUTSIDE4), pod("clients", "client"))
    to = (cluster.running("egress", "warm")["status"]["podIP"], 80)
    network = cluster.network(cluster.running("clients", "client"))
    assert exchange("tcp", network, to, cluster.outside, 80).source == EGRESS
    served = [
        int(line.split()[-1])
        for line in admin.run("metrics").splitlines()
        if 'calls_total{verb="ADD",code="0"}' in line
    ]
    assert served == [2]
    assert daemon.runs


@pytest.mark.parametrize("roll", [_take_over, _restart, _kill], ids=["take-over", "restart", "kill"])
def test_no_pod_is_lost_while_the_daemon_is_rolled(
    admin: Admin, cluster: Cluster, roll: Callable[[Admin, Process], Process]
) -> None:
    daemon = admin.start_daemon()
    admin.run("install", "--namespaces", "egress", "--native")
    for number in range(PODS):
        cluster.kubectl.apply_objects(
            egress_pod(f"rolled-{number}", OUTSIDE4, f"192.168.12.{100 + number}"),
            pod("clients", f"plain-{number}"),
        )
        if number % 2:
            daemon = roll(admin, daemon)
    for number in range(PODS):
        for namespace, name in (("egress", f"rolled-{number}"), ("clients", f"plain-{number}")):
            cluster.running(namespace, name)
            failed = "FailedCreatePodSandBox" in cluster.kubectl.events(namespace, name)
            assert roll is _kill or not failed, cluster.kubectl.events(namespace, name)
    for number in range(0, PODS, 2):
        cluster.kubectl("delete", "pod", f"rolled-{number}", "-n", "egress", "--wait=false")
    daemon = roll(admin, daemon)
    assert daemon.runs, daemon.log
