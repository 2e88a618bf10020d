"""What is asked for while calls are killed or fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab import ASSIGN, Node, Pod, Request, source
from lab.network import OUTSIDE4, OUTSIDE6
from policy.documents import Policies, allow, deny

DEL, ADD, GC, GONE = "DEL", "ADD again", "GC", "pod gone, GC"
WAYS_OUT = {"ADD": (DEL, ADD, GC, GONE), "DEL": (DEL, GC, GONE), "GC": (GC, DEL)}
NAME = "db.example.com"
_QUICK = {"conflictTimeoutMs": 20}
_LINES = f"80 tcp {OUTSIDE4} 8080\n8000-8010 udp {OUTSIDE6}\n443 tcp {NAME}\n{OUTSIDE4},203.0.113.26"
_EVERYTHING = source(
    "192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1", routes="default", destination=_LINES
)
_OTHER = source("192.168.12.98/24", "192.168.12.1", destination=OUTSIDE4)


@dataclass(frozen=True)
class Scenario:
    """One kind of attachment.

    Attributes:
        name: for the table.
        what: the same in words.
        request: asks for it.
        policy: whether the namespace of its pod has an egress policy.
        collected: whether there is GC; Debian's host-local is older than that verb.
    """

    name: str
    what: str
    request: Callable[[Node, Policies, Pod], Request]
    policy: bool = False
    collected: bool = True

    @property
    def ways_out(self) -> dict[str, tuple[str, ...]]:
        """What can follow a killed call, by its verb."""
        return {
            verb: tuple(way for way in ways if self.collected or "GC" not in way)
            for verb, ways in WAYS_OUT.items()
            if self.collected or verb != "GC"
        }

    def prepare(self, policies: Policies) -> None:
        """Write the policy."""
        if self.policy:
            policies.write(deny("203.0.113.27/32"), allow("203.0.113.25/32", ("TCP", 8080)))


def other(node: Node, policies: Policies, pod: Pod) -> Request:
    """An attachment that stays while others come and go."""
    return node.request(pod, _OTHER, conf={**_QUICK, **policies.conf})


def _bare(node: Node, _policies: Policies, pod: Pod) -> Request:
    return node.request(pod, {ASSIGN: "true"}, conf=_QUICK)


def _everything(node: Node, policies: Policies, pod: Pod) -> Request:
    return node.request(pod, _EVERYTHING, conf={**_QUICK, **policies.conf})


def _leased(node: Node, policies: Policies, pod: Pod) -> Request:
    pool = {"subnet": "192.168.12.0/24", "rangeStart": "192.168.12.200", "gateway": "192.168.12.1"}
    ipam = {"type": "host-local", "ranges": [[pool]], "dataDir": f"{node.directory}/leases"}
    conf = {
        "ipam": ipam,
        "cniVersion": "1.0.0",
        **_QUICK,
        "clusterNetworks": policies.conf["clusterNetworks"],
    }
    return node.request(pod, {ASSIGN: "true"}, conf=conf)


def _held(node: Node, policies: Policies, pod: Pod) -> Request:
    return node.request(pod, {}, conf=policies.conf)


SCENARIOS = (
    Scenario("attach", "an interface without an address", _bare),
    Scenario(
        "redirect",
        "addresses of both families, four lines with a name, `routes: default`, a policy",
        _everything,
        policy=True,
    ),
    Scenario("lease", "an address from host-local", _leased, collected=False),
    Scenario("policy", "a pod without annotations that is held to a policy", _held, policy=True),
)
