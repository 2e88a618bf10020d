"""Policies as an admin writes them onto a node, and the configuration that reads them there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab import Answer, Node, within

from cni_macvlan_egress.attach.policing import Policing, Report
from cni_macvlan_egress.kernel.nftables import Nftables
from cni_macvlan_egress.log import Log
from cni_macvlan_egress.model.configuration import Configuration

CLUSTER = ["10.0.0.0/8", "fd00:244::/32"]
EVERYTHING = ("0.0.0.0/0", "::/0")


def allow(target: str, *ports: tuple[str, int]) -> dict[str, Any]:
    return _rule("Allow", target, ports)


def deny(target: str, *ports: tuple[str, int]) -> dict[str, Any]:
    return _rule("Deny", target, ports)


def _rule(kind: str, target: str, ports: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    selector = "cidrSelector" if "/" in target else "dnsName"
    rule: dict[str, Any] = {"type": kind, "to": {selector: target}}
    if ports:
        rule["ports"] = [{"protocol": protocol, "port": port} for protocol, port in ports]
    return rule


def document(*rules: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
    """An EgressFirewall where a rule has ports, else an EgressNetworkPolicy."""
    if any("ports" in rule for rule in rules):
        return {
            "kind": "EgressFirewall",
            "apiVersion": "k8s.ovn.org/v1",
            "metadata": {"name": "default", "namespace": namespace},
            "spec": {"egress": list(rules)},
        }
    return {
        "kind": "EgressNetworkPolicy",
        "apiVersion": "network.openshift.io/v1",
        "metadata": {"name": "policy", "namespace": namespace},
        "spec": {"egress": list(rules)},
    }


class Policies:
    """The policies of a lab's node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.directory = Path(node.directory) / "policies.d"
        self.directory.mkdir()
        self.settings: dict[str, Any] = {"directory": str(self.directory)}

    @property
    def conf(self) -> dict[str, Any]:
        """What the plugin's configuration has more than usual."""
        return {"policy": self.settings, "clusterNetworks": CLUSTER}

    def write(self, *rules: dict[str, Any], namespace: str = "shop") -> None:
        """Put a namespace's policy into the directory, atomically as a careful admin does."""
        self.write_text(json.dumps(document(*rules, namespace=namespace)), f"{namespace}.json")

    def write_text(self, text: str, name: str) -> None:
        new = self.directory / f".{name}.new"
        new.write_text(text)
        new.rename(self.directory / name)

    def remove(self, namespace: str = "shop") -> None:
        (self.directory / f"{namespace}.json").unlink()

    def sync(self) -> Report:
        """What `macvlan-egress policy sync` does on the node."""
        configuration = Configuration.of(self.node.configuration(**self.conf))
        policing = Policing(configuration, Log(configuration.log_file))
        return within(self.node.path, policing.sync)

    def add(self, pod: Any, annotations: dict[str, str] | None = None, **conf: Any) -> Answer:
        return self.node.add(pod, annotations, conf={**self.conf, **conf})

    def table(self) -> list[dict[str, Any]]:
        """What the node's table holds, empty if there is none."""

        def read() -> list[dict[str, Any]]:
            with Nftables() as nftables:
                return nftables.objects("netdev macvlan_egress")

        return within(self.node.path, read)

    def files(self) -> list[str]:
        """Every file below runDir/policy that speaks of a pod."""
        run = Path(self.node.run_dir) / "policy"
        return sorted(path.name for name in ("pods", "enforced") for path in (run / name).glob("*"))
