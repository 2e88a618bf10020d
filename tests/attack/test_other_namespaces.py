"""Whoever may do as he likes in another namespace of the cluster: with pods, Services, policies."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from lab import Lab, Pod
from lab.attacker import ACK, FIN, RST, SYN, Process, Tap, address_family, tcp, token, udp, unreachable
from lab.needed import made_lab
from policy.commands import Commands
from policy.documents import Policies, allow, deny, document

from .guards import Chain, assert_stopped
from .scene import FAMILIES, NAMED, SERVER_PORT, SOURCE, TCP_PORT, UDP_PORT, Scene
from .stage import assert_printable, log_lines, status

HIJACK = """
table {family} hijack {{
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        {word} daddr {address} tcp dport {port} dnat to {target}
    }}
}}
"""


# -- Services


@contextmanager
def external_address(scene: Scene, family: int) -> Iterator[None]:
    """A Service with the destination's address among its `externalIPs`, as kube-proxy makes it (CVE-2020-8554)."""
    word = {4: "ip", 6: "ip6"}[family]
    target = scene.neighbour_address[family]
    scene.node.run("nft", "-f", "-", stdin=HIJACK.format(
        family=word, word=word, address=NAMED[family], port=SERVER_PORT, target=target,
    ))  # fmt: skip
    try:
        yield
    finally:
        scene.node.run("nft", f"delete table {word} hijack")


@pytest.fixture(scope="module")
def bystander(scene: Scene) -> Pod:
    """A pod on the same bridge that has nothing to do with the egress pod."""
    return scene.node.pod("bridge")


@pytest.mark.parametrize("family", FAMILIES)
def test_service_that_claims_a_destination_gets_nothing_of_what_the_pod_sends_on(
    scene: Scene, bystander: Pod, family: int
) -> None:
    """What leaves by the macvlan passes no rule of the node."""
    with external_address(scene, family):
        client, theirs = Process(scene.neighbour), Process(bystander)
        assert client.connects(scene.outside, scene.pod_address[family], 2, TCP_PORT, SERVER_PORT)
        assert theirs.connects(scene.neighbour, NAMED[family], 2, SERVER_PORT), "the claim itself is in order"


# -- pods


@pytest.mark.parametrize("kind", ["answer", "error"])
@pytest.mark.parametrize("family", FAMILIES)
def test_pod_on_the_same_bridge_does_not_speak_for_a_destination(
    scene: Scene, bystander: Pod, kind: str, family: int
) -> None:
    """A client has a flow by a line; connection tracking knows what an answer looks like, and not where it comes in."""
    header = 14 + {4: 20, 6: 40}[family]
    with (
        closing(scene.neighbour.socket(address_family(NAMED[family]), socket.SOCK_DGRAM)) as flow,
        Tap(scene.outside) as server,
        Tap(scene.neighbour) as client,
        Tap(bystander) as attacker,
    ):
        flow.bind((scene.neighbour_address[family], 0))

        def attack(seconds: float) -> bool:
            sent, real = token(), token()
            seen: list[bytes] = []
            flow.sendto(real, (scene.pod_address[family], UDP_PORT))
            assert server.hears(lambda frame: real in frame and not seen.append(frame), 3)  # type: ignore[func-returns-value]
            port = int.from_bytes(seen[0][header : header + 2])
            if kind == "answer":
                forged = udp(NAMED[family], SOURCE[family], (UDP_PORT, port), sent)
            else:
                quoted = udp(SOURCE[family], NAMED[family], (port, UDP_PORT), sent)
                forged = unreachable(NAMED[family], SOURCE[family], quoted)
            attacker.send(forged, scene.pod.mac())
            return client.hears(sent, seconds)

        assert_stopped(attack, Chain(scene.pod, "forward"))


@pytest.mark.parametrize("family", FAMILIES)
def test_pod_on_the_same_bridge_does_not_end_the_connections_of_others(
    scene: Scene, bystander: Pod, family: int
) -> None:
    """It says what the destination would say to end them, but does not know the sequence numbers."""
    with (
        closing(scene.outside.socket(address_family(NAMED[family]))) as listener,
        closing(scene.neighbour.socket(address_family(NAMED[family]))) as client,
        Tap(bystander) as attacker,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((NAMED[family], SERVER_PORT))
        listener.listen()
        listener.settimeout(3)
        client.settimeout(3)
        client.connect((scene.pod_address[family], TCP_PORT))
        server, (_, port, *_) = listener.accept()
        with closing(server):
            for flags in (RST, RST | ACK, SYN, FIN | ACK):
                for sequence in (0, 1 << 30, 1 << 31, 3 << 30):
                    forged = tcp(NAMED[family], SOURCE[family], (SERVER_PORT, port), flags, sequence=sequence)
                    attacker.send(forged, scene.pod.mac())
            client.sendall(b"still here")
            server.settimeout(3)
            assert server.recv(99) == b"still here"


# -- policies


@pytest.fixture(scope="module")
def lab(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with made_lab(bin_dir, tmp_path_factory) as lab:
        yield lab


@pytest.fixture(scope="module")
def policies(lab: Lab) -> Policies:
    """Two pods of `shop`, which has a policy, and of `evil`, whose author writes what he likes."""
    policies = Policies(lab.node)
    policies.write(deny("203.0.113.0/24"))
    for namespace in ("shop", "evil"):
        pod = lab.node.pod()
        pod.args = pod.args.replace("=shop;", f"={namespace};")
        policies.add(pod).ok()
    return policies


def rules_of_shop(policies: Policies) -> list[str]:
    """Every rule that has the namespace's name or one of its sets in it, less what counts."""
    found = []
    for one in policies.table():
        text = json.dumps(one, sort_keys=True)
        if "-shop" in text or ".shop" in text or '"shop' in text:
            found.append(re.sub(r'"(handle|packets|bytes)": \d+|"?g\d+-', "", text))
    return sorted(found)


TEXTS = {
    "an escape sequence": "\x1b]0;evil\x07",
    "nft": 'x" ; flush ruleset ; add table ip evil ; "',
    "a comment": "# {",
    "a name of a set": "@g1-shop-to4",
    "a path": "../shop.json",
    "lines": "a\nshop: b",
    "not ASCII": "b\u00fccher.example",
    "everything": "0.0.0.0/0, 10.0.0.0/8",
    "a long name": "a." * 400 + "example",
}
PLACES: dict[str, Callable[[str], dict[str, object]]] = {
    "a name": lambda text: {"type": "Deny", "to": {"dnsName": text}},
    "a network": lambda text: {"type": "Deny", "to": {"cidrSelector": text}},
    "a type": lambda text: {"type": text, "to": {"cidrSelector": "0.0.0.0/0"}},
    "a key": lambda text: {"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}, text: 1},
    "a port": lambda text: {
        "type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}, "ports": [{"protocol": text, "port": 1}],
    },
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_hostile_policy_closes_its_own_namespace_alone(policies: Policies, text: str) -> None:
    """Wherever the text stands in it; rules of other namespaces and the admin's terminal stay as they are."""
    commands = Commands(policies)
    before = rules_of_shop(policies)
    assert before
    for place, make in PLACES.items():
        rule = make(TEXTS[text])
        kind = document(rule, namespace="evil")
        kind["metadata"]["name"] = kind["metadata"]["name"] if place == "a port" else TEXTS[text]
        policies.write_text(json.dumps(kind), "evil.json")
        report = policies.sync()
        assert rules_of_shop(policies) == before
        assert report.enforced.namespaces["evil"].broken, f"{place}: it is taken at its word"
        assert not report.enforced.namespaces["shop"].broken
        assert all("shop" not in problem.split(":")[0] for problem in report.problems)
    assert policies.node.run("nft", "list", "tables").splitlines() == ["table netdev macvlan_egress"]
    assert_printable(commands.on_node("status", status=1))
    assert_printable(commands.on_node("sync", status=1))
    assert_printable(commands.on_node("explain", "evil", "203.0.113.25:80", status=1))
    assert_printable(commands.run("validate", str(policies.directory), status=1))
    assert_printable(status(policies.node))
    log_lines(policies.node)
    (policies.directory / "evil.json").unlink()
    assert policies.sync().problems == ()


def test_namespaces_whose_names_look_like_parts_of_others_are_kept_apart(
    lab: Lab, policies: Policies
) -> None:
    """Names of sets and chains are made from them."""
    alike = ["shop-to4", "shop-deny4", "shop-ports4-1", "g1-shop", "s", "to4"]
    before = rules_of_shop(policies)
    pods = []
    for namespace in alike:
        policies.write(allow("203.0.113.25/32", ("TCP", 80)), deny("0.0.0.0/0"), namespace=namespace)
        pods.append(lab.node.pod())
        pods[-1].args = pods[-1].args.replace("=shop;", f"={namespace};")
        policies.add(pods[-1]).ok()
    assert policies.sync().problems == ()
    for pod in pods:
        assert Process(pod).connects(lab.outside, NAMED[4], 2, 80)
        assert not Process(pod).connects(lab.outside, NAMED[4], 0.1, 81)
        lab.node.delete(pod).ok()
    for namespace in alike:
        policies.remove(namespace)
    policies.sync()
    assert rules_of_shop(policies) == before
