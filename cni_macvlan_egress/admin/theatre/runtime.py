"""Plays the container runtime: runs the real executable on the node with a CNI environment and stdin."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from ...attach.records import Records
from ...attach.survey import Found, survey
from ...model import keys
from ...protocol.errors import IO_FAILURE, CniError
from .. import launcher
from .interruption import Interruption
from .network import Network, Pod

_KUBERNETES_NAMESPACE = "demo"
_TIMEOUT_SECONDS = 30.0
_LOOK_UP_SECONDS = 0.1


@dataclass(frozen=True)
class Answer:
    """What came back from one execution."""

    status: int
    stdout: str
    stderr: str
    milliseconds: int

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object on stdout, empty if there is none."""
        try:
            found = json.loads(self.stdout)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def outcome(self) -> str:
        """Success, or the error in the plugin's words."""
        if self.status == 0:
            return "success"
        error = self.result
        return f"error {error.get('code', '?')}: {error.get('msg', self.stderr.strip() or 'no answer')}"


class Runtime:
    """A runtime whose plugin keeps everything below one directory."""

    def __init__(self, network: Network, directory: str, interruption: Interruption) -> None:
        self._network = network
        self._interruption = interruption
        self._directory = directory
        self._state_dir = os.path.join(directory, "state")
        self._bin = os.path.join(directory, "bin")
        os.mkdir(self._bin)
        self._executable = launcher.write(self._bin)

    def call(self, verb: str, pod: Pod) -> Answer:
        """One CNI call; an ADD's result becomes the pod's.

        Raises:
            CniError: IO_FAILURE if the executable cannot be run, or does not end.
            Interrupted: a signal came meanwhile.
        """
        document = self._configuration(pod) | {"prevResult": pod.result}
        answer = self._execute(self._environment(verb, pod), json.dumps(document))
        if verb == "ADD" and answer.status == 0:
            pod.result = answer.result
        return answer

    def survey(self) -> list[Found]:
        """The attachments as the plugin's own `status` finds them."""
        return self._network.node.run(lambda: survey(Records(self._state_dir))[0])

    def records(self) -> list[str]:
        """The plugin's state files."""
        found = []
        for folder, _, names in os.walk(self._state_dir):
            found += [os.path.join(folder, name) for name in names]
        return sorted(os.path.relpath(path, self._directory) for path in found)

    def _configuration(self, pod: Pod) -> dict[str, Any]:
        """The plugin's object of the conflist as a runtime completes it."""
        return {
            "cniVersion": "1.1.0",
            "name": "demo",
            "type": launcher.NAME,
            "capabilities": {keys.POD_ANNOTATIONS_CAPABILITY: True},
            "runtimeConfig": {keys.POD_ANNOTATIONS_CAPABILITY: pod.annotations},
            "allow": [{"namespaces": [_KUBERNETES_NAMESPACE]}],
            "stateDir": self._state_dir,
            "runDir": os.path.join(self._directory, "run"),
            "logFile": os.path.join(self._directory, "macvlan-egress.log"),
        }

    def _environment(self, verb: str, pod: Pod) -> dict[str, str]:
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": pod.namespace.path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self._bin,
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={_KUBERNETES_NAMESPACE};K8S_POD_NAME={pod.name}",
        }

    def _execute(self, environment: dict[str, str], stdin: str) -> Answer:
        start = time.monotonic()
        try:
            process = self._network.node.run(lambda: _start(self._executable, environment))
        except OSError as error:
            raise CniError(
                IO_FAILURE,
                f"cannot run {self._executable}: {error.strerror}; if its file system is mounted noexec, set "
                "TMPDIR to a directory that is not",
            ) from None
        try:
            stdout, stderr = self._outputs(process, stdin, start + _TIMEOUT_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return Answer(process.returncode, stdout, stderr, round((time.monotonic() - start) * 1000))

    def _outputs(self, process: subprocess.Popen[str], stdin: str, deadline: float) -> tuple[str, str]:
        given: str | None = stdin
        while True:
            try:
                return process.communicate(given, timeout=_LOOK_UP_SECONDS)
            except subprocess.TimeoutExpired:
                given = None  # communicate() goes on with what it has
            self._interruption.check()
            if time.monotonic() > deadline:
                raise CniError(IO_FAILURE, f"the plugin has not ended after {_TIMEOUT_SECONDS:.0f} s")


def _start(executable: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    # A session of its own: Ctrl-C is for the demo, which then ends the plugin itself.
    return subprocess.Popen(
        [executable],
        env=environment,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
