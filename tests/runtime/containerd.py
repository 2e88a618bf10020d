"""A containerd of its own on the lab's node, driven as a kubelet would drive it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable
from typing import Any

import cri
import shipped
import traces
from lab import Lab
from lab.node import MINIMAL_PATH
from sandbox import Sandbox

PAUSE = "docker.io/local/pause:1"
GRANTED, _ = shipped.pod(shipped.EGRESS_POD)
WAIT_SECONDS = 30
# oom_score_adj may not be lowered without CAP_SYS_RESOURCE; snapshotter `native` works on any file system.
_CONFIGURATION = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{bin_dir}"
    conf_dir = "{directory}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{directory}/runc"
"""


class Pod(Sandbox):
    """A pod that has a sandbox and no containers."""

    def __init__(self, runtime: cri.Client, pod_id: str) -> None:
        info = json.loads(runtime.pod_status(pod_id).info["info"])
        namespaces = {item["type"]: item for item in info["runtimeSpec"]["linux"]["namespaces"]}
        super().__init__(namespaces["network"]["path"])
        self.id = pod_id
        self._runtime = runtime

    @property
    def ip(self) -> str:
        """The pod's address as Kubernetes shows it."""
        return str(self._runtime.pod_status(self.id).status.network.ip)

    def stop(self) -> None:
        self._runtime.stop_pod(self.id)

    def remove(self) -> None:
        self._runtime.remove_pod(self.id)


class Containerd:
    """The daemon; `stop` takes it away with its pods and all their traces.

    Args:
        conflist: the file of conf/ that its pods' network is made by.
    """

    def __init__(self, lab: Lab, conflist: str) -> None:
        self._lab = lab
        self._conflist = conflist
        self.directory = traces.new_directory()
        self.name = os.path.basename(self.directory)
        self.socket = f"{self.directory}/containerd.sock"
        self.log_file = f"{self.directory}/containerd.log"
        self.plugin_dir = f"{self.directory}/plugin"
        self.cri = cri.Client(self.socket)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        os.mkdir(f"{self.directory}/net.d")
        self._write_conflist({})
        places = {"directory": self.directory, "socket": self.socket, "bin_dir": self._lab.bin_dir}
        traces.write(f"{self.directory}/config.toml", _CONFIGURATION.format(pause=PAUSE, **places))
        self._launch()
        self._import(_pause_image(self.directory))
        self._wait("the pause image is known", lambda: self.cri.has_image(PAUSE))

    def crash(self) -> None:
        """Kill the daemon, as a lack of memory does, and start it again; its pods live on meanwhile."""
        assert self._process, "start has not been called"
        self._process.kill()
        self._process.wait()
        self._launch()

    def reconfigure(self, **keys: Any) -> None:
        """Change keys of the plugin's configuration, and wait until containerd has noticed."""
        text = self._write_conflist(keys)
        self._wait("the configuration is loaded", lambda: text in self.cri.network_configurations())

    def run_pod(self, annotations: dict[str, str] | None = None, namespace: str = GRANTED) -> Pod:
        """Start a pod.

        Raises:
            cri.Error: with the text that the pod's events would show.
        """
        name = f"pod-{uuid.uuid4().hex[:8]}"
        config = {
            "metadata": {"name": name, "uid": str(uuid.uuid4()), "namespace": namespace, "attempt": 1},
            "hostname": name,
            "log_directory": f"{self.directory}/logs",
            "annotations": annotations or {},
            "linux": {"cgroup_parent": f"/{self.name}"},
        }
        return Pod(self.cri, self.cri.run_pod(config))

    def records(self) -> list[str]:
        """What the plugin keeps of the pods it serves."""
        return traces.files(f"{self.plugin_dir}/state")

    def locks(self) -> list[str]:
        """What the plugin's calls keep others waiting for."""
        return traces.locked(f"{self.plugin_dir}/run")

    def leases(self) -> list[str]:
        """The pod addresses that the main plugin has given away."""
        return traces.names(f"{self.directory}/leases/{self.name}/10.*")

    def namespaces(self) -> list[str]:
        """The network namespaces of pods."""
        return traces.names(f"{self.directory}/state/io.containerd.grpc.v1.cri/netns/*")

    def stop(self) -> None:
        """Remove everything, whatever state it is in."""
        with contextlib.suppress(cri.Error):
            for pod_id in self.cri.pod_ids():
                for act in (self.cri.stop_pod, self.cri.remove_pod):
                    with contextlib.suppress(cri.Error):
                        act(pod_id)
        self.cri.close()
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        traces.remove(self.directory)

    def _launch(self) -> None:
        with open(self.log_file, "ab") as log:
            # Not `ip netns exec`: that hides /sys/fs/cgroup.
            self._process = subprocess.Popen(
                [
                    "nsenter",
                    f"--net={self._lab.node.path}",
                    "containerd",
                    "-c",
                    f"{self.directory}/config.toml",
                ],
                # As systemd would; by the directory, traces.py also knows the plugins that are called.
                env={"PATH": MINIMAL_PATH, "RUNTIME_DIRECTORY": f"{self.directory}/state"},
                stdout=log,
                stderr=log,
            )
        self._wait("the runtime and its network are ready", lambda: all(self.cri.conditions().values()))

    def _write_conflist(self, keys: dict[str, Any]) -> str:
        conflist = shipped.conflist(self._conflist, self.directory, **keys)
        text = json.dumps({**conflist, "name": self.name})
        path = f"{self.directory}/net.d/{self._conflist}"
        traces.write(f"{path}.new", text)
        os.replace(f"{path}.new", path)
        return text

    def _import(self, archive: str) -> None:
        ctr = f"ctr -a {self.socket} -n k8s.io images import --snapshotter native {archive}"
        done = subprocess.run(ctr.split(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{ctr}: exit status {done.returncode}\n{done.stdout}{done.stderr}")

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            assert self._process, "start has not been called"
            ended = self._process.poll() is not None
            with contextlib.suppress(cri.Error):
                if not ended and ready():
                    return
            if ended or time.monotonic() > deadline:
                log = traces.read(self.log_file)
                raise RuntimeError(f"waited in vain until {what}; containerd's log:\n{log}")
            time.sleep(0.05)


def _pause_image(directory: str) -> str:
    """An image that holds a busybox asleep, as an archive; nothing is downloaded."""
    layer = f"{directory}/layer.tar"
    with tarfile.open(layer, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
    with open(layer, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    machine = os.uname().machine
    config = {
        "os": "linux",
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "config": {"Cmd": ["/bin/busybox", "sleep", "1000000"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    traces.write(f"{directory}/config.json", json.dumps(config))
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
    traces.write(f"{directory}/manifest.json", json.dumps(manifest))
    archive = f"{directory}/pause.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("config.json", "manifest.json", "layer.tar"):
            tar.add(f"{directory}/{name}", name)
    return archive
