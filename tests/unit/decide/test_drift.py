"""CHECK's comparison: every single thing that is not as ADD left it is found and named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from cni_macvlan_egress.decide.drift import differences
from cni_macvlan_egress.decide.facts import AddressFact, HostFacts, LinkFact, RouteFact, RuleFact
from cni_macvlan_egress.decide.plan import Plan

from .examples import ASSIGN, BRIDGED, CALICO, DUAL, planned, request, source

MASTER_INDEX = 2


@dataclass(frozen=True)
class Kernel:
    """What there is to be compared with a plan."""

    pod: HostFacts
    sysctls: dict[str, str | None]
    master_index: int | None = MASTER_INDEX

    def differences(self, plan: Plan) -> list[str]:
        return differences(plan, self.pod, self.sysctls, self.master_index)


def after_add(plan: Plan, pod: HostFacts) -> Kernel:
    """A pod as the plan leaves it."""
    link = LinkFact(
        index=7,
        name=plan.link.name,
        mac=plan.link.mac,
        mtu=plan.link.mtu,
        up=True,
        kind="macvlan",
        mode=plan.link.mode,
        parent=MASTER_INDEX,
    )
    addresses = [AddressFact(plan.link.name, one.address) for one in plan.addresses]
    routes = [
        RouteFact(
            one.destination,
            one.interface,
            one.gateway,
            one.table,
            one.source,
            one.onlink,
            metric=1024 if ":" in one.destination else 0,
            protocol=77,
        )
        for one in plan.routes
    ]
    rules = [
        RuleFact(
            family=one.family,
            priority=one.priority,
            table=one.table,
            source=one.source,
            oif=one.oif,
            iif=one.iif,
            suppress_prefix_length=one.suppress_prefix_length,
        )
        for one in plan.rules
    ]
    facts = replace(
        pod,
        links=(*pod.links, link),
        addresses=(*pod.addresses, *addresses),
        routes=(*pod.routes, *routes),
        rules=(*pod.rules, *rules),
    )
    return Kernel(facts, {one.key: one.value for one in plan.sysctls})


CLUSTER = ["10.244.0.0/16", "fd00:244::/64"]
PLANS = {
    "both families": (planned(request(DUAL)), CALICO),
    "to the LAN": (planned(request(DUAL, routes="default", clusterNetworks=CLUSTER)), CALICO),
    "IPv4 alone": (planned(request(source("192.168.12.99", "192.168.12.1")), BRIDGED), BRIDGED),
    "no gateway": (planned(request(source("192.168.12.99/24")), BRIDGED), BRIDGED),
    "bare": (planned(request({ASSIGN: "true"}, clusterNetworks=CLUSTER)), CALICO),
}


@pytest.mark.parametrize("name", PLANS)
def test_pod_as_add_left_it_differs_in_nothing(name: str) -> None:
    plan, pod = PLANS[name]
    assert after_add(plan, pod).differences(plan) == []


@pytest.mark.parametrize("name", PLANS)
def test_what_the_kernel_and_others_added_is_their_business(name: str) -> None:
    plan, pod = PLANS[name]
    kernel = after_add(plan, pod)
    own = plan.link.name
    facts = replace(
        kernel.pod,
        links=(*kernel.pod.links, LinkFact(9, "net1", "02:00:00:00:00:09", 1400, up=False)),
        addresses=(
            *kernel.pod.addresses,
            AddressFact(own, "fe80::6d:12/64"),
            AddressFact(own, "192.168.12.77/24"),
        ),
        routes=(
            *kernel.pod.routes,
            RouteFact("fe80::/64", own, metric=256),
            RouteFact("203.0.113.0/24", "eth0", "10.244.0.1"),
        ),
        rules=(*kernel.pod.rules, RuleFact(4, 100, 100)),
    )
    assert replace(kernel, pod=facts).differences(plan) == []


# -- one thing changed

# Of each kind of fact: the fields that a plan speaks of, and a value that none has.
OTHER: dict[type, dict[str, Any]] = {
    LinkFact: {
        "name": "lan7", "mac": "02:00:00:00:00:07", "mtu": 1300, "up": False, "kind": "veth", "mode": "vepa",
        "parent": 9,
    },
    AddressFact: {"interface": "lan7", "address": "192.0.2.7/24", "duplicate": True},
    RouteFact: {
        "destination": "192.0.2.0/24", "interface": "lan7", "gateway": "192.0.2.1", "table": 99, "source": "192.0.2.7",
        "onlink": None,
    },
    RuleFact: {
        "family": None, "priority": 99, "table": 99, "source": "192.0.2.0/24", "oif": "lan7", "iif": "lan7",
        "suppress_prefix_length": 8,
    },
}  # fmt: skip
OPPOSITE = {4: 6, 6: 4, True: False, False: True}


def alternatives(fact: Any) -> list[tuple[str, Any]]:
    """The fact with each of its fields changed in turn, and gone."""
    changed: list[tuple[str, Any]] = [("", None)]
    for field, other in OTHER[type(fact)].items():
        value = getattr(fact, field)
        changed.append((field, replace(fact, **{field: OPPOSITE[value] if other is None else other})))
        if isinstance(value, str) and field in ("gateway", "source", "oif"):
            changed.append((f"no {field}", replace(fact, **{field: None})))
    return changed


def with_one_changed(kernel: Kernel, before: HostFacts) -> list[tuple[str, Any, Kernel]]:
    """Every fact that ADD made, changed in one way: how, what it was, and all facts with the changed one."""
    found = []
    for kind in ("links", "addresses", "routes", "rules"):
        facts = getattr(kernel.pod, kind)
        for number in range(len(getattr(before, kind)), len(facts)):
            for how, other in alternatives(facts[number]):
                changed = (*facts[:number], *(() if other is None else (other,)), *facts[number + 1 :])
                found.append(
                    (how, facts[number], replace(kernel, pod=replace(kernel.pod, **{kind: changed})))
                )
    return found


def words_for(fact: Any, plan: Plan) -> list[str]:
    """What the difference has to name: which thing it is, and what was expected of it."""
    if isinstance(fact, LinkFact):
        return [plan.link.name]
    if isinstance(fact, AddressFact):
        return ["address", fact.address]
    if isinstance(fact, RouteFact):
        return ["route", fact.destination, fact.interface, *([fact.gateway] if fact.gateway else [])]
    return [
        "rule",
        f"IPv{fact.family}",
        f"priority {fact.priority}",
        str(fact.table),
        fact.source or fact.oif or "",
    ]


@pytest.mark.parametrize("name", PLANS)
def test_every_single_change_is_found_and_named(name: str) -> None:
    plan, pod = PLANS[name]
    kernel = after_add(plan, pod)
    changes = with_one_changed(kernel, pod)
    kinds = {type(fact) for _, fact, _ in changes}
    assert kinds == (set(OTHER) if plan.addresses else {LinkFact, RouteFact})
    overlooked = []
    for how, fact, changed in changes:
        found = changed.differences(plan)
        words = ["expected", "found", *words_for(fact, plan)]
        if not any(all(word in line for word in words) for line in found):
            overlooked.append((how or "gone", fact, found))
    assert overlooked == []


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("mac", ["mac of macvlan0", "found 02:00:00:00:00:07"]),
        ("mtu", ["mtu of macvlan0: expected 1500, found 1300"]),
        ("up", ["macvlan0: expected up, found down"]),
        ("kind", ["kind of macvlan0: expected macvlan, found veth"]),
        ("mode", ["mode of macvlan0: expected bridge, found vepa"]),
        ("parent", ["parent of macvlan0", "expected index 2 (eth0), found 9"]),
    ],
)
def test_property_of_the_link_is_shown_as_expected_and_found(field: str, words: list[str]) -> None:
    plan, pod = PLANS["both families"]
    kernel = after_add(plan, pod)
    links = (*pod.links, replace(kernel.pod.links[-1], **{field: OTHER[LinkFact][field]}))
    (line,) = replace(kernel, pod=replace(kernel.pod, links=links)).differences(plan)
    for word in words:
        assert word in line


@pytest.mark.parametrize("value", ["9", "", None])
def test_every_changed_setting_is_named(value: str | None) -> None:
    plan, pod = PLANS["both families"]
    kernel = after_add(plan, pod)
    assert plan.sysctls
    for one in plan.sysctls:
        (line,) = replace(kernel, sysctls={**kernel.sysctls, one.key: value}).differences(plan)
        assert line == f"sysctl {one.key}: expected {one.value}, found {value or 'nothing'}"


def test_setting_that_was_not_read_is_missed() -> None:
    plan, pod = PLANS["both families"]
    kernel = replace(after_add(plan, pod), sysctls={})
    assert len(kernel.differences(plan)) == len(plan.sysctls)


@pytest.mark.parametrize(("index", "word"), [(None, "none"), (9, "found 2")])
def test_master_that_is_gone_or_another_is_named(index: int | None, word: str) -> None:
    plan, pod = PLANS["bare"]
    (line,) = replace(after_add(plan, pod), master_index=index).differences(plan)
    assert "eth0" in line
    assert word in line


def test_empty_pod_lacks_the_interface_and_that_says_it_all() -> None:
    plan, pod = PLANS["both families"]
    assert Kernel(pod, {}).differences(plan) == ["interface macvlan0: expected a macvlan on eth0, found none"]


def test_all_differences_are_listed_at_once() -> None:
    plan, pod = PLANS["both families"]
    kernel = after_add(plan, pod)
    link = replace(kernel.pod.links[-1], mtu=1300, mode="vepa")
    bare = replace(pod, links=(*pod.links, link))
    found = Kernel(bare, {}, None).differences(plan)
    parts = (plan.addresses, plan.routes, plan.rules, plan.sysctls)
    assert len(found) == 3 + sum(map(len, parts))  # master, mode and MTU
