"""A podman of its own on the lab's node, with CNI as network backend and one network: the macvlan itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import traces
from lab import Lab
from lab.node import MINIMAL_PATH
from sandbox import Sandbox

NETWORK = "lan"
BUSYBOX = "/bin/busybox"
# Limits are not raised, which a restricted host would refuse; runc, since crun refuses hybrid cgroups.
_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=256:256", "nproc=256:256"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
static_dir = "{directory}/static"
tmp_dir = "{directory}/tmp"
volume_path = "{directory}/volumes"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{bin_dir}"]
network_config_dir = "{directory}/net.d"
"""
_STORAGE_CONF = """\
[storage]
driver = "vfs"
graphroot = "{directory}/storage"
runroot = "{directory}/run"
"""


class Failure(Exception):
    """What podman said when it failed."""


class Container(Sandbox):
    """A container that sleeps; as a namespace it is the container's own."""

    def __init__(self, podman: Podman, container_id: str) -> None:
        self.id = container_id
        self._podman = podman
        self.settings = json.loads(podman.run("inspect", container_id))[0]["NetworkSettings"]
        super().__init__(self.settings["SandboxKey"])

    def execute(self, *argv: str) -> str:
        """Run one of busybox's programs in the container."""
        return self._podman.run("exec", self.id, BUSYBOX, *argv)

    def remove(self) -> None:
        self._podman.run("rm", "--force", "--time", "0", self.id)


class Podman:
    """Podman needs no daemon; `close` removes what its containers may have left."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._containers: list[Container] = []
        self.directory = traces.new_directory()
        self.name = os.path.basename(self.directory)
        self.state_dir = f"{self.directory}/plugin/state"
        os.mkdir(f"{self.directory}/net.d")
        for name, template in (("containers.conf", _CONTAINERS_CONF), ("storage.conf", _STORAGE_CONF)):
            text = template.format(directory=self.directory, bin_dir=lab.bin_dir)
            traces.write(f"{self.directory}/{name}", text)
        self._root = self._make_root()

    def network(self, **keys: Any) -> None:
        """Define the network; the plugin is the whole of it."""
        plugin = {
            "type": "macvlan-egress",
            "capabilities": {"ips": True, "mac": True},
            "stateDir": self.state_dir,
            "runDir": f"{self.directory}/plugin/run",
            "logFile": f"{self.directory}/plugin/log",
            **keys,
        }
        conflist = {"cniVersion": "1.0.0", "name": NETWORK, "plugins": [plugin]}
        traces.write(f"{self.directory}/net.d/{NETWORK}.conflist", json.dumps(conflist))

    def host_local(self, first: str, last: str, gateway: str) -> dict[str, Any]:
        """Addresses of the LAN that are this node's to give."""
        pool = {"subnet": "192.168.12.0/24", "rangeStart": first, "rangeEnd": last, "gateway": gateway}
        return {
            "type": "host-local",
            "ranges": [[pool]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": f"{self.directory}/leases",
        }

    def start(self, *options: str) -> Container:
        """Start a container in the network.

        Raises:
            Failure: with what podman printed.
        """
        place = ["--network", NETWORK, "--cgroup-parent", f"/{self.name}", *options]
        container_id = self.run("run", "--detach", *place, "--rootfs", self._root, BUSYBOX, "sleep", "1000")
        self._containers.append(Container(self, container_id.strip()))
        return self._containers[-1]

    def run(self, *argv: str) -> str:
        """Run podman on the node."""
        environment = {
            "PATH": MINIMAL_PATH,
            "HOME": self.directory,
            "CONTAINERS_CONF": f"{self.directory}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.directory}/storage.conf",
        }
        # Not `ip netns exec`: that hides /sys/fs/cgroup.
        command = ["nsenter", f"--net={self._lab.node.path}", "podman", *argv]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def records(self) -> list[str]:
        """What the plugin keeps of the containers it serves."""
        return traces.files(self.state_dir)

    def leases(self) -> list[str]:
        """The addresses that host-local has given away."""
        return traces.names(f"{self.directory}/leases/{NETWORK}/192.*")

    def close(self) -> None:
        """Remove everything, whatever state it is in."""
        container_ids = traces.names(f"{self.directory}/storage/vfs-containers/*")
        try:
            self.run("rm", "--all", "--force", "--time", "0")
        finally:
            for container in self._containers:
                subprocess.run(["ip", "netns", "del", container.name], capture_output=True, check=False)
            traces.remove(self.directory, container_ids)

    def _make_root(self) -> str:
        """A root file system that needs no image."""
        root = f"{self.directory}/rootfs"
        for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
            os.makedirs(f"{root}/{name}")
        shutil.copy(BUSYBOX, f"{root}{BUSYBOX}")
        return root
