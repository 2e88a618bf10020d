"""What a policy lets through on both interfaces of a pod, whatever the main CNI."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from lab import ASSIGN, Lab, Lan, Namespace, Node, Pod, source

from .documents import EVERYTHING, Policies, allow, deny

OUTSIDE = ("203.0.113.25", "2001:db8:113::25")
DUAL = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1")
MAINS = ("calico", "bridge", "ptp")


def reaches(pod: Pod, target: Namespace, address: str, **options: str) -> bool:
    return pod.reach(target, address, timeout=1.0, **options) is not None


@pytest.mark.parametrize("main", MAINS)
def test_plain_pod_reaches_what_its_policy_allows_and_nothing_else(
    node: Node, lan: Lan, outside: Namespace, policies: Policies, main: str
) -> None:
    policies.write(allow("203.0.113.25/32"), allow("2001:db8:113::/64"), *map(deny, EVERYTHING))
    other = node.pod(main)
    pod = node.pod(main)
    answer = policies.add(pod)
    assert answer.ok()
    for address in OUTSIDE:
        assert reaches(pod, outside, address)
    assert not reaches(pod, lan, "203.0.113.1")
    assert not reaches(pod, lan, "fd00:12::1")
    assert reaches(pod, other, other.address), "the cluster is never blocked"
    assert reaches(pod, other, other.address6)
    for address in ("192.168.12.10", "fd00:12::10"):
        assert reaches(pod, node, address), "nor is the node"


@pytest.mark.parametrize("main", MAINS)
def test_denied_pod_still_answers(
    lab: Lab, node: Node, outside: Namespace, policies: Policies, main: str
) -> None:
    policies.write(*map(deny, EVERYTHING))
    pod = node.pod(main)
    policies.add(pod).ok()
    for address in OUTSIDE:
        assert not reaches(pod, outside, address)
    for address in (pod.address, pod.address6):
        assert node.reach(pod, address, timeout=1.0), "health checks of the node"
        assert outside.reach(pod, address, timeout=1.0), "connections from outside"


def test_pod_of_another_namespace_is_free(node: Node, outside: Namespace, policies: Policies) -> None:
    policies.write(*map(deny, EVERYTHING), namespace="bank")
    pod = node.pod()
    policies.add(pod).ok()
    assert reaches(pod, outside, OUTSIDE[0])
    assert policies.table() == []


@pytest.mark.parametrize("address", OUTSIDE)
def test_macvlan_is_held_as_well(
    node: Node, lan: Lan, outside: Namespace, policies: Policies, address: str
) -> None:
    policies.write(deny("203.0.113.0/24"), deny("2001:db8::/32"))
    pod = node.pod()
    policies.add(pod, DUAL).ok()
    own = "fd00:12::99" if ":" in address else "192.168.12.99"
    router = "fd00:12::1" if ":" in address else "192.168.12.1"
    assert not reaches(pod, outside, address, source=own)
    assert not reaches(pod, outside, address)
    assert reaches(pod, lan, router, source=own), "what no rule denies"
    policies.write(deny("198.51.100.0/24"))
    policies.sync()
    assert reaches(pod, outside, address, source=own)
    assert pod.reach(outside, address, source=own) == own


def test_redirected_traffic_is_judged_by_where_it_goes(
    node: Node, outside: Namespace, policies: Policies
) -> None:
    client, pod = node.pod(), node.pod()
    annotations = {**source("192.168.12.99/24", "192.168.12.1"), "macvlan-egress/destination": "203.0.113.25"}
    policies.write(deny("203.0.113.25/32"))
    policies.add(pod, annotations).ok()

    def served() -> str | None:
        with closing(outside.socket(socket.AF_INET)) as server, closing(client.socket(socket.AF_INET)) as one:
            server.bind(("", 4711))
            server.listen()
            server.settimeout(1)
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.connect((pod.address, 4711))
            try:
                connection, peer = server.accept()
            except TimeoutError:
                return None
            connection.close()
            return str(peer[0])

    assert served() is None
    policies.write(allow("203.0.113.25/32"), *map(deny, EVERYTHING))
    policies.sync()
    assert served() == "192.168.12.99"


def test_bare_interface_is_held_whatever_address_its_container_gives_it(
    node: Node, lan: Lan, outside: Namespace, policies: Policies
) -> None:
    policies.write(deny("203.0.113.0/24"))
    pod = node.pod()
    policies.add(pod, {ASSIGN: "true"}).ok()
    pod.ip(
        "address add 192.168.12.77/24 dev macvlan0", "route add 203.0.113.0/24 via 192.168.12.1 dev macvlan0"
    )
    assert reaches(pod, lan, "192.168.12.1", source="192.168.12.77")
    assert not reaches(pod, outside, OUTSIDE[0], source="192.168.12.77")


def test_unpoliced_macvlan_beside_a_policed_one_is_free(
    node: Node, outside: Namespace, policies: Policies
) -> None:
    free, late = node.pod(), node.pod()
    for pod in (free, late):
        pod.args = pod.args.replace("=shop;", "=free;")
    policies.add(free, source("192.168.12.98/24", "192.168.12.1")).ok()
    policies.write(deny("203.0.113.0/24"))
    held = node.pod()
    policies.add(held, source("192.168.12.99/24", "192.168.12.1")).ok()
    policies.add(late, source("192.168.12.97/24", "192.168.12.1")).ok()
    assert not reaches(held, outside, OUTSIDE[0], source="192.168.12.99")
    assert reaches(free, outside, OUTSIDE[0], source="192.168.12.98")
    assert reaches(late, outside, OUTSIDE[0], source="192.168.12.97")
    assert reaches(node, outside, OUTSIDE[0]), "and so is the node itself"


def test_nothing_is_left_after_del(node: Node, policies: Policies) -> None:
    policies.write(deny("203.0.113.0/24"))
    pods = [node.pod(), node.pod("bridge")]
    policies.add(pods[0]).ok()
    policies.add(pods[1], DUAL).ok()
    assert policies.table()
    for pod in pods:
        node.check(pod).ok()
    for pod in pods:
        node.delete(pod).ok()
        node.delete(pod).ok()
    assert policies.table() == []
    assert policies.files() == []
