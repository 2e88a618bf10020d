"""What an egress policy says: of one packet by walking its rules, and of the whole address space at once.

The first rule that matches decides, in the order in which the rules are written; without one the packet may pass.
verdict() is that sentence and nothing more. segments() says the same as a list of address ranges that do not overlap,
which is what a kernel can look up in the same time for one rule and for ten thousand; tests hold one against the other.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..model.policy import Answer, Network, Policy, PolicyRule
from ..protocol.errors import POLICY_UNUSABLE, CniError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Rules with ports that hold for the same addresses are looked up together; nested deeply enough they would fill the
# kernel's memory.
STEPS_MAX = 200_000
_LAST = {4: (1 << 32) - 1, 6: (1 << 128) - 1}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every policy of a node has in common.

    Attributes:
        spared: what no rule can deny: the cluster's own networks and the node's addresses.
        answers: the addresses of DNS names.
    """

    spared: tuple[Network, ...] = ()
    answers: Mapping[str, Answer] | None = None

    def addresses(self, name: str) -> tuple[str, ...]:
        """Those of a name, none if it could not be resolved yet."""
        answer = (self.answers or {}).get(name)
        return answer.addresses if answer else ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a packet.

    Attributes:
        rule: the one that decided; None if none did.
        why: a sentence for people.
    """

    allowed: bool
    rule: PolicyRule | None
    why: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of addresses in which the same rules matter.

    Attributes:
        first, last: addresses as numbers.
        path: the rules in their order, up to the first one that is about all ports; empty where the addresses are
            spared.
    """

    first: int
    last: int
    path: tuple[PolicyRule, ...]


def verdict(
    policy: Policy,
    surroundings: Surroundings,
    destination: Address,
    protocol: str = "",
    port: int | None = None,
) -> Verdict:
    """Judge one packet by walking the rules.

    Args:
        protocol: `tcp`, `udp`, `sctp` or any other; rules with ports are about the three only.
        port: the destination port.
    """
    for network in surroundings.spared:
        if destination in network:
            return Verdict(
                True, None, f"{network} belongs to the cluster or the node, which no policy blocks"
            )
    if policy.broken:
        return Verdict(
            False, None, f"the policy cannot be enforced, so that nothing may pass: {policy.broken}"
        )
    for rule in policy.rules:
        if not _covers(rule, surroundings, destination):
            continue
        if rule.ports and not any(one.protocol == protocol and one.port == port for one in rule.ports):
            continue
        return Verdict(rule.allow, rule, f"rule {rule.number}: {describe(rule)}")
    return Verdict(True, None, "no rule matches, and what no rule matches may pass")


def segments(policy: Policy, surroundings: Surroundings, family: int) -> list[Segment]:
    """The address space of a family in ascending ranges; what is in none of them may pass.

    Raises:
        CniError: POLICY_UNUSABLE if ports are nested so deeply that the kernel cannot hold them.
    """
    rules: list[PolicyRule | None] = [None]
    spans = [(_span(one), 0) for one in surroundings.spared if one.version == family]
    if policy.broken:
        rules.append(PolicyRule(0, allow=False))
        spans.append(((0, _LAST[family]), 1))
    else:
        for place, rule in enumerate(policy.rules, 1):
            rules.append(rule)
            spans += [(_span(one), place) for one in _networks(rule, surroundings) if one.version == family]
    return _sweep(spans, rules, policy)


def paths(found: Iterable[Segment]) -> list[tuple[PolicyRule, ...]]:
    """The different paths with ports, each once, in the order of the addresses."""
    return list(dict.fromkeys(one.path for one in found if one.path and one.path[0].ports))


def names(policies: Iterable[Policy]) -> set[str]:
    """Every DNS name that can be resolved."""
    return {
        rule.name
        for policy in policies
        if not policy.broken
        for rule in policy.rules
        if rule.name and not rule.name.startswith("*.")
    }


def describe(rule: PolicyRule) -> str:
    """A rule as its author would say it."""
    target = rule.name or str(rule.network)
    ports = ", ".join(f"{one.protocol} {one.port}" for one in rule.ports)
    return f"{'Allow' if rule.allow else 'Deny'} {target}{f' ({ports})' if ports else ''}"


def _covers(rule: PolicyRule, surroundings: Surroundings, destination: Address) -> bool:
    if rule.network is not None:
        return destination in rule.network
    return any(ipaddress.ip_address(one) == destination for one in surroundings.addresses(rule.name))


def _networks(rule: PolicyRule, surroundings: Surroundings) -> Iterable[Network]:
    if rule.network is not None:
        return (rule.network,)
    return (ipaddress.ip_network(one) for one in surroundings.addresses(rule.name))


def _span(network: Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _sweep(
    spans: Sequence[tuple[tuple[int, int], int]], rules: Sequence[PolicyRule | None], policy: Policy
) -> list[Segment]:
    starts: dict[int, list[int]] = {}
    ends: dict[int, list[int]] = {}
    for (first, last), place in spans:
        starts.setdefault(first, []).append(place)
        ends.setdefault(last + 1, []).append(place)
    active: list[int] = []
    found: list[Segment] = []
    seen: set[tuple[PolicyRule, ...]] = set()
    steps = 0
    edges = sorted(starts.keys() | ends.keys())
    for edge, following in pairwise(edges):
        for place in ends.get(edge, ()):
            del active[bisect_left(active, place)]
        for place in starts.get(edge, ()):
            insort(active, place)
        if not active:
            continue
        path = _path(active, rules)
        before = found[-1] if found else None
        if before is not None and before.last == edge - 1 and before.path == path:
            found[-1] = Segment(before.first, following - 1, path)
        else:
            found.append(Segment(edge, following - 1, path))
        if path and path[0].ports and path not in seen:
            seen.add(path)
            steps += sum(max(1, len(rule.ports)) for rule in path)
            if steps > STEPS_MAX:
                raise CniError(
                    POLICY_UNUSABLE,
                    f"{policy.title}: its rules with ports overlap in more than {STEPS_MAX} combinations; let the "
                    "networks overlap less",
                )
    return found


def _path(active: Sequence[int], rules: Sequence[PolicyRule | None]) -> tuple[PolicyRule, ...]:
    path = []
    for place in active:
        rule = rules[place]
        if rule is None:  # spared: it comes before every rule
            return ()
        path.append(rule)
        if not rule.ports:
            break
    return tuple(path)
