"""CNI calls as a container runtime makes them: of this plugin, and of a macvlan plugin with static IPAM."""

from __future__ import annotations

import json
import os
from typing import Any

from cni_macvlan_egress.admin import launcher
from cni_macvlan_egress.model import keys

from .cluster import NIC, ROUTER, Pod
from .process import Program

VERSION = "1.0.0"  # the newest that Debian 12's plugins speak
PLUGINS = "/usr/lib/cni"
# What systemd gives a service, less what nobody needs.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_OUTSIDE = "203.0.113.0/24"


class Installation:
    """This plugin, installed below a directory of its own as `macvlan-egress launcher` does it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._bin = os.path.join(directory, "bin")
        os.mkdir(self._bin)
        self._executable = launcher.write(self._bin)

    def call(self, verb: str, pod: Pod, annotations: dict[str, str], **conf: Any) -> Program:  # noqa: ANN401
        """A chained call for a pod with these annotations."""
        document = {
            "cniVersion": VERSION,
            "name": "pods",
            "type": launcher.NAME,
            "capabilities": {keys.POD_ANNOTATIONS_CAPABILITY: True},
            "runtimeConfig": {keys.POD_ANNOTATIONS_CAPABILITY: annotations},
            "allow": [{"namespaces": ["*"]}],
            "stateDir": os.path.join(self._directory, "state"),
            "runDir": os.path.join(self._directory, "run"),
            "logFile": os.path.join(self._directory, "plugin.log"),
            "prevResult": pod.previous,
            **conf,
        }
        return _program(self._executable, verb, pod, ifname=NIC, search=self._bin, document=document)


def source(address: str) -> dict[str, str]:
    """The annotations of a pod that asks for an address on the LAN."""
    return {
        keys.ASSIGN: "true",
        f"{keys.PREFIX}source": f"{address}/24",
        f"{keys.PREFIX}gateway": ROUTER,
    }


def macvlan(executable: str, verb: str, pod: Pod, address: str) -> Program:
    """A call of the reference plugin, or of one that takes the same configuration."""
    document = {
        "cniVersion": VERSION,
        "name": "lan",
        "type": "macvlan",
        "master": NIC,
        "mode": "bridge",
        "ipam": {
            "type": "static",
            "addresses": [{"address": f"{address}/24", "gateway": ROUTER}],
            "routes": [{"dst": _OUTSIDE, "gw": ROUTER}],
        },
    }
    return _program(executable, verb, pod, ifname="net1", search=PLUGINS, document=document)


def _program(
    executable: str, verb: str, pod: Pod, *, ifname: str, search: str, document: dict[str, Any]
) -> Program:
    environment = {
        "PATH": _PATH,
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": pod.container_id,
        "CNI_NETNS": pod.namespace.path,
        "CNI_IFNAME": ifname,
        "CNI_PATH": search,
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={pod.name};"
        f"K8S_POD_INFRA_CONTAINER_ID={pod.container_id}",
    }
    return Program((executable,), environment, json.dumps(document).encode())
