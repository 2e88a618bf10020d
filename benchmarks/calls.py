"""CNI calls as a container runtime makes them: of this plugin, and of a macvlan plugin with static IPAM."""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import dataclass
from typing import Any

from cni_macvlan_egress.admin import launcher
from cni_macvlan_egress.model import keys

from .cluster import BRIDGE, NIC, ROUTER, Pod
from .process import TIMEOUT_SECONDS, Program

VERSION = "1.0.0"  # the newest that Debian 12's plugins speak
PLUGINS = "/usr/lib/cni"
# What systemd gives a service, less what nobody needs.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_OUTSIDE = "203.0.113.0/24"


class Installation:
    """This plugin, installed below a directory of its own as `macvlan-egress launcher` does it.

    Args:
        socket: of the daemon that the native launcher is to call; empty for direct mode.

    Raises:
        CniError: there is no native launcher for this machine.
    """

    def __init__(self, directory: str, socket: str = "") -> None:
        self._directory = directory
        self._bin = os.path.join(directory, "bin")
        os.makedirs(self._bin)
        if socket:
            (self._executable,) = launcher.write_native(
                argparse.Namespace(
                    write=self._bin,
                    socket=socket,
                    direct=None,
                    no_direct=True,
                    deadline=TIMEOUT_SECONDS,
                    machine=platform.machine(),
                )
            )
        else:
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where on the LAN a pod is to be.

    Attributes:
        address: with prefix length.
    """

    address: str
    gateway: str = ROUTER


def near(last: int) -> Place:
    """An address in the LAN's own network, by its last byte."""
    return Place(f"192.168.12.{last}/24")


def far(number: int) -> Place:
    """One of many, in a network of their own; at most 65,000."""
    return Place(f"172.20.{number + 2 >> 8}.{number + 2 & 255}/16", "172.20.0.1")


def source(where: Place) -> dict[str, str]:
    """The annotations of a pod that asks for an address on the LAN."""
    return {
        keys.ASSIGN: "true",
        f"{keys.PREFIX}source": where.address,
        f"{keys.PREFIX}gateway": where.gateway,
    }


def macvlan(executable: str, verb: str, pod: Pod, where: Place) -> Program:
    """A call of the reference plugin, or of one that takes the same configuration."""
    return _reference(executable, verb, pod, where, type="macvlan", master=NIC, mode="bridge")


def bridge(executable: str, verb: str, pod: Pod, where: Place) -> Program:
    """A call of the bridge plugin: a veth pair to the bridge that the pods' main interfaces are on."""
    return _reference(executable, verb, pod, where, type="bridge", bridge=BRIDGE)


def egress_router(executable: str, verb: str, pod: Pod, where: Place, destination: str) -> Program:
    """A call of OpenShift's plugin, which makes a macvlan and redirects to one destination."""
    document = {
        "cniVersion": "0.4.0",
        "name": "lan",
        "type": "egress-router",
        "interfaceType": "macvlan",
        "interfaceArgs": {"mode": "bridge", "master": NIC},
        "ip": {
            "addresses": [where.address],
            "destinations": [f"80 tcp {destination}"],
            "gateway": where.gateway,
        },
    }
    return _program(executable, verb, pod, ifname="net1", search=PLUGINS, document=document)


def _reference(executable: str, verb: str, pod: Pod, where: Place, **conf: str) -> Program:
    document = {
        "cniVersion": VERSION,
        "name": "lan",
        **conf,
        "ipam": {
            "type": "static",
            "addresses": [{"address": where.address, "gateway": where.gateway}],
            "routes": [{"dst": _OUTSIDE, "gw": where.gateway}],
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
