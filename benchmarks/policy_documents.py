"""Egress policies to measure with: so many rules, of which the last but one lets the measured packets pass.

The rules before it are about other addresses, every second one of 198.18.0.0/15 (RFC 2544, section C.2.2), so that
no two of them can be joined into one range. The last rule denies everything.
"""

from __future__ import annotations

import ipaddress
import json
import os
import time
from collections.abc import Sequence
from typing import Any

from cni_macvlan_egress.attach.policy_state import PolicyState
from cni_macvlan_egress.model.configuration import Configuration
from cni_macvlan_egress.model.policy import Answer
from cni_macvlan_egress.sources.resolver import render

CLUSTER = ("10.88.0.0/16",)
_OTHERS = ipaddress.IPv4Address("198.18.0.0")
_ANSWERS_SECONDS = 1500.0  # less than the resolver keeps any answer
_NAMES = "bench.example"


class PolicyDirectory:
    """The policies of a node, one file a namespace."""

    def __init__(self, parent: str) -> None:
        self.path = os.path.join(parent, "policies.d")
        os.mkdir(self.path)

    @property
    def settings(self) -> dict[str, Any]:
        """What the plugin's configuration has more than usual."""
        return {"policy": {"directory": self.path}, "clusterNetworks": list(CLUSTER)}

    def write(self, namespace: str, rules: Sequence[dict[str, Any]]) -> None:
        """Put a namespace's policy in the place of the one that is there, atomically."""
        hidden = os.path.join(self.path, f".{namespace}.new")
        with open(hidden, "w", encoding="ascii") as file:
            json.dump(document(namespace, rules), file)
        os.rename(hidden, os.path.join(self.path, f"{namespace}.json"))


def document(namespace: str, rules: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The kind that may have more rules."""
    return {
        "kind": "EgressFirewall",
        "apiVersion": "k8s.ovn.org/v1",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {"egress": list(rules)},
    }


def networks(target: str, count: int) -> list[dict[str, Any]]:
    """Rules about networks only."""
    return _closed([f"{one}/32" for one in others(count - 2)], f"{target}/32")


def of_many_addresses(target: str, count: int, port: int) -> list[dict[str, Any]]:
    """Rules with a port each, of as many addresses."""
    ports = [{"protocol": "UDP", "port": port}]
    rules = networks(target, count)
    return [*({**rule, "ports": ports} for rule in rules[:-1]), rules[-1]]


def of_one_address(target: str, count: int, port: int) -> list[dict[str, Any]]:
    """Rules with a port each, all of the same address; the one that matches is the last."""
    numbers = [*range(port - count + 2, port), port]
    rules = [_rule("Allow", f"{target}/32", ports=[{"protocol": "UDP", "port": one}]) for one in numbers]
    return [*rules, _rule("Deny", "0.0.0.0/0")]


def names(target: str, count: int, configuration: Configuration) -> list[dict[str, Any]]:
    """Rules about DNS names, of which the node knows an address each as if it had just asked."""
    known = {f"n{number}.{_NAMES}": str(one) for number, one in enumerate(others(count - 2))}
    known[f"target.{_NAMES}"] = target
    expires = time.time() + _ANSWERS_SECONDS
    answers = {name: Answer((address,), expires) for name, address in known.items()}
    PolicyState(configuration.run_dir).save_names(render(answers))
    return _closed(list(known)[:-1], f"target.{_NAMES}")


def others(count: int) -> list[ipaddress.IPv4Address]:
    """Addresses that nobody sends to."""
    return [_OTHERS + 2 * number for number in range(count)]


def _closed(before: Sequence[str], target: str) -> list[dict[str, Any]]:
    return [*(_rule("Allow", one) for one in (*before, target)), _rule("Deny", "0.0.0.0/0")]


def _rule(kind: str, target: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    selector = "cidrSelector" if "/" in target else "dnsName"
    return {"type": kind, "to": {selector: target}, **more}
