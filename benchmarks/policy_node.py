"""A node with egress policies: its configuration, its pods, and the calls that a runtime makes for them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cni_macvlan_egress.attach.policing import Policing, Report
from cni_macvlan_egress.log import Log
from cni_macvlan_egress.model import keys
from cni_macvlan_egress.model.configuration import Configuration

from .calls import Installation
from .cluster import Pod
from .policy_documents import PolicyDirectory
from .process import BenchmarkError, Program

_KUBERNETES_NAMESPACE = "K8S_POD_NAMESPACE="


class PolicyNode:
    """What is installed on a node."""

    def __init__(self, directory: str) -> None:
        os.mkdir(directory)
        self.documents = PolicyDirectory(directory)
        self._directory = directory
        self._installation = Installation(directory)
        self.configuration = Configuration.of(self._document())
        self.policing = Policing(self.configuration, Log(self.configuration.log_file))

    def call(
        self,
        verb: str,
        pod: Pod,
        namespace: str,
        annotations: Mapping[str, str] | None = None,
        *,
        policies: bool = True,
    ) -> Program:
        """A call for a pod of a Kubernetes namespace.

        Args:
            policies: whether the configuration has the key `policy`.
        """
        conf = self.documents.settings if policies else {}
        program = self._installation.call(verb, pod, dict(annotations or {}), conflictDetection="off", **conf)
        given = program.environment["CNI_ARGS"]
        words = [
            f"{_KUBERNETES_NAMESPACE}{namespace}" if word.startswith(_KUBERNETES_NAMESPACE) else word
            for word in given.split(";")
        ]
        return replace(program, environment={**program.environment, "CNI_ARGS": ";".join(words)})

    def command(self, *arguments: str) -> Program:
        """`macvlan-egress policy …` as an admin or a timer runs it."""
        path = os.path.join(self._directory, "node.conflist")
        with open(path, "w", encoding="ascii") as file:
            json.dump({"cniVersion": "1.0.0", "name": "pods", "plugins": [self._document()]}, file)
        executable = os.path.join(self._directory, "bin", "macvlan-egress")
        return Program((executable, "policy", *arguments, "--conflist", path), {"PATH": "/usr/sbin:/usr/bin"})

    def sync(self) -> Report:
        """Put into force what is written, from the calling thread's namespace.

        Raises:
            BenchmarkError: something is wrong with it.
        """
        report = self.policing.sync()
        if report.problems:
            raise BenchmarkError(f"the policies cannot be put into force: {'; '.join(report.problems)}")
        return report

    def _document(self) -> dict[str, Any]:
        directories = {"stateDir": "state", "runDir": "run", "logFile": "plugin.log"}
        return {
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": "macvlan-egress",
            "capabilities": {keys.POD_ANNOTATIONS_CAPABILITY: True},
            "allow": [{"namespaces": ["*"]}],
            **{key: os.path.join(self._directory, name) for key, name in directories.items()},
            **self.documents.settings,
        }
