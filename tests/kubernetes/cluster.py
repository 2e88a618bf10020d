"""A Kubernetes of one node on a machine of the lab's LAN, with a bridge for its pods."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

from lab import Lab, Namespace
from lab.machine import CommandError, Machine, PodNetwork, Process, eventually
from lab.sockets import Endpoint
from lab.traffic import exchange

from . import components, images, pki
from .kubectl import Kubectl, Object

CONFLIST = "/etc/cni/net.d/10-bridge.conflist"
MAIN_CNI = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "subnet": components.PODS,
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}
_SHIM = "/usr/bin/containerd-shim-runc-v2"
_LOGGED = 4000  # characters of a log
LEASES = "/var/lib/cni/networks/pods"


class Cluster:
    """The cluster; `close` takes it away with all that it has made.

    Args:
        lab: with the LAN, the node's network and a host outside.
        binaries: a directory of Kubernetes' own programs.
    """

    def __init__(self, lab: Lab, binaries: Path) -> None:
        self.lab = lab
        self.outside: Namespace = lab.outside
        self._binaries = str(binaries)
        self._processes: dict[str, Process] = {}
        self.machine = Machine(lab.node, self._binaries)
        self.kubectl = Kubectl(self.machine)

    def start(self) -> None:
        """Start everything; the node is ready when this returns."""
        machine = self.machine
        addresses = [components.NODE_ADDRESS, "127.0.0.1", components.API_SERVICE]
        pki.create(machine.path("/"), components.SERVER, components.NODE, addresses)
        for path, text in components.files(self.machine.name, images.PAUSE).items():
            machine.write(path, text)
        machine.run("mkdir", "-p", "/opt/cni", "/var/lib/etcd")
        machine.run("cp", "-r", "/usr/lib/cni", "/opt/cni/bin")
        machine.run("rm", "-rf", "/etc/cni/net.d", "/var/lib/cni")
        self.write_main_cni()
        self._start("etcd", components.ETCD)
        self.start_containerd()
        self._start("kube-apiserver", components.api_server(self._binaries))
        self.import_image(images.pause)
        self.import_image(images.busybox)
        self._wait(
            "kube-apiserver", lambda: machine.run("kubectl", "get", "--raw", "/readyz", check=False) == "ok"
        )
        for name, command in (
            ("kube-scheduler", components.scheduler),
            ("kube-controller-manager", components.controller_manager),
            ("kubelet", components.kubelet),
            ("kube-proxy", components.proxy),
        ):
            self._start(name, command(self._binaries))
        self._wait("kubelet", self._is_ready)

    def close(self) -> None:
        self.machine.switch_off()

    def write_main_cni(self) -> str:
        """Write the main CNI's conflist, as its agent does when it starts; returns the text."""
        text = json.dumps(MAIN_CNI, indent=2) + "\n"
        self.machine.write(CONFLIST, text)
        return text

    def import_image(self, make: Callable[[Path], None]) -> None:
        """Give containerd an image."""
        archive = self.machine.path("/root/image.tar")
        make(archive)
        self.machine.run("ctr", "--namespace=k8s.io", "images", "import", "/root/image.tar")
        archive.unlink()

    def start_containerd(self) -> None:
        self._start("containerd", components.CONTAINERD)
        self._wait("containerd", lambda: "Server:" in self.machine.run("ctr", "version", check=False))

    def kill_containerd(self) -> None:
        """As a lack of memory does."""
        self._processes["containerd"].end(signal.SIGKILL)

    def crash_node(self) -> None:
        """Take away what a power cut takes: processes but the control plane's, /run, and the pods' networks."""
        for name in ("kubelet", "kube-proxy", "containerd"):
            self._processes[name].end(signal.SIGKILL)
        machine = self.machine
        shims = machine.processes(_SHIM)
        pods = [child for shim in shims for child in machine.children(shim)]
        machine.run("kill", "-KILL", *map(str, [*shims, *pods]))
        eventually(lambda: not machine.processes(_SHIM), "the shims do not end")
        for mount in reversed(machine.path("/proc/1/mounts").read_text().splitlines()):
            if (path := mount.split()[1]).startswith("/run/"):
                machine.run("umount", "--lazy", path)
        machine.run("find", "/run", "-mindepth", "1", "-delete")
        self.lab.node.ip("link delete cni0")

    def start_node(self) -> None:
        """Start what a node starts by itself."""
        self.start_containerd()
        for name, command in (("kubelet", components.kubelet), ("kube-proxy", components.proxy)):
            self._start(name, command(self._binaries))

    def running_again(self, namespace: str, name: str) -> Object:
        """A pod once its containers have been started anew."""

        def is_back(pod: Object) -> bool:
            statuses = pod["status"].get("containerStatuses", [])
            return any(one["ready"] and one["restartCount"] for one in statuses)

        return self.kubectl.wait_until(namespace, "pod", name, is_back)

    def running(self, namespace: str, name: str) -> Object:
        """A pod once it runs."""
        return self.kubectl.wait_until(
            namespace, "pod", name, lambda pod: pod["status"]["phase"] == "Running"
        )

    def network(self, pod: Object) -> PodNetwork:
        """The network of a pod that runs."""
        (status, *_) = pod["status"]["containerStatuses"]
        container = status["containerID"].removeprefix("containerd://")
        for line in self.machine.run("ctr", "--namespace=k8s.io", "tasks", "list").splitlines():
            name, pid, *_ = line.split()
            if name == container:
                return self.machine.network_of(int(pid))
        raise AssertionError(f"{pod['metadata']['name']} has no task {container}")

    def source_of(self, client: PodNetwork, to: Endpoint, port: int) -> str:
        """Whom the outside sees when a client connects to an endpoint that leads to its port; empty if nobody."""
        try:
            return exchange("tcp", client, to, self.outside, port, timeout=1.0).source
        except OSError:  # refused on the way: kube-proxy or a policy
            return ""

    def evidence(self) -> list[tuple[str, str]]:
        """What to read when something has failed: kubectl's words, the ends of all logs."""
        logs = [self.machine.path(f"/var/log/{name}.log") for name in (*self._processes, "macvlan-egress")]
        tails = [f"--- {path.name}\n{_tail(path)}" for path in logs if path.exists()]
        return [("kubectl", self.kubectl.evidence()), ("logs", "\n".join(tails))]

    def _start(self, name: str, command: list[str]) -> None:
        self._processes[name] = self.machine.start(command, f"/var/log/{name}.log")

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        process = self._processes[name]

        def is_ready() -> bool:
            assert process.runs, f"{name} has ended:\n{process.log[-_LOGGED:]}"
            return ready()

        eventually(is_ready, lambda: f"{name} does not become ready:\n{process.log[-_LOGGED:]}", 120)

    def _is_ready(self) -> bool:
        try:
            node = self.kubectl.get("node", components.NODE)
        except CommandError:  # it has not registered itself yet
            return False
        conditions = {one["type"]: one["status"] for one in node["status"].get("conditions", [])}
        return conditions.get("Ready") == "True"


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-_LOGGED:]
