"""A podman of its own on the lab's node, with CNI as network backend and one network: the macvlan itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import shipped
import traces
from lab import Lab
from lab.node import MINIMAL_PATH
from sandbox import Sandbox

BUSYBOX = "/bin/busybox"
TIMEOUT_SECONDS = 60
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
        self._network = ""
        self.directory = traces.new_directory()
        self.name = os.path.basename(self.directory)
        os.mkdir(f"{self.directory}/net.d")
        for name, template in (("containers.conf", _CONTAINERS_CONF), ("storage.conf", _STORAGE_CONF)):
            text = template.format(directory=self.directory, bin_dir=lab.bin_dir)
            traces.write(f"{self.directory}/{name}", text)
        self._root = self._make_root()

    def network(self, **keys: Any) -> None:
        """Define the network; the plugin is the whole of it.

        Args:
            keys: change the configuration that conf/ ships.
        """
        conflist = shipped.conflist(shipped.STANDALONE, self.directory, **keys)
        self._network = str(conflist["name"])
        traces.write(f"{self.directory}/net.d/{shipped.STANDALONE}", json.dumps(conflist))

    def start(self, *options: str) -> Container:
        """Start a container in the network.

        Raises:
            Failure: with what podman printed.
        """
        place = ["--network", self._network, "--cgroup-parent", f"/{self.name}", *options]
        container_id = self.run("run", "--detach", *place, "--rootfs", self._root, BUSYBOX, "sleep", "1000")
        return Container(self, container_id.strip())

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
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"{' '.join(argv)}: not ended after {TIMEOUT_SECONDS} s") from None
        if done.returncode:
            raise Failure(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def records(self) -> list[str]:
        """What the plugin keeps of the containers it serves."""
        return traces.files(f"{self.directory}/plugin/state")

    def leases(self) -> list[str]:
        """The addresses that host-local has given away."""
        return traces.names(f"{self.directory}/leases/{self._network}/192.*")

    def close(self) -> None:
        """Remove everything, whatever state it is in."""
        try:
            self.run("rm", "--all", "--force", "--time", "0")
        finally:
            traces.remove(self.directory)

    def _make_root(self) -> str:
        """A root file system that needs no image."""
        root = f"{self.directory}/rootfs"
        for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
            os.makedirs(f"{root}/{name}")
        shutil.copy(BUSYBOX, f"{root}{BUSYBOX}")
        return root
