"""The node's nftables table of egress policies, as commands for nft -f.

From where a pod's interfaces are held (interfaces.py, guard.py) a packet comes here, and goes through one lookup of its
destination, whatever the number of rules and pods.

What a namespace's policy says stands in maps and chains whose names bear a generation: a change makes new ones, turns
the few fixed chains to them and removes the old ones, each in a transaction of its own.
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..model.policy import Policy, PolicyRule
from ..protocol.errors import INVALID_CONFIGURATION, CniError
from .egress import Segment, Surroundings, paths, segments

TABLE = "netdev macvlan_egress"
# Comments of the elements and rules that count what is no rule's doing.
SPARED, BROKEN, NONE = "spared", "broken", "none"
DENIED, NODE, INBOUND = "denied", "node", "inbound"
FIXED = ("ip4", "ip6", "denied", "in")
_INBOUND_TIMEOUT = "3h"  # longer than the two hours after which TCP's own keepalive speaks
KINDS = {4: ("ip", "ipv4_addr", ipaddress.IPv4Address), 6: ("ip6", "ipv6_addr", ipaddress.IPv6Address)}
_ON_LINK = "{ fe80::/10, ff02::/16 }"
_ND = "{ 133, 135, 136, 131, 132, 143 }"  # solicitations, advertisements, and reports of multicast listeners


@dataclass(frozen=True, slots=True)
class Compiled:
    """A namespace's policy for the kernel.

    Attributes:
        generation: differs if anything of the following does.
        objects: maps, sets and chains of this generation, in the order in which they can be deleted.
        commands: that make them.
        fixed: commands that fill the fixed chains.
    """

    namespace: str
    generation: str
    objects: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    fixed: tuple[str, ...]


def compile_policy(policy: Policy, surroundings: Surroundings, *, log: bool) -> tuple[Policy, Compiled]:
    """Turn a policy into commands; also returns it, declared broken if it is too much for the kernel."""
    try:
        found = {family: segments(policy, surroundings, family) for family in KINDS}
    except CniError as error:
        policy = replace(policy, rules=(), broken=error.msg)
        found = {family: segments(policy, surroundings, family) for family in KINDS}
    draft = _Draft(policy, found, "")
    body = "\n".join((*draft.commands(), *_fixed_rules(draft, log=log)))
    generation = f"{zlib.crc32(body.encode()):08x}"
    final = _Draft(policy, found, generation)
    return policy, Compiled(
        policy.namespace,
        generation,
        tuple(final.objects()),
        tuple(final.commands()),
        tuple(_fixed_rules(final, log=log)),
    )


def open_table() -> str:
    """The table with what all namespaces share, made if it is not there."""
    return "\n".join(
        (
            f"add table {TABLE}",
            *(
                f"add set {TABLE} inbound{family} {{ type {kind} . inet_service . {kind} . inet_service; size 65536; "
                f"flags dynamic,timeout; timeout {_INBOUND_TIMEOUT}; }}"
                for family, (_, kind, _) in KINDS.items()
            ),
            f"add chain {TABLE} options",
            f"flush chain {TABLE} options",
            # IGMP's router alert (RFC 2113) and nothing else: a source route leads to where nobody has judged. Not by
            # `ip option`, which looks where a frame begins on the way out through a NIC, and knows no begun route.
            f"add rule {TABLE} options ip hdrlength 6 @nh,160,32 0x94040000 return",
            f"add rule {TABLE} options counter drop",
            "",
        )
    )


def fresh_table() -> str:
    """An empty table in the place of whatever is there."""
    return f"add table {TABLE}\ndelete table {TABLE}\n{open_table()}"


def close_table() -> str:
    """No table at all."""
    return f"add table {TABLE}\ndelete table {TABLE}\n"


def prepare_namespace(compiled: Compiled) -> str:
    """Make a policy's maps, to which nothing leads yet."""
    lines = [f"add chain {TABLE} {fixed(compiled.namespace, one)}" for one in FIXED]
    return "\n".join((*lines, *compiled.commands, ""))


def close_namespace(namespace: str) -> str:
    """Let nothing pass."""
    return "".join(f"add rule {TABLE} {fixed(namespace, f'ip{family}')} drop\n" for family in KINDS)


def renew_namespace(compiled: Compiled) -> str:
    """Turn the fixed chains to a policy whose maps are there, and fill the chains that those lead to."""
    name = compiled.namespace
    lines = [f"add chain {TABLE} {fixed(name, one)}" for one in FIXED]
    lines += [one for one in compiled.commands if not one.startswith(("add map", "add set"))]
    lines += [f"flush chain {TABLE} {fixed(name, one)}" for one in FIXED]
    return "\n".join((*lines, *compiled.fixed, ""))


def drop_objects(old: Iterable[tuple[str, str]]) -> str:
    """Remove an older generation's objects."""
    return "".join(f"delete {kind} {TABLE} {one}\n" for kind, one in old)


def drop_namespace(namespace: str, old: Iterable[tuple[str, str]]) -> str:
    """Remove a policy to which no pod's chain leads any more."""
    lines = [f"flush chain {TABLE} {fixed(namespace, one)}" for one in FIXED]
    lines += [f"delete {kind} {TABLE} {one}" for kind, one in old]
    # The one that others lead to goes last.
    lines += [f"delete chain {TABLE} {fixed(namespace, one)}" for one in FIXED]
    return "\n".join((*lines, ""))


class _Draft:
    """The maps and chains of one generation."""

    def __init__(self, policy: Policy, found: dict[int, list[Segment]], generation: str) -> None:
        self.policy = policy
        self.found = found
        self._prefix = f"g{generation}-{policy.namespace}"
        self._paths = {
            family: {path: f"{self._prefix}-ports{family}-{number}" for number, path in enumerate(paths(one))}
            for family, one in found.items()
        }

    def addresses(self, family: int) -> str:
        """The name of the map from destination to verdict."""
        return f"{self._prefix}-to{family}"

    def deniable(self, family: int) -> str:
        """The name of the set of addresses that are denied, be it for some ports only."""
        return f"{self._prefix}-deny{family}"

    def objects(self) -> Iterator[tuple[str, str]]:
        """In the order in which they can be deleted: first what leads to others."""
        for family, found in self.found.items():
            if found:
                yield "map", self.addresses(family)
            if any(map(_denies, found)):
                yield "set", self.deniable(family)
            for name in self._paths[family].values():
                yield "chain", name
                yield "map", name

    def commands(self) -> Iterator[str]:
        """What makes them, each after what it leads to."""
        for family, found in self.found.items():
            for path, name in self._paths[family].items():
                yield from self._ports(path, name)
            kind = KINDS[family][1]
            if found:
                elements = (self._element(family, one) for one in found)
                yield (
                    f"add map {TABLE} {self.addresses(family)} {{ type {kind} : verdict; flags interval; counter; "
                    f"elements = {{ {', '.join(elements)} }}; }}"
                )
            deniable = [_range(family, one.first, one.last) for one in _joined(filter(_denies, found))]
            if deniable:
                yield (
                    f"add set {TABLE} {self.deniable(family)} {{ type {kind}; flags interval; "
                    f"elements = {{ {', '.join(deniable)} }}; }}"
                )

    def _element(self, family: int, segment: Segment) -> str:
        where = _range(family, segment.first, segment.last)
        if not segment.path:
            return f"{where} counter comment {quoted(SPARED)} : accept"
        first = segment.path[0]
        if first.ports:
            return f"{where} counter : goto {self._paths[family][segment.path]}"
        return f"{where} counter comment {quoted(self._mark(first))} : {self._verdict(first)}"

    def _ports(self, path: tuple[PolicyRule, ...], name: str) -> Iterator[str]:
        last = path[-1] if not path[-1].ports else None
        ported = path[:-1] if last else path
        first_rules: dict[tuple[str, int], PolicyRule] = {}
        for rule in ported:
            for one in rule.ports:
                first_rules.setdefault((one.protocol, one.port), rule)
        elements = (
            f"{protocol} . {port} counter comment {quoted(self._mark(rule))} : {self._verdict(rule)}"
            for (protocol, port), rule in first_rules.items()
        )
        yield (
            f"add map {TABLE} {name} {{ type inet_proto . inet_service : verdict; counter; "
            f"elements = {{ {', '.join(elements)} }}; }}"
        )
        yield f"add chain {TABLE} {name}"
        yield f"flush chain {TABLE} {name}"
        if any(rule.allow for rule in first_rules.values()):
            # Later fragments have no ports. Without the first one, which is judged by them, they come to nothing.
            yield f"add rule {TABLE} {name} ip frag-off & 0x1fff != 0 accept"
            yield f"add rule {TABLE} {name} frag frag-off != 0 accept"
        yield f"add rule {TABLE} {name} meta l4proto . th dport vmap @{name}"
        if last:
            yield f"add rule {TABLE} {name} counter {self._verdict(last)} comment {quoted(self._mark(last))}"
        else:
            yield f"add rule {TABLE} {name} counter accept comment {quoted(NONE)}"

    def _verdict(self, rule: PolicyRule) -> str:
        return "accept" if rule.allow else f"goto {fixed(self.policy.namespace, 'denied')}"

    def _mark(self, rule: PolicyRule) -> str:
        return str(rule.number) if rule.number else BROKEN


def _fixed_rules(draft: _Draft, *, log: bool) -> Iterator[str]:
    namespace = draft.policy.namespace
    for family, (word, _, _) in KINDS.items():
        chain = f"add rule {TABLE} {fixed(namespace, f'ip{family}')}"
        if family == 4:
            yield f"{chain} ip hdrlength != 5 jump options"
        else:
            # What keeps neighbours neighbours; no router takes it further (RFC 4861, section 7.1).
            yield f"{chain} ip6 daddr {_ON_LINK} icmpv6 type {_ND} ip6 hoplimit {{ 1, 255 }} accept"
            yield f"{chain} exthdr rt exists counter drop"
        if draft.found[family]:
            yield f"{chain} {word} daddr vmap @{draft.addresses(family)}"
    yield from _denied(namespace, log=log)
    for family, (word, _, _) in KINDS.items():
        if any(map(_denies, draft.found[family])):
            yield (
                f"add rule {TABLE} {fixed(namespace, 'in')} {word} saddr @{draft.deniable(family)} "
                f"tcp flags & (syn|ack) == syn update @inbound{family} "
                f"{{ {word} saddr . tcp sport . {word} daddr . tcp dport timeout {_INBOUND_TIMEOUT} }}"
            )


def _denied(namespace: str, *, log: bool) -> Iterator[str]:
    chain = f"add rule {TABLE} {fixed(namespace, 'denied')}"
    yield f"{chain} fib daddr type local counter accept comment {quoted(NODE)}"
    for family, (word, _, _) in KINDS.items():
        # Answers to connections that were opened from outside: not what a policy of egress is about.
        flow = f"{word} daddr . tcp dport . {word} saddr . tcp sport"
        yield (
            f"{chain} {flow} @inbound{family} tcp flags & (syn|ack) != syn update @inbound{family} "
            f"{{ {flow} timeout {_INBOUND_TIMEOUT} }} counter accept comment {quoted(INBOUND)}"
        )
    if log:
        prefix = quoted(f"macvlan-egress denied {namespace}: ")
        yield f"{chain} limit rate 10/second burst 20 packets log prefix {prefix}"
    yield f"{chain} counter drop comment {quoted(DENIED)}"


def _denies(segment: Segment) -> bool:
    return any(not rule.allow for rule in segment.path)


def _joined(found: Iterable[Segment]) -> Iterator[Segment]:
    before: Segment | None = None
    for one in found:
        if before is not None and before.last == one.first - 1:
            before = Segment(before.first, one.last, ())
            continue
        if before is not None:
            yield before
        before = one
    if before is not None:
        yield before


def _range(family: int, first: int, last: int) -> str:
    make = KINDS[family][2]
    return str(make(first)) if first == last else f"{make(first)}-{make(last)}"


def fixed(namespace: str, which: str) -> str:
    """The name of one of a namespace's chains that stay while its policy changes."""
    return f"ns-{namespace}-{which}"


def quoted(text: str) -> str:
    """A string of nft's.

    Raises:
        CniError: INVALID_CONFIGURATION for what it cannot write.
    """
    if '"' in text or "*" in text or not text.isprintable():
        raise CniError(INVALID_CONFIGURATION, f"{text!r} cannot be written in an nftables rule")
    return f'"{text}"'
