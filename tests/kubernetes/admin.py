"""An administrator's work with the plugin on the node, by the commands that the documentation has."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from lab import source
from lab.machine import Process, eventually

from .cluster import LEASES, Cluster
from .images import BUSYBOX, PAUSE
from .kubectl import Object

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = "/opt/cni-macvlan-egress"
COMMAND = f"{PREFIX}/bin/macvlan-egress"
STATE = "/var/lib/cni/macvlan-egress"
SETTINGS = "/etc/cni/macvlan-egress"
SOCKET = "/run/macvlan-egress/daemon.sock"
EGRESS, GATEWAY = "192.168.12.99", "192.168.12.1"
CLUSTER_NETWORKS = ("10.244.0.0/16", "10.96.0.0/12", "192.168.12.0/24")


@dataclass
class Stopwatch:
    """What has been typed, and how long it took."""

    steps: list[tuple[str, float]] = field(default_factory=list)

    def time(self, cluster: Cluster, line: str, *, outside: bool = False, check: bool = True) -> str:
        """Run a line of words on the node and note it."""
        start = time.monotonic()
        answer = cluster.machine.run(*line.split(), outside=outside, check=check)
        self.steps.append((line, time.monotonic() - start))
        return answer

    def report(self) -> str:
        lines = [f"{seconds:7.1f} s  {line}" for line, seconds in self.steps]
        return "\n".join(
            [*lines, f"{sum(seconds for _, seconds in self.steps):7.1f} s  {len(lines)} commands"]
        )


class Admin:
    """Whoever runs `macvlan-egress …` on the node."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._background: list[Process] = []

    def run(self, *words: str, check: bool = True) -> str:
        """A command to its end, whatever its status if that is not to be checked."""
        answer = self.cluster.machine.run(COMMAND, *words, check=check)
        self.cluster.kubectl.record.append(f"# macvlan-egress {' '.join(words)}\n{answer}")
        return answer

    def start(self, *words: str) -> Process:
        """A command that stays."""
        process = self.cluster.machine.start(
            [COMMAND, *words], f"/var/log/{words[0]}-{len(self._background)}.log"
        )
        self._background.append(process)
        return process

    def start_daemon(self) -> Process:
        """The daemon, once it answers."""
        before = self._socket()
        process = self.start("daemon")
        eventually(lambda: self._socket() not in (0, before) or not process.runs, "the daemon does not start")
        assert process.runs, process.log
        return process

    def close(self) -> None:
        """End what stays."""
        for process in self._background:
            if process.runs:
                process.end()
        self._background.clear()

    def traces(self) -> list[str]:
        """What pods have left on the node: state, addresses, leases, namespaces, links."""
        machine = self.cluster.machine
        found = [
            str(path.name)
            for directory in (f"{STATE}/attachments", f"{STATE}/addresses", LEASES, "/run/netns")
            for path in (machine.path(directory).iterdir() if machine.path(directory).is_dir() else ())
            if path.name not in ("lock", "last_reserved_ip.0")
        ]
        links = {link["ifname"] for link in self.cluster.lab.node.show("link show")}
        return sorted([*found, *(links - {"lo", "eth0", "cni0"})])

    def _socket(self) -> int:
        path = self.cluster.machine.path(SOCKET)
        return path.stat().st_ino if path.exists() else 0


def pod(namespace: str, name: str, annotations: dict[str, str] | None = None) -> Object:
    """A pod that may be asked to do something; it ends at once."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": BUSYBOX.removeprefix("docker.io/library/"),
                    "command": ["sleep", "1000000"],
                }
            ],
        },
    }


def egress_pod(name: str, destination: str, address: str = EGRESS, namespace: str = "egress") -> Object:
    """A pod that redirects what it gets."""
    made = pod(namespace, name, source(f"{address}/24", GATEWAY, destination=destination))
    made["spec"]["containers"] = [{"name": "pause", "image": PAUSE}]
    return made


def conflist(cluster: Cluster, path: str) -> Object:
    found: Object = json.loads(cluster.machine.path(path).read_text())
    return found
