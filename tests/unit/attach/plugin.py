"""An IPAM plugin that answers what a test says."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from pytest_mock import MockerFixture

from cni_macvlan_egress.attach.ipam import Delegate

CONFIGURATION = {
    "cniVersion": "1.1.0",
    "name": "lan",
    "type": "macvlan-egress",
    "ipam": {"type": "pool", "own": [1]},
}
VARIABLES = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "PATH": "/bin"}


class Plugin:
    """Answers instead of the executable, and keeps how it was called."""

    def __init__(self, mocker: MockerFixture, bin_dir: str) -> None:
        self._run = mocker.patch("subprocess.run", side_effect=self._answer)
        self._bin_dir = bin_dir
        self._answers = {"": self._process({})}

    def answers(self, answer: object, status: int = 0, stderr: bytes = b"", *, to: str = "") -> Delegate:
        """The delegate, whose plugin will answer so to every verb or to a certain one."""
        self._answers[to] = self._process(answer, status, stderr)
        return Delegate(CONFIGURATION, VARIABLES, ["/nowhere", self._bin_dir])

    def call(self) -> tuple[list[str], dict[str, str], dict[str, Any]]:
        """Arguments, environment and stdin of the last call."""
        (arguments,), more = self._run.call_args
        return arguments, more["env"], json.loads(more["input"])

    def _answer(self, *_: object, env: dict[str, str], **__: object) -> subprocess.CompletedProcess[bytes]:
        return self._answers.get(env["CNI_COMMAND"], self._answers[""])

    @staticmethod
    def _process(answer: object, status: int = 0, stderr: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        stdout = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return subprocess.CompletedProcess([], status, stdout, stderr)
