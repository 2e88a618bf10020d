"""Policies through a pod's life: in force before it can send, gone with it, whatever happens in between."""

from __future__ import annotations

import errno
import json
import shutil
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lab import Lan, Namespace, Node, Pod, Request, source, unchanged
from lab.attacker import udp
from lab.faults import changes, kill_at

from .documents import EVERYTHING, Policies, allow, deny
from .sink import ALLOWED, DENIED, FREE, PORT, Sink

IO_FAILURE, DRIFT = 5, 107
EGRESS = source("192.168.12.99/24", "192.168.12.1")
OWN = "192.168.12.99"
QUICK = {"conflictTimeoutMs": 20}
OTHERS = {ALLOWED, FREE}
KINDS: dict[str, dict[str, str] | None] = {"plain": None, "egress": EGRESS}


@pytest.fixture
def sink(lan: Lan, outside: Namespace) -> Sink:
    return Sink(lan, outside)


def in_namespace(pod: Pod, namespace: str) -> Pod:
    pod.args = pod.args.replace("=shop;", f"={namespace};")
    return pod


def deny_one(policies: Policies, namespace: str = "shop") -> None:
    policies.write(deny(f"{DENIED}/32"), allow(f"{ALLOWED}/32"), namespace=namespace)


def is_clean(policies: Policies) -> bool:
    return policies.table() == [] and policies.files() == []


# -- ADD


def test_macvlan_never_sends_what_is_denied(
    node: Node, lan: Lan, outside: Namespace, policies: Policies
) -> None:
    """Somebody in the pod sends by the macvlan as soon as there is one, past every queue of the kernel."""
    deny_one(policies)
    pod = node.pod()
    router, over = lan.mac("br0"), threading.Event()
    sent = {DENIED: 0, ALLOWED: 0}

    def flood() -> None:
        sock = pod.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with closing(sock):
            while not over.is_set():
                try:
                    sock.bind(("macvlan0", 0))
                    break
                except OSError:
                    continue
            head = bytes.fromhex(router.replace(":", "")) + sock.getsockname()[4] + b"\x08\x00"
            while not over.is_set():
                for address in sent:
                    try:
                        sock.send(head + udp(OWN, address, (PORT, PORT), b"x"))
                    except OSError as error:
                        if error.errno != errno.ENOBUFS:  # that is how a drop on the way out shows here
                            continue  # it is not up yet
                    sent[address] += 1

    with closing(outside.socket(socket.AF_PACKET, socket.SOCK_DGRAM)) as ear:
        ear.bind(("eth0", 0x0800))
        outside.ip(f"address add {ALLOWED}/24 dev eth0")
        for address in sent:  # so that no packet has to wait for its neighbour
            lan.ip(f"neighbour replace {address} lladdr {outside.mac()} dev out0")
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            policies.add(pod, EGRESS, **QUICK).ok()
        finally:
            over.set()
            thread.join()
        assert sent[DENIED]
        assert sent[ALLOWED]
        ear.setblocking(False)
        heard = set()
        while True:
            try:
                heard.add(socket.inet_ntoa(ear.recv(2048)[16:20]))
            except BlockingIOError:
                break
    assert heard & sent.keys() == {ALLOWED}


@pytest.mark.parametrize("kind", KINDS)
def test_second_add_changes_nothing_that_is_in_force(
    node: Node, policies: Policies, sink: Sink, kind: str
) -> None:
    deny_one(policies)
    pod = node.pod()
    first = policies.add(pod, KINDS[kind], **QUICK).ok()
    before = policies.table()
    again = policies.add(pod, KINDS[kind], **QUICK)
    assert (again.status == 0) == (
        kind == "plain"
    )  # an interface may not be made twice, says the specification
    if kind == "plain":
        assert again.ok() == first
    assert policies.table() == before
    assert sink.reached(pod) == OTHERS
    node.check(pod).ok()
    node.delete(pod).ok()
    assert is_clean(policies)


@pytest.mark.parametrize("kind", KINDS)
def test_deleted_pod_can_be_added_again(node: Node, policies: Policies, sink: Sink, kind: str) -> None:
    deny_one(policies)
    pod = node.pod()
    for _ in range(2):
        node.send("DEL", node.request(pod, KINDS[kind], conf=policies.conf)).ok()
        policies.add(pod, KINDS[kind], **QUICK).ok()
        assert sink.reached(pod) == OTHERS
        node.check(pod).ok()
        node.delete(pod).ok()
        assert sink.reached(pod) == {DENIED, *OTHERS}
        assert is_clean(policies)


def test_add_sees_a_policy_that_was_written_a_moment_ago(node: Node, policies: Policies, sink: Sink) -> None:
    """Nobody has synced: the index of namespaces that pods without policy pass by is out of date."""
    first, second, third = (node.pod() for _ in range(3))
    policies.add(first).ok()
    deny_one(policies, "bank")
    policies.add(second).ok()
    assert policies.table() == []
    deny_one(policies)
    policies.add(third).ok()
    assert sink.reached(third) == OTHERS
    policies.remove()
    policies.add(fourth := node.pod()).ok()
    assert sink.reached(fourth) == {DENIED, *OTHERS}


def test_pod_without_policy_leaves_a_note_and_nothing_else(node: Node, policies: Policies) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        policies.add(pod).ok()
        assert policies.files() == [f"{pod.container_id}@eth0.json"]
        node.check(pod).ok()
    with unchanged(pod, node):
        node.delete(pod).ok()
    assert is_clean(policies)


def test_eight_pods_come_and_go_at_once(node: Node, policies: Policies, sink: Sink) -> None:
    deny_one(policies)
    policies.write(*map(deny, EVERYTHING), namespace="bank")
    pods = [node.pod() for _ in range(8)]
    asked: list[dict[str, str] | None] = []
    for number, pod in enumerate(pods):
        in_namespace(pod, ("shop", "bank", "shop", "free")[number % 4])
        asked.append(source(f"192.168.12.{200 + number}/24") if number % 2 else None)
    with unchanged(node), ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda number: policies.add(pods[number], asked[number], conflictDetection="off"), range(8)
            )
        )
        for answer in answers:
            answer.ok()
        for number, pod in enumerate(pods):
            expected = {0: OTHERS, 1: set(), 2: OTHERS, 3: {DENIED, *OTHERS}}[number % 4]
            assert sink.reached(pod) == expected, pod.args
            node.check(pod).ok()
        assert policies.sync().changes == ()
        for answer in pool.map(node.delete, pods):
            answer.ok()
    assert is_clean(policies)


VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


def test_addresses_are_known_whatever_version_the_main_cni_speaks(
    node: Node, policies: Policies, sink: Sink
) -> None:
    deny_one(policies)
    for version in VERSIONS:
        pod = node.pod(version=version)
        if version < "0.3.0":
            pod.previous = {
                "cniVersion": version,
                "ip4": {"ip": f"{pod.address}/32"},
                "ip6": {"ip": f"{pod.address6}/128"},
            }
        answer = policies.add(pod)
        assert answer.ok()["cniVersion"] == version
        assert sink.reached(pod) == OTHERS, version
        pod.ip("address add 10.99.0.1/32 dev eth0")
        assert sink.hears_nothing(pod, "10.99.0.1"), version
        node.delete(pod).ok()
    assert is_clean(policies)


# -- DEL


def without_policy(policies: Policies, pod: Pod) -> dict[str, Any]:
    return {"policy": None, "clusterNetworks": None}


def with_malformed_policy(policies: Policies, pod: Pod) -> dict[str, Any]:
    return {"policy": {"directory": 5, "sources": []}}


def with_broken_document(policies: Policies, pod: Pod) -> dict[str, Any]:
    policies.write_text('{"kind": "EgressNetworkPolicy", "metadata": {"namespace": "sh', "shop.json")
    return {}


def with_directory_removed(policies: Policies, pod: Pod) -> dict[str, Any]:
    shutil.rmtree(policies.directory)
    return {}


def with_directory_unreadable(policies: Policies, pod: Pod) -> dict[str, Any]:
    """Root may read everything, so that it is no directory any more."""
    shutil.rmtree(policies.directory)
    policies.directory.write_text("")
    return {}


def with_netns_gone(policies: Policies, pod: Pod) -> dict[str, Any]:
    pod.remove()
    return {}


def as_ever(policies: Policies, pod: Pod) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "circumstance",
    [
        as_ever,
        without_policy,
        with_malformed_policy,
        with_broken_document,
        with_directory_removed,
        with_directory_unreadable,
        with_netns_gone,
    ],
)
def test_delete_lets_go_of_its_pod_alone(
    node: Node,
    policies: Policies,
    sink: Sink,
    kind: str,
    circumstance: Callable[[Policies, Pod], dict[str, Any]],
) -> None:
    deny_one(policies)
    deny_one(policies, "bank")
    stays, other, goes = node.pod(), in_namespace(node.pod(), "bank"), node.pod()
    policies.add(stays).ok()
    policies.add(other, source("192.168.12.98/24"), **QUICK).ok()
    policies.add(goes, KINDS[kind], **QUICK).ok()
    changed = circumstance(policies, goes)
    request = goes.requests["eth0"].but(**changed)
    for _ in range(2):
        node.send("DEL", request).ok()
        for pod in (stays, other):
            assert sink.reached(pod) == OTHERS
            node.check(pod).ok()
        assert not any(goes.container_id in name for name in policies.files())
        assert goes.container_id[:24] not in json.dumps(policies.table())
    if goes.exists:
        assert sink.reached(goes) == {DENIED, *OTHERS}
    for pod in (stays, other):
        node.send("DEL", pod.requests["eth0"].but(**changed)).ok()
    assert is_clean(policies)


def test_delete_of_an_unknown_pod_changes_nothing(node: Node, policies: Policies, sink: Sink) -> None:
    deny_one(policies)
    stays, stranger = node.pod(), node.pod()
    policies.add(stays).ok()
    before = policies.table()
    node.send("DEL", node.request(stranger, conf=policies.conf)).ok()
    node.send("DEL", node.request(stranger, EGRESS, conf=policies.conf)).ok()
    assert policies.table() == before
    assert sink.reached(stays) == OTHERS


# -- GC


@pytest.mark.parametrize("configured", [True, False])
def test_gc_lets_go_of_what_is_not_valid(
    node: Node, policies: Policies, sink: Sink, configured: bool
) -> None:
    deny_one(policies)
    plain, egress = [node.pod() for _ in range(2)], [node.pod() for _ in range(2)]
    free = [in_namespace(node.pod(), "free") for _ in range(2)]
    for pod in (*plain, *free):
        policies.add(pod).ok()
    for number, pod in enumerate(egress):
        policies.add(pod, source(f"192.168.12.{98 + number}/24"), **QUICK).ok()
    stays = (plain[0], egress[0], free[0])
    egress[1].remove()
    node.gc(*stays, conf=policies.conf if configured else {}).ok()
    found = json.dumps(policies.table()) + " ".join(policies.files())
    for pod in (plain[1], egress[1], free[1]):
        assert pod.container_id[:24] not in found
    for pod in stays[:2]:
        assert sink.reached(pod) == OTHERS
        node.check(pod).ok()
    assert len(policies.files()) == 5, "three notes and two marks"
    node.gc(conf=policies.conf if configured else {}).ok()
    assert is_clean(policies)


def test_gc_of_another_network_spares_policies(node: Node, policies: Policies, sink: Sink) -> None:
    deny_one(policies)
    pod = node.pod()
    policies.add(pod).ok()
    node.gc(conf={**policies.conf, "name": "othernet"}).ok()
    assert sink.reached(pod) == OTHERS
    assert len(policies.files()) == 2


# -- CHECK

TABLE = "netdev macvlan_egress"


def names(policies: Policies, kind: str, start: str = "", end: str = "") -> list[str]:
    found = [one[kind]["name"] for one in policies.table() if kind in one]
    return [name for name in found if name.startswith(start) and name.endswith(end)]


def chain_flushed(policies: Policies) -> str:
    return f"flush chain {TABLE} ns-shop-denied"


def pod_chain_flushed(policies: Policies) -> str:
    return f"flush chain {TABLE} {names(policies, 'chain', 'pod-')[0]}"


def pod_chain_removed(policies: Policies) -> str:
    return f"delete chain {TABLE} {names(policies, 'chain', 'pod-')[0]}"


def rule_added(policies: Policies) -> str:
    return f"insert rule {TABLE} ns-shop-ip4 accept"


def rule_replaced(policies: Policies) -> str:
    """As many rules as before, and another thing that they say."""
    return f"flush chain {TABLE} ns-shop-denied\n" + "\n".join(
        f"add rule {TABLE} ns-shop-denied counter accept"
        for one in policies.table()
        if "rule" in one and one["rule"]["chain"] == "ns-shop-denied"
    )


def element_removed(policies: Policies) -> str:
    return f"delete element {TABLE} {names(policies, 'map', end='-shop-to4')[0]} {{ {DENIED} }}"


def element_turned(policies: Policies) -> str:
    name = names(policies, "map", end="-shop-to4")[0]
    return f"delete element {TABLE} {name} {{ {DENIED} }}\nadd element {TABLE} {name} {{ {DENIED} : accept }}"


def guard_entry_removed(policies: Policies) -> str:
    name = next(one for one in names(policies, "map", "guard-") if not one.endswith("-in"))
    (body,) = (one["map"] for one in policies.table() if "map" in one and one["map"]["name"] == name)
    return f"delete element {TABLE} {name} {{ {body['elem'][0][0]} }}"


def guard_entry_turned(policies: Policies) -> str:
    name = next(one for one in names(policies, "map", "guard-") if not one.endswith("-in"))
    mac = guard_entry_removed(policies).split("{ ")[1].split(" }")[0]
    return f"{guard_entry_removed(policies)}\nadd element {TABLE} {name} {{ {mac} : accept }}"


def table_removed(policies: Policies) -> str:
    return f"delete table {TABLE}"


def table_flushed(policies: Policies) -> str:
    return f"flush table {TABLE}"


DAMAGES = (
    chain_flushed,
    pod_chain_flushed,
    pod_chain_removed,
    rule_added,
    rule_replaced,
    element_removed,
    element_turned,
    guard_entry_removed,
    guard_entry_turned,
    table_removed,
    table_flushed,
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_check_lists_what_somebody_has_changed(
    node: Node, policies: Policies, sink: Sink, damage: Callable[[Policies], str]
) -> None:
    deny_one(policies)
    plain, egress = node.pod(), node.pod()
    policies.add(plain).ok()
    policies.add(egress, EGRESS, **QUICK).ok()
    for pod in (plain, egress):
        assert sink.reached(pod) == OTHERS
        node.check(pod).ok()
    commands = damage(policies)
    node.run("nft", "-f", "-", stdin=commands + "\n")
    found = node.check(egress).refused(DRIFT, "policy: ")
    if not commands.startswith(("delete table", "flush table")):
        assert commands.split()[4] in found, "what has been changed is named"
    assert policies.sync().changes, "a sync mends it"
    for pod in (plain, egress):
        node.check(pod).ok()
        assert sink.reached(pod) == OTHERS
    assert sink.reached(egress, source=OWN, last=FREE) == OTHERS


def test_check_is_silent_whatever_has_passed(
    node: Node, policies: Policies, sink: Sink, outside: Namespace
) -> None:
    deny_one(policies)
    pod = node.pod()
    policies.add(pod, EGRESS, **QUICK).ok()
    sink.reached(pod)
    sink.reached(pod, source=OWN, last=FREE)
    assert outside.reach(pod, pod.address), "a connection from a denied address, which is remembered"
    node.check(pod).ok()
    assert policies.sync().changes == ()
    node.check(pod).ok()


# -- a pod whose main interface has no end on the node


def pod_on_nic(lan: Lan, node: Node) -> Pod:
    """Its eth0 is a macvlan of the node's second NIC, as the plugin macvlan makes it."""
    lan.plug(node, "eth1")
    pod = node.lab.keep(Pod(node, node.lab.name(f"pod{node.lab.number()}")))
    pod.main = "macvlan"
    node.ip(f"link add link eth1 name eth0 netns {pod.name} type macvlan mode bridge")
    pod.address = "192.168.12.77"
    pod.ip("link set eth0 up", f"address add {pod.address}/24 dev eth0", "route add default via 192.168.12.1")
    pod.settle("eth0")
    pod.version = "1.1.0"
    pod.previous = {
        "cniVersion": pod.version,
        "interfaces": [{"name": "eth0", "mac": pod.mac(), "sandbox": pod.path}],
        "ips": [{"address": f"{pod.address}/24", "interface": 0}],
    }
    return pod


def test_pod_without_host_end_is_held_inside(lan: Lan, node: Node, policies: Policies, sink: Sink) -> None:
    deny_one(policies)
    pod = pod_on_nic(lan, node)
    with unchanged(pod, node):
        policies.add(pod).ok()
        assert policies.table() == [], "there is nothing on the node that could hold it"
        assert sink.reached(pod) == OTHERS
        node.check(pod).ok()
        pod.ip("address add 192.168.12.78/24 dev eth0")
        assert sink.hears_nothing(pod, "192.168.12.78")
        pod.ip("address delete 192.168.12.78/24 dev eth0")
        policies.write(deny(f"{ALLOWED}/32"))
        assert policies.sync().changes
        assert sink.reached(pod) == {DENIED, FREE}
        pod.run("nft", "delete", "table", "netdev", "macvlan_egress")
        node.check(pod).refused(DRIFT, "policy: ")
        assert policies.sync().changes
        assert sink.reached(pod) == {DENIED, FREE}
        node.check(pod).ok()
        node.delete(pod).ok()
    assert is_clean(policies)


def test_killed_add_of_a_pod_without_host_end_leaves_nothing(
    lan: Lan, node: Node, policies: Policies, sink: Sink
) -> None:
    deny_one(policies)
    pod = pod_on_nic(lan, node)
    request = node.request(pod, conf=policies.conf)
    node.send("ADD", request).ok()
    node.send("DEL", request).ok()
    points = changes(node, request, "sendmsg", "rename")
    assert {"sendmsg", "rename"} == {one.call for one in points}
    for point in points:
        with unchanged(pod, node):
            kill_at(node, request, point)
            node.send("DEL", request).ok()
        assert is_clean(policies), str(point)


def test_policy_that_goes_lets_go_of_a_pod_without_host_end(
    lan: Lan, node: Node, policies: Policies, sink: Sink
) -> None:
    deny_one(policies)
    pod = pod_on_nic(lan, node)
    policies.add(pod).ok()
    policies.remove()
    policies.sync()
    assert sink.reached(pod) == {DENIED, *OTHERS}
    assert "macvlan_egress" not in pod.run("nft", "list", "ruleset")
    node.delete(pod).ok()
    assert is_clean(policies)


# -- policies that cannot be enforced


def two_policies(policies: Policies) -> None:
    shutil.copy(policies.directory / "shop.json", policies.directory / "again.json")


def unknown_key(policies: Policies) -> None:
    path = policies.directory / "shop.json"
    document = json.loads(path.read_text())
    document["spec"]["ingress"] = []
    policies.write_text(json.dumps(document), "shop.json")


def half_a_file(policies: Policies) -> None:
    text = (policies.directory / "shop.json").read_text()
    policies.write_text(text[: len(text) - 30], "shop.json")


@pytest.mark.parametrize("breaking", [two_policies, unknown_key, half_a_file])
def test_broken_policy_closes_its_namespace_alone(
    node: Node, policies: Policies, sink: Sink, breaking: Callable[[Policies], None]
) -> None:
    deny_one(policies)
    deny_one(policies, "bank")
    before, other = node.pod(), in_namespace(node.pod(), "bank")
    policies.add(before).ok()
    policies.add(other).ok()
    breaking(policies)
    report = policies.sync()
    assert any("shop" in problem for problem in report.problems), report.problems
    assert not any("bank" in problem for problem in report.problems), report.problems
    log = Path(node.log_file).read_text()
    assert all(json.dumps(problem)[1:-1] in log for problem in report.problems)
    late = node.pod()
    policies.add(late).ok()
    for pod in (before, late):
        assert sink.reached(pod) == set()
        node.check(pod).ok()
    assert sink.reached(other) == OTHERS
    for path in policies.directory.iterdir():
        path.unlink()
    deny_one(policies)
    deny_one(policies, "bank")
    assert policies.sync().problems == ()
    for pod in (before, late, other):
        assert sink.reached(pod) == OTHERS


def test_unreadable_directory_fails_an_add_and_changes_nothing(
    node: Node, policies: Policies, sink: Sink
) -> None:
    """Nobody knows what holds for the pod, so that it may not start."""
    deny_one(policies)
    held, pod = node.pod(), node.pod()
    policies.add(held).ok()
    shutil.rmtree(policies.directory)
    policies.directory.write_text("")
    for asked in KINDS.values():
        with unchanged(pod, node):
            policies.add(pod, asked, **QUICK).refused(IO_FAILURE, str(policies.directory))
    assert len(policies.files()) == 2
    assert sink.reached(held) == OTHERS


def test_request_without_pod_namespace_is_free(node: Node, policies: Policies, sink: Sink) -> None:
    """Another runtime than Kubernetes': no namespace, no policy."""
    policies.write(*map(deny, EVERYTHING))
    pod = node.pod()
    request: Request = node.request(pod, conf=policies.conf)
    node.send("ADD", request.but({"CNI_ARGS": ""})).ok()
    assert sink.reached(pod) == {DENIED, *OTHERS}
    node.send("DEL", request.but({"CNI_ARGS": ""})).ok()
    assert is_clean(policies)
