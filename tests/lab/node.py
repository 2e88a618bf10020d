"""A node of the cluster: it runs the plugin as libcni would."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

from .answer import Answer
from .namespace import Namespace, within
from .pod import Pod
from .request import POD_ANNOTATIONS, Request
from .snapshot import Snapshot, files

if TYPE_CHECKING:
    from .network import Lab

TYPE = "macvlan-egress"
LATEST = "1.1.0"
LATEST_OF_DEBIAN = "1.0.0"  # what Debian 12's plugins speak
# What systemd gives a service, less what nobody needs.
MINIMAL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
TIMEOUT_SECONDS = 60


class Node(Namespace):
    """A namespace with a NIC eth0, the plugin's directories and a CNI bin directory."""

    def __init__(self, lab: Lab, name: str, directory: str) -> None:
        super().__init__(name)
        self.lab = lab
        self.directory = directory
        self.state_dir = f"{directory}/state"
        self.run_dir = f"{directory}/run"
        self.log_file = f"{directory}/plugin.log"
        self.bin_dir = lab.bin_dir

    def pod(self, main: str = "calico", version: str = "", ipv6: bool = True) -> Pod:
        """A pod with its main interface: `calico` (by hand), or a real plugin, `bridge` or `ptp`."""
        version = version or (LATEST if main == "calico" else LATEST_OF_DEBIAN)
        pod = self.lab.keep(Pod(self, self.lab.name(f"pod{self.lab.number()}")))
        pod.connect(main, version, ipv6)
        return pod

    def configuration(self, version: str = LATEST, **keys: Any) -> dict[str, Any]:
        """The plugin's object of the conflist, as libcni completes it; None takes a key away."""
        conf = {
            "cniVersion": version,
            "name": "pods",
            "type": TYPE,
            "capabilities": {POD_ANNOTATIONS: True, "ips": True, "mac": True},
            "allow": [{"namespaces": ["*"]}],
            "stateDir": self.state_dir,
            "runDir": self.run_dir,
            "logFile": self.log_file,
            **keys,
        }
        return {key: value for key, value in conf.items() if value is not None}

    def request(
        self, pod: Pod, annotations: dict[str, str] | None = None, *, conf: dict[str, Any] | None = None
    ) -> Request:
        """A chained attachment of a Kubernetes pod."""
        document = self.configuration(pod.version, **(conf or {}))
        document.setdefault("runtimeConfig", {POD_ANNOTATIONS: annotations or {}})
        document.setdefault("prevResult", pod.previous)
        return Request({**self._pod_environment(pod, "eth0"), "CNI_ARGS": pod.args}, document)

    def standalone(
        self, pod: Pod, ifname: str = "net1", *, version: str = LATEST, conf: dict[str, Any] | None = None
    ) -> Request:
        """An attachment to a network that is the macvlan itself; no Kubernetes about."""
        document = self.configuration(version, name="lan", **{"allow": None, **(conf or {})})
        return Request(self._pod_environment(pod, ifname), document)

    def add(
        self, pod: Pod, annotations: dict[str, str] | None = None, *, conf: dict[str, Any] | None = None
    ) -> Answer:
        """The chain's last step for a pod that has its main interface; `check` and `delete` remember it."""
        return self.send_add(pod, self.request(pod, annotations, conf=conf))

    def send_add(self, pod: Pod, request: Request) -> Answer:
        answer = self.send("ADD", request)
        if answer.status == 0:
            pod.requests[request.environment["CNI_IFNAME"]] = self._for_later(request, answer)
        return answer

    def check(self, pod: Pod, ifname: str = "eth0") -> Answer:
        return self.send("CHECK", self._remembered(pod, ifname))

    def delete(self, pod: Pod, ifname: str = "eth0") -> Answer:
        return self.send("DEL", self._remembered(pod, ifname))

    def gc(self, *valid: Pod, conf: dict[str, Any] | None = None) -> Answer:
        """Collect what belongs to none of the pods."""
        attachments = [
            {"containerID": pod.container_id, "ifname": name} for pod in valid for name in pod.requests
        ]
        return self.send(
            "GC",
            Request({}, self.configuration(**{"cni.dev/valid-attachments": attachments, **(conf or {})})),
        )

    def status(self, conf: dict[str, Any] | None = None) -> Answer:
        return self.send("STATUS", Request({}, self.configuration(**(conf or {}))))

    def send(self, command: str, request: Request) -> Answer:
        return self.execute({"CNI_COMMAND": command, **request.environment}, request.stdin)

    def execute(
        self,
        environment: dict[str, str],
        stdin: str | bytes,
        *,
        program: str = TYPE,
        wrapper: tuple[str, ...] = (),
        check: bool = True,
    ) -> Answer:
        """Run a plugin in the node's namespace with exactly this environment beside CNI_PATH and PATH."""
        full = {"PATH": MINIMAL_PATH, "CNI_PATH": self.bin_dir, **environment}
        argv = [*wrapper, os.path.join(self.bin_dir, program)]
        data = stdin if isinstance(stdin, bytes) else stdin.encode("utf-8", "surrogateescape")
        done = within(
            self.path,
            lambda: subprocess.run(
                argv, env=full, input=data, capture_output=True, check=False, timeout=TIMEOUT_SECONDS, cwd="/"
            ),
        )
        answer = Answer(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))
        return answer.check() if check else answer

    def snapshot(self) -> Snapshot:
        return {**super().snapshot(), "state": files(self.state_dir)}

    def written_files(self) -> list[str]:
        """Every file the plugin has ever left: state, locks, log."""
        return files(self.state_dir, self.run_dir) + (
            [self.log_file] if os.path.exists(self.log_file) else []
        )

    def record(self, pod: Pod, ifname: str = "eth0") -> str:
        """Where the plugin keeps what it knows of an attachment."""
        return f"{self.state_dir}/attachments/{pod.container_id}@{ifname}.json"

    def holds(self, address: str) -> bool:
        """Whether the node's register has a holder of an address."""
        return os.path.lexists(f"{self.state_dir}/addresses/{address}")

    def drop_claim(self, address: str) -> None:
        os.unlink(f"{self.state_dir}/addresses/{address}")

    def _remembered(self, pod: Pod, ifname: str) -> Request:
        if ifname in pod.requests:
            return pod.requests[ifname]
        return self.request(pod)

    def _for_later(self, request: Request, answer: Answer) -> Request:
        """CHECK and DEL get the final result as prevResult, DEL only since 0.4.0."""
        old = request.document["cniVersion"] in ("0.1.0", "0.2.0", "0.3.0", "0.3.1")
        return request.but(prevResult=None if old else json.loads(answer.stdout))

    def _pod_environment(self, pod: Pod, ifname: str) -> dict[str, str]:
        return {"CNI_CONTAINERID": pod.container_id, "CNI_NETNS": pod.path, "CNI_IFNAME": ifname}
