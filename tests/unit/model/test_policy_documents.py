"""Egress policy documents: what both kinds mean, what is wrong with bad ones, and that no bad one opens anything."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cni_macvlan_egress.model.policy import Policy, PolicyRule, Port
from cni_macvlan_egress.model.policy_documents import gather, items, namespaces_named, policies, policy
from cni_macvlan_egress.protocol.errors import POLICY_UNUSABLE, CniError

from .. import json_values
from ..refusals import refused

ORIGIN = "/etc/policies.d/a.yaml"
ANYTHING: dict[str, Any] = {"cidrSelector": "0.0.0.0/0"}
LONG_LABEL, LONG_NAME = "a" * 63, ".".join(["a" * 63] * 3 + ["b" * 61])


def rule(to: object = ANYTHING, kind: object = "Allow", **more: object) -> dict[str, Any]:
    return {"type": kind, "to": to, **more}


def enp(*egress: object, **changes: object) -> dict[str, Any]:
    return {
        "apiVersion": "network.openshift.io/v1",
        "kind": "EgressNetworkPolicy",
        "metadata": {"name": "policy", "namespace": "shop"},
        "spec": {"egress": list(egress)},
        **changes,
    }


def firewall(*egress: object, **changes: object) -> dict[str, Any]:
    return {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"egress": list(egress)},
        **changes,
    }


def rules(document: dict[str, Any]) -> tuple[PolicyRule, ...]:
    found = policy(document, ORIGIN)
    assert found.broken == ""
    return found.rules


def broken(document: object) -> str:
    """Why a policy is broken; its namespace is closed all the same."""
    found = policy(document, ORIGIN)
    assert (found.namespace, found.rules) == ("shop", ())
    assert found.broken and "\n" not in found.broken
    return found.broken


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


# -- what documents mean


def test_network_policy_is_its_rules_in_their_order() -> None:
    found = policy(
        enp(
            rule({"dnsName": "API.Bank.Example."}),
            rule({"cidrSelector": "2001:db8::/32"}),
            rule(kind="Deny"),
        ),
        ORIGIN,
    )
    assert found == Policy(
        "shop",
        "EgressNetworkPolicy policy in /etc/policies.d/a.yaml",
        (
            PolicyRule(1, True, name="api.bank.example"),
            PolicyRule(2, True, network("2001:db8::/32")),
            PolicyRule(3, False, network("0.0.0.0/0")),
        ),
    )


def test_firewall_has_ports_each_once() -> None:
    ports = [("TCP", 443), ("UDP", 1), ("SCTP", 65535), ("TCP", 443)]
    given_ports = [{"protocol": protocol, "port": port} for protocol, port in ports]
    (found,) = rules(firewall(rule({"cidrSelector": "203.0.113.0/24"}, "Deny", ports=given_ports)))
    expected = (Port("tcp", 443), Port("udp", 1), Port("sctp", 65535))
    assert found == PolicyRule(1, False, network("203.0.113.0/24"), ports=expected)


def test_no_ports_and_no_rules_are_what_they_are() -> None:
    assert rules(firewall(rule(ports=[])))[0].ports == ()
    assert rules(firewall()) == rules(enp()) == ()


def test_one_host_that_openshift_reads_as_everything() -> None:
    everything = {"cidrSelector": "0.0.0.0/32"}
    assert rules(enp(rule(everything)))[0].network == network("0.0.0.0/0")
    assert rules(firewall(rule(everything)))[0].network == network("0.0.0.0/32")


@pytest.mark.parametrize("text", ["203.0.113.25/32", "10.0.0.0/8", "::/0", "2001:DB8::1/128", "0.0.0.0/0"])
def test_cidr_is_read(text: str) -> None:
    for document in (enp, firewall):
        assert rules(document(rule({"cidrSelector": text})))[0].network == network(text)


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("example.com", "example.com"),
        ("Example.COM.", "example.com"),
        ("localhost", "localhost"),
        ("1.example", "1.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        (f"{LONG_LABEL}.example", f"{LONG_LABEL}.example"),
        (LONG_NAME, LONG_NAME),
    ],
)
def test_name_is_read(given_name: str, expected: str) -> None:
    assert len(LONG_NAME) == 253
    for document in (enp, firewall):
        assert rules(document(rule({"dnsName": given_name})))[0].name == expected


def test_allowed_wildcard_stays_as_it_is() -> None:
    assert rules(firewall(rule({"dnsName": "*.Bank.example."})))[0].name == "*.bank.example"


def test_metadata_may_hold_anything_and_status_is_ignored() -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    metadata = {"name": "policy", "namespace": "shop", "managedFields": deep, "x": {1: object()}}
    assert rules(enp(rule(), metadata=metadata, status={"messages": deep}))


@pytest.mark.parametrize(("document", "most"), [(enp, 1000), (firewall, 8000)])
def test_policy_has_so_many_rules_and_no_more(document: Any, most: int) -> None:
    assert len(rules(document(*[rule()] * most))) == most
    assert f"spec.egress: a policy of this kind has at most {most} rules, and here are {most + 1}" in broken(
        document(*[rule()] * (most + 1))
    )


# -- what is wrong with others


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("2001:db8::1/32", "did you mean 2001:db8::/32?"),
        ("203.0.113.25", "did you mean 203.0.113.25/32?"),
        ("2001:db8::1", "did you mean 2001:db8::1/128?"),
        ("10.0.0.0/255.0.0.0", "a CIDR is written like"),
        ("10.0.0.0/33", "not a CIDR"),
        (" 10.0.0.0/8", "a CIDR is written like"),
        ("10.0.0.0/8\n", "a CIDR is written like"),
        ("010.0.0.0/8", "not a CIDR"),
        ("fe80::%eth0/64", "a CIDR is written like"),
        ("::ffff:203.0.113.0/120", "write it as an IPv4 CIDR"),
        ("example.com", "a CIDR is written like"),
        ("", "a CIDR is written like"),
        (None, "a CIDR like"),
        (8, "a CIDR like"),
        (["10.0.0.0/8"], "a CIDR like"),
    ],
)
def test_bad_cidr_is_refused(text: object, words: str) -> None:
    for document in (enp, firewall):
        reason = broken(document(rule(), rule({"cidrSelector": text})))
        assert reason.startswith("rule 2: to.cidrSelector: "), reason
        assert words in reason, reason


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("203.0.113.25", "addresses go into cidrSelector"),
        ("203.0.113.0/24", "addresses go into cidrSelector"),
        ("2001:db8::1", "addresses go into cidrSelector"),
        ("-a.example", "not a DNS name"),
        ("a-.example", "not a DNS name"),
        ("a_b.example", "not a DNS name"),
        ("a..example", "not a DNS name"),
        ("a.example..", "not a DNS name"),
        ("a.example\n", "not a DNS name"),
        (f"{LONG_LABEL}a.example", "not a DNS name"),
        (f"{LONG_NAME}c", "at most 253 characters"),
        ("bücher.example", "xn--"),
        ("", "not a DNS name"),
        (".", "not a DNS name"),
        ('a" drop', "not a DNS name"),
        (None, "a DNS name is expected"),
        (True, "a DNS name is expected"),
    ],
)
def test_bad_name_is_refused(name: object, words: str) -> None:
    for document in (enp, firewall):
        reason = broken(document(rule({"dnsName": name})))
        assert reason.startswith("rule 1: to.dnsName: "), reason
        assert words in reason, reason


@pytest.mark.parametrize(
    "name", ["*", "*.", "*.*.example", "a.*.example", "*a.example", "**.example", "*.1.2.3.4"]
)
def test_bad_wildcard_is_refused(name: str) -> None:
    assert broken(firewall(rule({"dnsName": name}))).startswith("rule 1: to.dnsName: ")


def test_wildcard_counts_its_star_among_the_characters() -> None:
    name = f"*.{LONG_NAME[2:]}"
    assert rules(firewall(rule({"dnsName": name})))[0].name == name
    assert "at most 253" in broken(firewall(rule({"dnsName": f"*.{LONG_NAME[1:]}"})))


def test_network_policy_has_no_wildcards() -> None:
    assert "has no wildcards; name each host" in broken(enp(rule({"dnsName": "*.bank.example"})))


def test_what_cannot_be_enforced_closes_the_namespace() -> None:
    wildcard = broken(firewall(rule(), rule({"dnsName": "*.bank.example"}, "Deny")))
    assert wildcard.startswith("rule 2: to.dnsName: '*.bank.example': a wildcard cannot be resolved")
    nodes = broken(firewall(rule({"nodeSelector": {"matchLabels": {"a": "b"}}})))
    assert nodes.startswith("rule 1: to.nodeSelector: the nodes' addresses are not known here")
    assert broken(firewall(rule({"nodeSelector": {}}))) == nodes


@pytest.mark.parametrize("to", [{}, {**ANYTHING, "dnsName": "a.example"}])
def test_destination_is_exactly_one(to: dict[str, Any]) -> None:
    assert broken(enp(rule(to))) == "rule 1: to: exactly one of cidrSelector, dnsName is expected"
    expected = "rule 1: to: exactly one of cidrSelector, dnsName, nodeSelector is expected"
    assert broken(firewall(rule(to))) == expected


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        ([{"protocol": "tcp", "port": 80}], "ports[0].protocol: 'tcp': 'TCP', 'UDP' or 'SCTP' is expected"),
        ([{"protocol": "TCP", "port": 80}, {"protocol": "ICMP", "port": 1}], "ports[1].protocol: 'ICMP'"),
        ([{"protocol": "TCP", "port": 0}], "ports[0].port: 0: a number from 1 to 65535"),
        ([{"protocol": "TCP", "port": 65536}], "ports[0].port: 65536: a number from 1 to 65535"),
        ([{"protocol": "TCP", "port": "80"}], "ports[0].port: '80': a whole number"),
        ([{"protocol": "TCP", "port": 80.0}], "ports[0].port: 80.0: a whole number"),
        ([{"protocol": "TCP", "port": True}], "ports[0].port: True: a whole number"),
        ([{"protocol": "TCP"}], "ports[0].port: this key is required"),
        ([{"port": 80}], "ports[0].protocol: this key is required"),
        ([{"protocol": "TCP", "port": 80, "endPort": 90}], "ports[0]: unknown key 'endPort'; did you mean 'port'"),
        ([80], "ports[0]: 80: an object is expected"),
        ({"protocol": "TCP", "port": 80}, "ports: an object: a list is expected"),
        (None, "ports: null: a list is expected"),
    ],
)  # fmt: skip
def test_bad_port_is_refused(ports: object, words: str) -> None:
    reason = broken(firewall(rule(), rule(), rule(ports=ports)))
    assert reason.startswith("rule 3: "), reason
    assert words in reason, reason


def test_network_policy_has_no_ports_and_no_nodes() -> None:
    assert broken(enp(rule(ports=[]))) == (
        "rule 1: an EgressNetworkPolicy has no ports; write an EgressFirewall"
    )
    assert "has no nodeSelector; write an EgressFirewall" in broken(enp(rule({"nodeSelector": {}})))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (enp(rule(), spec={"egress": [], "ingress": []}), "spec: unknown key 'ingress'; did you mean 'egress'?"),
        (enp({"type": "Allow", "to": ANYTHING, "from": {}}), "rule 1: unknown key 'from'; known are to, type"),
        (enp(rule({"cidr_selector": "10.0.0.0/8"})), "rule 1: to: unknown key 'cidr_selector'; did you mean"),
        (enp(rule({"x\n": "10.0.0.0/8"})), r"rule 1: to: unknown key 'x\n'"),
        (enp(rule(), extra=1), "unknown key 'extra'"),
        (enp(rule(kind="allow")), "rule 1: type: 'allow': 'Allow' or 'Deny' is expected"),
        (enp(rule(kind=None)), "rule 1: type: null: 'Allow' or 'Deny' is expected"),
        (enp({"to": ANYTHING}), "rule 1: type: this key is required"),
        (enp({"type": "Allow"}), "rule 1: to: this key is required"),
        (enp(rule(to="10.0.0.0/8")), "rule 1: to: '10.0.0.0/8': an object is expected"),
        (enp("Deny"), "rule 1: 'Deny': an object is expected"),
        (enp(spec={}), "spec.egress: this key is required"),
        (enp(spec={"egress": None}), "spec.egress: null: a list is expected"),
        (enp(spec={"egress": {}}), "spec.egress: an object: a list is expected"),
        (enp(spec=None), "spec: null: an object is expected"),
        (enp(apiVersion="v1"), "apiVersion: 'v1': 'network.openshift.io/v1' is expected"),
        (firewall(apiVersion="k8s.ovn.org/v2"), "apiVersion: 'k8s.ovn.org/v2': 'k8s.ovn.org/v1' is expected"),
        (enp(kind="EgressNetworkpolicy"), "kind: 'EgressNetworkpolicy': EgressNetworkPolicy or EgressFirewall"),
        (enp(kind="Pod"), "keep other objects elsewhere"),
        (enp(kind=None), "kind: there is none"),
        (enp(kind=["EgressFirewall"]), "kind: a list"),
        (enp(kind="EgressFirewall"), "apiVersion: 'network.openshift.io/v1': 'k8s.ovn.org/v1' is expected (and"),
        (enp(metadata={"namespace": "shop"}), "metadata.name: this key is required"),
        (enp(metadata={"namespace": "shop", "name": "Big"}), "metadata.name: 'Big': small letters"),
        (enp(metadata={"namespace": "shop", "name": 7}), "metadata.name: 7: a string is expected; put it into quotes"),
        (firewall(metadata={"namespace": "shop", "name": "mine"}), "metadata.name: 'mine': an EgressFirewall is named"),
        (enp(rule({"cidrSelector": 1 << 70})), "a number is too large"),
        (enp(rule({"dnsName": "\ud800.example"})), "half of a surrogate pair"),
        (enp(rule({"\ud800": ""})), "half of a surrogate pair"),
        (enp(rule({1: ""})), "a key is a string"),
        (enp(rule({str(number): "" for number in range(65)})), "more than 64 keys"),
        (enp(rule({"dnsName": object()})), "neither YAML nor JSON has such a value"),
    ],
)  # fmt: skip
def test_bad_document_closes_its_namespace_and_says_why(document: dict[str, Any], words: str) -> None:
    assert words in broken(document)


def test_depth_is_bounded_before_anything_is_shown() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert "nested more than 16 deep" in broken(enp(rule(deep)))


def test_trouble_is_told_of_the_first_rule_that_has_it() -> None:
    assert broken(enp(*[{}] * 900)).startswith("rule 1: type: this key is required (and 1 more)")


def test_title_holds_no_name_that_cannot_be_one() -> None:
    found = policy(enp(kind="Po\nd", metadata={"namespace": "shop", "name": "a\nb"}), ORIGIN)
    assert found.title == f"document in {ORIGIN}"


# -- namespaces


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (None, "metadata.namespace: this key is required"),
        ({}, "metadata.namespace: this key is required"),
        ({"namespace": None}, "metadata.namespace: this key is required"),
        ({"namespace": ""}, "metadata.namespace: ''"),
        ({"namespace": "Shop"}, "at most 63 small letters"),
        ({"namespace": "shop\n"}, r"'shop\n'"),
        ({"namespace": "../shop"}, "'../shop'"),
        ({"namespace": "a.b"}, "'a.b'"),
        ({"namespace": '"; drop'}, "small letters"),
        ({"namespace": "a" * 64}, "at most 63"),
        ({"namespace": -5}, "-5: a string is expected"),
        ({"namespace": 1.5}, "1.5: a string is expected"),
        ({"namespace": 1 << 99}, "a huge number: a string is expected"),
        ({"namespace": ["shop"]}, "a list: a string is expected"),
    ],
)
def test_document_of_no_namespace_is_an_error(metadata: object, words: str) -> None:
    with refused(POLICY_UNUSABLE, ORIGIN, words):
        policy(enp(rule(), metadata=metadata), ORIGIN)


@pytest.mark.parametrize("document", [None, [], "x", 1 << 99, [enp()], float("inf")])
def test_what_is_no_object_is_an_error(document: object) -> None:
    with refused(POLICY_UNUSABLE, ORIGIN, "an object with apiVersion, kind, metadata and spec is expected"):
        policies(document, ORIGIN)


@pytest.mark.parametrize(("value", "namespace"), [(123, "123"), (True, "true"), (0, "0")])
def test_namespace_without_its_quotes_is_closed(value: object, namespace: str) -> None:
    found = policy(enp(rule(), metadata={"name": "policy", "namespace": value}), ORIGIN)
    assert found.namespace == namespace
    assert found.broken == f"metadata.namespace: {value}: a string is expected; put it into quotes"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metadata:\n  namespace: shop\n", {"shop"}),
        ("{namespace: shop, name: x}", {"shop"}),
        ('{"namespace": "shop", "namespace" : "bank"}', {"shop", "bank"}),
        ("'namespace': 'shop'", {"shop"}),
        ("namespace:\n    shop", {"shop"}),
        ("namespace: 123", {"123"}),
        ("namespace: !!str &a 'shop'", {"shop"}),
        ("x: &a shop\nnamespace: *a", {"shop"}),
        ("x: &a [shop]", set()),
        (f"namespace: {LONG_LABEL}", {LONG_LABEL}),
        (f"namespace: {LONG_LABEL}a", set()),
        ("namespace: shop.example", set()),
        ("namespace: shop_a", set()),
        ("namespace: Shop", set()),
        ("namespace: shop-", set()),
        ("namespace: ../shop", set()),
        ("namespaces: shop", set()),
        ("subnamespace: shop", set()),
        ("", set()),
    ],
)
def test_namespaces_are_found_in_damaged_text(text: str, expected: set[str]) -> None:
    assert namespaces_named(text) == expected


# -- lists and several documents


def test_list_is_read_item_by_item() -> None:
    other = enp(rule("bad"), metadata={"name": "x", "namespace": "bank"})
    found = policies({"kind": "List", "apiVersion": "v1", "items": [enp(rule()), other]}, ORIGIN)
    assert [(one.namespace, bool(one.broken)) for one in found] == [("shop", False), ("bank", True)]
    assert found[1].title == f"EgressNetworkPolicy x in {ORIGIN}, item 2"
    assert policies({"kind": "List", "items": []}, ORIGIN) == []


def test_items_of_a_list_of_one_kind_need_not_say_their_kind() -> None:
    item = {key: value for key, value in firewall(rule()).items() if key not in ("kind", "apiVersion")}
    (found,) = policies({"kind": "EgressFirewallList", "items": [item]}, ORIGIN)
    assert (found.broken, len(found.rules)) == ("", 1)


def test_item_of_no_namespace_leaves_the_others_readable() -> None:
    found = list(items({"kind": "List", "items": [enp(rule()), 7]}, ORIGIN))
    assert [where for _, where in found] == [f"{ORIGIN}, item 1", f"{ORIGIN}, item 2"]
    with refused(POLICY_UNUSABLE, f"{ORIGIN}, item 2: 7: an object"):
        policy(*found[1])


@pytest.mark.parametrize("listed", [{"kind": "List"}, {"kind": "List", "items": {}}])
def test_list_without_items_is_an_error(listed: dict[str, Any]) -> None:
    for document in (listed, {"kind": "List", "items": [listed]}):
        with refused(POLICY_UNUSABLE, "a List has items"):
            policies(document, ORIGIN)


def test_two_policies_close_their_namespace_and_no_other() -> None:
    shop = policy(enp(rule()), "a.yaml")
    second = policy(firewall(rule()), "the API server")
    bank = policy(enp(rule(), metadata={"name": "b", "namespace": "bank"}), "a.yaml")
    found = gather([shop, bank, second])
    assert found["bank"] == bank
    closed = found["shop"]
    assert closed.rules == ()
    assert closed.title == "EgressNetworkPolicy policy in a.yaml and EgressFirewall default in the API server"
    assert (
        closed.broken == f"namespace shop has 2 policies and may have one: {closed.title}; remove all but one"
    )
    assert gather([closed, shop])["shop"].broken


def test_very_many_policies_of_a_namespace_are_not_all_named() -> None:
    found = gather(policy(enp(), f"{number}.yaml") for number in range(500))["shop"]
    assert "has 500 policies" in found.broken
    assert "2.yaml and 497 more" in found.title
    assert "3.yaml" not in found.title


def test_one_policy_and_none_stay_as_they_are() -> None:
    only = policy(enp(rule("bad")), ORIGIN)
    assert gather([only]) == {"shop": only}
    assert gather([]) == {}


# -- properties

SAFE_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SAFE_NAME = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?")

_texts = st.sampled_from(
    ["shop", "default", "Allow", "Deny", "TCP", "10.0.0.0/8", "10.0.0.1/8", "::/0", "a.example", "*.a.example", "a\n",
     'x"; flush ruleset', "../..", "k8s.ovn.org/v1", "network.openshift.io/v1", "EgressFirewall", "EgressNetworkPolicy"]
) | json_values.any_text  # fmt: skip
_plain = json_values.values | _texts
_ports = st.fixed_dictionaries(
    {}, optional={"protocol": _plain, "port": st.integers(-1, 70000) | _plain, "x": _plain}
)
_to = st.fixed_dictionaries({}, optional={"cidrSelector": _plain, "dnsName": _plain, "nodeSelector": _plain})
_rule = st.fixed_dictionaries(
    {}, optional={"type": _texts, "to": _to | _plain, "ports": st.lists(_ports, max_size=2) | _plain}
)
_good_rule = st.builds(
    rule,
    st.sampled_from(
        [ANYTHING, {"dnsName": "a.example"}, {"cidrSelector": "::/0"}, {"dnsName": "*.a.example"}]
    ),
    st.sampled_from(["Allow", "Deny"]),
)
_spec = st.fixed_dictionaries({"egress": st.lists(_rule | _good_rule, max_size=3) | _plain})
_metadata = st.fixed_dictionaries({}, optional={"name": _texts | _plain, "namespace": _texts | _plain})
_document = st.builds(
    lambda base, changes: {**base, **changes},
    st.builds(enp, _good_rule) | st.builds(firewall, _good_rule),
    st.fixed_dictionaries({}, optional={"kind": _texts, "metadata": _metadata, "spec": _spec, "x": _plain}),
)
_list = st.builds(lambda kind, found: {"kind": kind, "items": found}, _texts, st.lists(_document, max_size=2))


@settings(max_examples=300)
@given(_document | _list | json_values.values)
@example({"kind": "List", "items": [{"kind": "List", "items": []}]})
@example({"metadata": {"namespace": "shop", "\ud800": 1}, "\ud800": 1})
@example({**enp(), 1: 2})
def test_any_document_is_policies_or_refused(document: object) -> None:
    try:
        found = policies(document, ORIGIN)
    except CniError as error:
        assert error.code == POLICY_UNUSABLE
        assert error.msg.isprintable()
        return
    for one in found:
        assert SAFE_NAMESPACE.fullmatch(one.namespace)
        assert one.title.isprintable()
        assert one.broken.isprintable()
        assert not (one.broken and one.rules)
        for its in one.rules:
            assert (its.network is None) == bool(its.name)
            assert not its.name or SAFE_NAME.fullmatch(its.name)
            assert all(
                port.protocol in ("tcp", "udp", "sctp") and 1 <= port.port <= 65535 for port in its.ports
            )
    assert set(gather(found)) == {one.namespace for one in found}


@settings(max_examples=200)
@given(st.text())
def test_any_text_names_safe_namespaces_only(text: str) -> None:
    for found in namespaces_named(f"namespace: {text}"):
        assert SAFE_NAMESPACE.fullmatch(found)
