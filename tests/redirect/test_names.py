"""DNS names in the lines: asked of the node's own resolver, all addresses used, every failure clear."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from lab import Namespace, Node, Pod, unchanged
from lab.network import OUTSIDE4, OUTSIDE6, PODS4, PODS6
from lab.traffic import exchange, ping

from .asking import EGRESS4, EGRESS6, OFF, TRY_AGAIN_LATER, egress, redirect
from .resolver import Resolver, Trouble

NAME = "db.example.com"
SECOND4, SECOND6 = "203.0.113.26", "2001:db8:113::26"


@pytest.fixture
def resolver(node: Node) -> Iterator[Resolver]:
    with Resolver(node) as resolver:
        yield resolver


def targets(pod: Pod, port: int) -> set[str]:
    """The addresses that the pod itself may reach at a port: all that its lines lead to."""
    ruleset = pod.run("nft", "list", "table", "inet", "macvlan_egress")
    return set(re.findall(rf"([0-9a-f.:]+) \. tcp \. {port}\b", ruleset))


@pytest.mark.parametrize(
    ("answers", "served"),
    [((OUTSIDE4,), {4}), ((OUTSIDE6,), {6}), ((OUTSIDE4, OUTSIDE6), {4, 6})],
    ids=["A", "AAAA", "A-and-AAAA"],
)
def test_name_serves_the_families_it_has(
    node: Node,
    resolver: Resolver,
    outside: Namespace,
    pod: Pod,
    client: Pod,
    answers: tuple[str, ...],
    served: set[int],
) -> None:
    resolver.names[NAME] = answers
    with unchanged(pod, node):
        resolver.add(pod, redirect(f"80 tcp {NAME} 5432"), conf=OFF).ok()
        for version, address in ((4, pod.address), (6, pod.address6)):
            if version in served:
                assert exchange("tcp", client, (address, 80), outside, 5432).source == egress(address)
            else:
                own = client.address6 if version == 6 else client.address
                assert exchange("tcp", client, (address, 80), pod, 80).source == own
        node.check(pod).ok()
        node.delete(pod).ok()


def test_all_addresses_of_a_name_are_used(
    resolver: Resolver, outside: Namespace, pod: Pod, client: Pod
) -> None:
    resolver.names[NAME] = (OUTSIDE4, SECOND4, OUTSIDE6, SECOND6)
    resolver.add(pod, redirect(f"80 tcp {NAME}"), conf=OFF).ok()
    assert targets(pod, 80) == {OUTSIDE4, SECOND4, OUTSIDE6, SECOND6}
    for address in (pod.address, pod.address6):
        chosen = {exchange("tcp", client, (address, 80), outside, 80).target for _ in range(4)}
        assert len(chosen) == 1


def test_name_as_destination_of_everything(
    resolver: Resolver, outside: Namespace, pod: Pod, client: Pod
) -> None:
    resolver.names[NAME] = (OUTSIDE4, OUTSIDE6)
    resolver.add(pod, redirect(NAME), conf=OFF).ok()
    for address in (pod.address, pod.address6):
        assert exchange("udp", client, (address, 4711), outside, 4711).source == egress(address)
        assert ping(client, address, outside).source == egress(address)


def test_addresses_of_a_family_without_source_are_left_out(
    resolver: Resolver, outside: Namespace, pod: Pod, client: Pod
) -> None:
    resolver.names[NAME] = (OUTSIDE4, OUTSIDE6)
    resolver.add(pod, redirect(f"80 tcp {NAME}", families=(4,)), conf=OFF).ok()
    assert targets(pod, 80) == {OUTSIDE4}
    assert exchange("tcp", client, (pod.address, 80), outside, 80).source == EGRESS4


def test_name_in_capitals_with_its_last_dot(
    resolver: Resolver, outside: Namespace, pod: Pod, client: Pod
) -> None:
    resolver.names[NAME] = (OUTSIDE4,)
    resolver.add(pod, redirect(f"80 tcp {NAME.upper()}."), conf=OFF).ok()
    assert exchange("tcp", client, (pod.address, 80), outside, 80).source == EGRESS4


def test_many_names_beside_addresses(resolver: Resolver, outside: Namespace, pod: Pod, client: Pod) -> None:
    names = [f"host{number}.example.com" for number in range(40)]
    resolver.names |= {name: (f"203.0.113.{100 + number}", OUTSIDE6) for number, name in enumerate(names)}
    outside.ip(*(f"address add 203.0.113.{100 + number}/24 dev eth0" for number in range(40)))
    lines = [f"{1000 + number} tcp {name} 80" for number, name in enumerate(names)]
    resolver.add(pod, redirect(*lines, OUTSIDE4), conf=OFF).ok()
    for number in (0, 17, 39):
        visit = exchange("tcp", client, (pod.address, 1000 + number), outside, 80)
        assert (visit.source, visit.target) == (EGRESS4, f"203.0.113.{100 + number}")
    assert exchange("tcp", client, (pod.address6, 1000), outside, 80).source == EGRESS6


def test_name_of_several_lines_is_asked_for_once(resolver: Resolver, pod: Pod) -> None:
    resolver.names[NAME] = (OUTSIDE4,)
    resolver.add(
        pod, redirect(*(f"{port} tcp {NAME}" for port in (80, 81, 82)), families=(4,)), conf=OFF
    ).ok()
    assert resolver.asked == [NAME]


def test_answers_of_the_past_stay_until_the_next_add(resolver: Resolver, node: Node, pod: Pod) -> None:
    resolver.names[NAME] = (OUTSIDE4,)
    resolver.add(pod, redirect(f"80 tcp {NAME}"), conf=OFF).ok()
    resolver.names[NAME] = (SECOND4,)
    node.check(pod).ok()
    node.delete(pod).ok()
    resolver.add(pod, redirect(f"80 tcp {NAME}"), conf=OFF).ok()
    assert targets(pod, 80) == {SECOND4}


@pytest.mark.parametrize(
    "trouble",
    [Trouble.NXDOMAIN, Trouble.SERVFAIL, Trouble.SILENCE, ()],
    ids=["NXDOMAIN", "SERVFAIL", "no-answer", "no-address"],
)
def test_name_that_cannot_be_resolved_is_a_retryable_error(
    node: Node, resolver: Resolver, pod, trouble
) -> None:
    resolver.names |= {"good.example.com": (OUTSIDE4,), NAME: trouble}
    with unchanged(pod, node):
        answer = resolver.add(pod, redirect("80 tcp good.example.com", "", f"81 tcp {NAME}"), conf=OFF)
        answer.refused(TRY_AGAIN_LATER, "line 3", NAME)
    resolver.names[NAME] = (OUTSIDE4,)
    resolver.add(pod, redirect("80 tcp good.example.com", "", f"81 tcp {NAME}"), conf=OFF).ok()


def test_resolver_that_hangs_is_not_waited_for_longer_than_the_deadline(
    node: Node, resolver: Resolver, pod: Pod
) -> None:
    resolver.resolv_conf = "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n"
    resolver.names[NAME] = Trouble.SILENCE
    with unchanged(pod, node):
        answer = resolver.add(pod, redirect(f"80 tcp {NAME}"), conf=OFF)
        answer.refused(TRY_AGAIN_LATER, "line 1", NAME, "5 s")


def test_name_without_an_address_of_the_served_family(node: Node, resolver: Resolver, pod: Pod) -> None:
    resolver.names[NAME] = (OUTSIDE6,)
    with unchanged(pod, node):
        answer = resolver.add(pod, redirect(f"80 tcp {NAME}", families=(4,)), conf=OFF)
        answer.refused(TRY_AGAIN_LATER, "line 1", NAME)


def test_search_domains_are_not_tried(node: Node, resolver: Resolver, pod: Pod) -> None:
    resolver.names[f"{NAME}.cluster.example"] = (OUTSIDE4,)
    with unchanged(pod, node):
        resolver.add(pod, redirect(f"80 tcp {NAME}"), conf=OFF).refused(TRY_AGAIN_LATER, NAME)
    assert set(resolver.asked) == {NAME}


LEADING_INSIDE = (
    "127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "10.244.0.9", EGRESS4,
    "::1", "::", "fe80::1", "ff02::1", "::ffff:cb00:7119", "fd00:244::9", EGRESS6,
)  # fmt: skip


def test_answer_that_leads_back_inside_is_refused(node: Node, resolver: Resolver, pod: Pod) -> None:
    conf = {**OFF, "clusterNetworks": [PODS4, PODS6]}
    accepted = []
    with unchanged(pod, node):
        for address in LEADING_INSIDE:
            resolver.names[NAME] = (address,)
            answer = resolver.add(pod, redirect(f"80 tcp {NAME}"), conf=conf)
            if answer.status:
                answer.refused(TRY_AGAIN_LATER, "line 1", NAME, address)
            else:
                accepted.append(address)
                node.delete(pod).ok()
    assert not accepted


def test_good_addresses_of_an_answer_are_used_without_the_refused_ones(resolver: Resolver, pod: Pod) -> None:
    resolver.names[NAME] = (*LEADING_INSIDE, OUTSIDE4, OUTSIDE6)
    conf = {**OFF, "clusterNetworks": [PODS4, PODS6]}
    resolver.add(pod, redirect(f"80 tcp {NAME}"), conf=conf).ok()
    assert targets(pod, 80) == {OUTSIDE4, OUTSIDE6}


def test_resolver_is_not_asked_for_a_pod_without_a_grant(node: Node, resolver: Resolver, pod: Pod) -> None:
    resolver.names[NAME] = (OUTSIDE4,)
    with unchanged(pod, node):
        answer = resolver.add(pod, redirect(f"80 tcp {NAME}"), conf={"allow": [{"namespaces": ["bank"]}]})
        answer.refused(100, "shop")
    assert resolver.asked == []


def test_resolver_is_not_asked_for_addresses(resolver: Resolver, pod: Pod) -> None:
    resolver.add(pod, redirect(f"80 tcp {OUTSIDE4}", OUTSIDE6), conf=OFF).ok()
    assert resolver.asked == []
