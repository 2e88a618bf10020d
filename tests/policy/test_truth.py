"""The kernel's verdict on a packet is what walking the rules says, for any policy and any destination."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni_macvlan_egress.decide.egress import Surroundings, segments, verdict
from cni_macvlan_egress.decide.enforced import Applied, Enforced, rebuilt
from cni_macvlan_egress.decide.enforcement import compile_policy
from cni_macvlan_egress.decide.interfaces import MainInterface
from cni_macvlan_egress.model.policy import Answer, Policy, PolicyRule, Port

from .bench import POD4, POD6, POD_MAC, PolicyBench, Probe, network

SPARED = (network("10.0.0.0/8"), network("fd00::/16"))
NAMES = ("one.example", "two.example", "none.example")
# A small world, so that rules meet: a few networks inside each other, and addresses at their edges.
ADDRESSES4 = [f"203.0.113.{last}" for last in (0, 1, 2, 3, 4, 7, 8, 127, 128, 255)] + [
    "198.51.100.1",
    "10.1.2.3",
]
ADDRESSES6 = [f"2001:db8::{last}" for last in ("0", "1", "2", "3", "4", "7", "8", "ffff")] + [
    "2001:db9::1",
    "fd00::5",
]
NETWORKS = [
    "0.0.0.0/0",
    "::/0",
    *(f"{address}/{length}" for address in ADDRESSES4 for length in (24, 25, 29, 30, 31, 32)),
    *(f"{address}/{length}" for address in ADDRESSES6 for length in (32, 64, 112, 125, 126, 127, 128)),
]  # fmt: skip
PORTS = (53, 80, 443)
PROTOCOLS = {"132": "sctp"}

ports = st.lists(
    st.builds(Port, st.sampled_from(["tcp", "udp", "sctp"]), st.sampled_from(PORTS)), max_size=3, unique=True
).map(tuple)
targets = st.one_of(
    st.sampled_from(NETWORKS).map(lambda one: {"network": network(one)}),
    st.sampled_from((*NAMES, "*.example")).map(lambda one: {"name": one}),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    wanted = draw(st.lists(st.tuples(st.booleans(), targets, ports), max_size=12))
    rules = tuple(
        PolicyRule(number, allow, ports=opened, **target)
        for number, (allow, target, opened) in enumerate(wanted, 1)
    )
    return Policy("shop", "test", rules)


answers = st.fixed_dictionaries(
    {
        name: st.lists(st.sampled_from(ADDRESSES4 + ADDRESSES6), max_size=4, unique=True).map(
            lambda found: Answer(tuple(sorted(found)))
        )
        for name in NAMES[:2]
    }
)
PROBES = [
    *(Probe(address, protocol, port) for address in ADDRESSES4 + ADDRESSES6 for protocol, port in (
        ("tcp", 80), ("tcp", 22), ("udp", 53), ("udp", 80), ("icmp", 0), ("132", 443), ("47", 80),
    )),
]  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Iterator[PolicyBench]:
    found = PolicyBench()
    try:
        yield found
    finally:
        found.close()


def enforced_by(policy: Policy, surroundings: Surroundings) -> tuple[Enforced, dict]:
    _, compiled = compile_policy(policy, surroundings, log=True)
    main = MainInterface("container@eth0", "shop", "veth0", "host", POD_MAC, (POD4, POD6))
    applied = Applied(compiled.generation, policy.title, objects=compiled.objects)
    return Enforced({"shop": applied}, {main.key: main}), {"shop": compiled}


def reference(policy: Policy, surroundings: Surroundings, probe: Probe) -> bool:
    protocol = PROTOCOLS.get(probe.protocol, probe.protocol)
    return verdict(
        policy, surroundings, ipaddress.ip_address(probe.destination), protocol, probe.port or None
    ).allowed


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policies(), answers)
def test_kernel_agrees_with_the_reference(
    bench: PolicyBench, policy: Policy, names: dict[str, Answer]
) -> None:
    surroundings = Surroundings(SPARED, names)
    enforced, compiled = enforced_by(policy, surroundings)
    commands = rebuilt(enforced, compiled).text
    bench.install(commands)
    expected = {probe: reference(policy, surroundings, probe) for probe in PROBES}
    found = dict(zip(PROBES, bench.passing(PROBES), strict=True))
    assert found == expected


@settings(max_examples=300, deadline=None)
@given(policies(), answers)
def test_segments_say_what_the_rules_say(policy: Policy, names: dict[str, Answer]) -> None:
    surroundings = Surroundings(SPARED, names)
    for family, addresses in ((4, ADDRESSES4), (6, ADDRESSES6)):
        found = segments(policy, surroundings, family)
        assert all(one.first <= one.last for one in found)
        assert all(one.last < other.first for one, other in pairwise(found))
        for address in map(ipaddress.ip_address, addresses):
            mine = [one for one in found if one.first <= int(address) <= one.last]
            assert len(mine) <= 1
            for protocol, port in (("tcp", 80), ("udp", 53), ("icmp", None)):
                decided = next(
                    (
                        rule.allow
                        for rule in (mine[0].path if mine else ())
                        if not rule.ports
                        or any((one.protocol, one.port) == (protocol, port) for one in rule.ports)
                    ),
                    True,
                )
                assert decided == verdict(policy, surroundings, address, protocol, port).allowed


@pytest.mark.parametrize("family", [4, 6])
def test_broken_policy_lets_only_the_cluster_through(bench: PolicyBench, family: int) -> None:
    policy = Policy("shop", "test", broken="two policies")
    enforced, compiled = enforced_by(policy, Surroundings(SPARED, {}))
    bench.install(rebuilt(enforced, compiled).text)
    addresses = ADDRESSES4 if family == 4 else ADDRESSES6
    probes = [Probe(address, "tcp", 80) for address in addresses]
    inside = [any(ipaddress.ip_address(one) in spared for spared in SPARED) for one in addresses]
    assert bench.passing(probes) == inside
