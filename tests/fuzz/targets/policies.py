"""A file of egress policies, read both as YAML and as JSON, and what the kernel would be told of it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from random import Random

from cni_macvlan_egress.decide.egress import Surroundings, describe, names
from cni_macvlan_egress.decide.enforcement import compile_policy, prepare_namespace, renew_namespace
from cni_macvlan_egress.model.policy import Answer, Policy
from cni_macvlan_egress.sources.policy_directory import DirectoryReading, read_paths

from .. import enclosure
from ..mutations.documents import Vocabulary, changed_file, choice, listed
from ..target import Target
from . import terms

_KINDS = ("EgressNetworkPolicy", "EgressFirewall")
_VERSIONS = ("network.openshift.io/v1", "k8s.ovn.org/v1")
_CIDR = choice(
    terms.address, "10.0.0.0/8", "0.0.0.0/0", "0.0.0.0/32", "::/0", "203.0.113.0/24", "2001:db8::/32"
)
_PORT = choice(
    {"protocol": "TCP", "port": 443},
    {"protocol": "udp", "port": 0},
    {"port": 65536},
    {"protocol": "SCTP", "port": 1},
)


def _to(random: Random) -> object:
    maker = choice("cidrSelector", "cidrSelector", "dnsName", "nodeSelector")
    values = {
        "cidrSelector": _CIDR,
        "dnsName": terms.name,
        "nodeSelector": choice({}, {"matchLabels": {"a": "b"}}),
    }
    keys = {str(maker(random)) for _ in range(random.choice((1, 1, 1, 2)))}
    return {key: values[key](random) for key in sorted(keys)}


def _rule(random: Random) -> object:
    found: dict[str, object] = {"type": random.choice(("Allow", "Deny", "deny")), "to": _to(random)}
    if random.random() < 0.4:
        found["ports"] = listed(_PORT)(random)
    return found


VOCABULARY = Vocabulary(
    keys=(
        "apiVersion", "kind", "metadata", "name", "namespace", "spec", "egress", "type", "to", "cidrSelector",
        "dnsName",
        "nodeSelector", "ports", "protocol", "port", "items", "status", "matchLabels", "labels", "managedFields",
    ),
    values=(*terms.ADDRESSES, *terms.NAMES, *terms.PODS, *_KINDS, *_VERSIONS, "List", "Allow", "Deny", "TCP",
    "default"),
    makers={
        "apiVersion": choice(*_VERSIONS, "v1"),
        "kind": choice(*_KINDS, "List", "EgressFirewallList", "Pod"),
        "namespace": choice(terms.pod, 123, True, "shop", "shop"),
        "name": choice("default", terms.pod),
        "egress": listed(_rule, 6),
        "to": _to,
        "cidrSelector": _CIDR,
        "dnsName": terms.name,
        "type": choice("Allow", "Deny", "allow"),
        "ports": listed(_PORT),
        "protocol": choice("TCP", "UDP", "SCTP", "tcp"),
        "port": choice(1, 443, 65535, 65536, 0, "443"),
        "metadata": choice({"name": "default", "namespace": "shop"}, {"name": "a", "namespace": "a"}, None),
    },
)  # fmt: skip
_DICTIONARY = (
    *terms.ADDRESSES, *terms.NAMES, *VOCABULARY.keys, *_KINDS, *_VERSIONS, "---", "...", "- ", ": ", "&a", "*a",
    "!!str", "|",
    ">", "<<", "{", "}", "[", "]", "? ", "%YAML 1.2", "null", "~", "yes", "0o17", "2001-01-01", "#", "\t",
)  # fmt: skip
# Every name leads somewhere, and some into the cluster.
_SURROUNDINGS = Surroundings(
    (ip_network("10.244.0.0/16"), ip_network("fd00:244::/32")),
    {name.rstrip(".").lower(): Answer(("10.244.0.9", "203.0.113.25", "2001:db8::1")) for name in terms.NAMES},
)


def examine(data: bytes, _seen: Callable[[], list[str]]) -> None:
    as_yaml, as_json = _read(data, "yaml"), _read(data, "json")
    for reading in (as_yaml, as_json):
        assert all(one.isprintable() for one in reading.problems), reading.problems
        for namespace, policy in reading.policies.items():
            assert namespace == policy.namespace
            enforce(policy)
    for namespace, policy in as_json.policies.items():
        other = as_yaml.policies.get(namespace)
        # Every JSON text is YAML; what both take means the same.
        if not policy.broken and other is not None and not other.broken:
            assert policy.rules == other.rules


def _read(data: bytes, suffix: str) -> DirectoryReading:
    path = enclosure.ROOT / f"policy.{suffix}"
    path.write_bytes(data)
    return read_paths([str(path)])


def enforce(policy: Policy) -> None:
    """Turn a policy into commands."""
    assert policy.broken.isprintable(), ascii(policy.broken)
    assert policy.title.isprintable(), ascii(policy.title)
    assert not (policy.broken and policy.rules), policy
    names([policy])
    for rule in policy.rules:
        assert bool(rule.name) != (rule.network is not None), rule
        assert describe(rule).isprintable()
    checked, compiled = compile_policy(policy, _SURROUNDINGS, log=True)
    for command in (*compiled.commands, *compiled.fixed):
        assert command.isprintable(), ascii(command)
    assert prepare_namespace(compiled)
    assert "drop" in renew_namespace(compiled) or not (
        checked.broken or any(not one.allow for one in checked.rules)
    )


def mutate(data: bytes, random: Random) -> bytes:
    return changed_file(data, random, VOCABULARY, _DICTIONARY)


TARGET = Target("policies", examine, mutate, packages=("yaml",), writes=True)
