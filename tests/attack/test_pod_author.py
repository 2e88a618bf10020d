"""Whoever may write a pod's manifest and nothing else: annotations that claim too much, and names that are no names."""

from __future__ import annotations

import cProfile
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import ASSIGN, Answer, Lab, Pod, source, unchanged, within
from lab.needed import made_lab
from lab.network import PODS4, PODS6, ROUTER4
from redirect.resolver import Resolver

from cni_macvlan_egress import entry
from cni_macvlan_egress.daemon.counters import Counters
from cni_macvlan_egress.daemon.metrics import Metrics
from cni_macvlan_egress.model import destinations
from cni_macvlan_egress.protocol import wire

from .stage import OFF, assert_printable, command, log_lines, status

ENVIRONMENT, CONFIGURATION, NOT_ALLOWED, MASTER_UNUSABLE, ADDRESS_HELD, CONFLICT, ANNOTATION = (
    4, 7, 100, 101, 103, 104, 106,
)  # fmt: skip
SERVICES4, SERVICES6 = "10.96.0.0/12", "fd00:96::/112"
CLUSTER = {"clusterNetworks": [PODS4, PODS6, SERVICES4, SERVICES6]}
# What an admin gives who wants to be on the safe side.
LIMITED = {"allow": [{"namespaces": ["shop"], "sources": ["192.168.12.96/28"]}]}
DESTINATION = "80 tcp 203.0.113.25 8080"


@pytest.fixture(scope="module")
def lab(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with made_lab(bin_dir, tmp_path_factory) as lab:
        yield lab


@pytest.fixture(scope="module")
def victim(lab: Lab) -> Pod:
    """Somebody else's egress pod; its main interface is on the node's bridge."""
    pod = lab.node.pod("bridge")
    lab.node.add(pod, source("192.168.12.98/24,fd00:12::98/64", f"{ROUTER4},fd00:12::1"), conf=OFF).ok()
    return pod


@pytest.fixture
def pod(lab: Lab, victim: Pod) -> Pod:
    return lab.node.pod()


# -- addresses that belong to others


CLAIMS = {
    "the node's": ("192.168.12.10", ADDRESS_HELD, "the node's own"),
    "the node's, IPv6": ("fd00:12::10", ADDRESS_HELD, "the node's own"),
    "the node's on its bridge": ("{bridge}", ADDRESS_HELD, "the node's own"),
    "the gateway's": ("192.168.12.1/24", CONFLICT, "{router}"),
    "the gateway's, IPv6": ("fd00:12::1/64", CONFLICT, "{router}"),
    "another egress pod's": ("192.168.12.98/24", ADDRESS_HELD, "shop/"),
    "another pod's": ("{victim}", ADDRESS_HELD, "clusterNetworks"),
    "another pod's, IPv6": ("{victim6}", ADDRESS_HELD, "clusterNetworks"),
    "the cluster's name server's": ("10.96.0.10", ADDRESS_HELD, "clusterNetworks"),
    "a Service's, IPv6": ("fd00:96::10", ADDRESS_HELD, "clusterNetworks"),
    "the metadata service's": ("169.254.169.254", ANNOTATION, "link-local"),
    "Calico's gateway": ("169.254.1.1", ANNOTATION, "link-local"),
    "localhost's": ("127.0.0.1", ANNOTATION, "loopback"),
    "everybody's on the LAN": ("192.168.12.255/24", ANNOTATION, "broadcast"),
    "everybody's": ("255.255.255.255", ANNOTATION, "broadcast"),
    "a group's": ("224.0.0.18", ANNOTATION, "multicast"),
    "a group's, IPv6": ("ff02::1", ANNOTATION, "multicast"),
}


@pytest.mark.parametrize("whose", CLAIMS)
def test_address_that_is_another_ones_is_refused(lab: Lab, victim: Pod, pod: Pod, whose: str) -> None:
    address, code, words = CLAIMS[whose]
    bridge = next(one.partition("/")[0] for one in lab.node.addresses("cni0") if ":" not in one)
    known = {
        "bridge": bridge, "victim": victim.address, "victim6": victim.address6, "router": lab.lan.mac("br0"),
    }  # fmt: skip
    gateway = "192.168.12.254" if address.startswith("192.168.12.1/") else ROUTER4
    if (":" in address and "{" not in address) or whose.endswith("IPv6"):
        gateway = "fd00:12::fe"
    wish = source(address.format(**known), gateway)
    answer = lab.node.add(pod, wish, conf=CLUSTER)
    answer.refused(code, words.format(**known))
    assert not pod.link("macvlan0")
    assert not os.path.exists(lab.node.record(pod))


@pytest.mark.parametrize("family", [4, 6])
def test_address_that_the_pod_has_already_is_refused(lab: Lab, pod: Pod, family: int) -> None:
    """Two interfaces with one address: answers would leave by whichever comes first."""
    own = {4: pod.address, 6: pod.address6}[family]
    wish = source(own, {4: ROUTER4, 6: "fd00:12::1"}[family])
    lab.node.add(pod, wish, conf=OFF).refused(ADDRESS_HELD, own, "the pod's own")
    assert not pod.link("macvlan0")


# -- MAC addresses that belong to others


@pytest.mark.parametrize(
    "whose", ["the router's", "the node's", "another egress pod's", "a port's of the bridge"]
)
def test_mac_address_that_is_another_ones_is_refused(lab: Lab, victim: Pod, pod: Pod, whose: str) -> None:
    """A switch would send the router's traffic to the node. A pod may choose its own only where nothing is limited."""
    mac = {
        "the router's": lab.lan.mac("br0"),
        "the node's": lab.node.mac(),
        "another egress pod's": victim.mac("macvlan0"),
        "a port's of the bridge": lab.node.mac("cni0"),
    }[whose]
    answer = lab.node.add(pod, source("192.168.12.99/24", mac=mac), conf={**OFF, **LIMITED})
    answer.refused(NOT_ALLOWED, mac)
    if whose != "the router's":  # where nothing is limited either
        answer = lab.node.add(pod, source("192.168.12.99/24", mac=mac), conf=OFF)
        assert answer.json["code"] in (CONFIGURATION, MASTER_UNUSABLE)
    assert not pod.link("macvlan0")


@pytest.mark.parametrize("mac", ["kernel", "address"])
def test_mac_address_that_is_nobody_elses_may_be_had(lab: Lab, pod: Pod, mac: str) -> None:
    lab.node.add(pod, source("192.168.12.99/24", mac=mac), conf={**OFF, **LIMITED}).ok()
    lab.node.delete(pod).ok()


# -- the whole NIC


def test_passthru_does_not_take_the_nic_from_the_node(lab: Lab) -> None:
    """The interface would get all that arrives at the NIC, and the node would be off the LAN."""
    node = lab.another_node("192.168.12.30")
    pod = node.pod()
    with unchanged(node, pod):
        answer = node.add(pod, source("192.168.12.99/24", mode="passthru"), conf=OFF)
        answer.refused(MASTER_UNUSABLE, "passthru", "192.168.12.30")
    assert node.reach(lab.lan, ROUTER4) == "192.168.12.30"
    node.ip(f"link add link eth0 name taken0 netns {pod.name} type macvlan mode passthru")
    pod.ip("link set taken0 up")
    assert node.reach(lab.lan, ROUTER4, timeout=0.3) is None, "the attack itself is none"


# -- names that lead somewhere else


def test_name_of_a_destination_does_not_lead_to_the_node(lab: Lab, victim: Pod, pod: Pod) -> None:
    """Whoever owns the name may let it lead anywhere (DNS rebinding); see also tests/redirect/test_names.py."""
    with Resolver(lab.node) as resolver:
        for address in ("192.168.12.10", *(one.partition("/")[0] for one in lab.node.addresses("cni0"))):
            resolver.names["evil.example.com"] = (address,)
            version6 = ":" in address
            wish = source(
                "fd00:12::97/64" if version6 else "192.168.12.97/24",
                "fd00:12::1" if version6 else ROUTER4,
                destination="80 tcp evil.example.com",
            )
            resolver.add(pod, wish, conf=OFF).refused(ADDRESS_HELD, address, "the node itself")
            assert not pod.link("macvlan0")


@pytest.mark.parametrize(
    "target",
    [
        "169.254.169.254", "127.0.0.1", "::1", "fe80::1", "0.0.0.0", "::", "::ffff:10.96.0.1", "224.0.0.1",
        "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "localhost", "10.96.0.1.", "169.254.169.254.", "fd00:12::1%eth0",
    ],
)  # fmt: skip
def test_destination_that_is_inside_is_refused_however_it_is_spelt(lab: Lab, pod: Pod, target: str) -> None:
    wish = source("192.168.12.97/24,fd00:12::97/64", f"{ROUTER4},fd00:12::1", destination=f"80 tcp {target}")
    lab.node.add(pod, wish, conf={**OFF, **CLUSTER}).refused(ANNOTATION, "line 1")
    assert not pod.link("macvlan0")


@pytest.mark.parametrize("target", ["10.96.0.1", "10.244.0.1", "fd00:96::1"])
def test_destination_in_the_cluster_is_refused(lab: Lab, pod: Pod, target: str) -> None:
    wish = source("192.168.12.97/24,fd00:12::97/64", f"{ROUTER4},fd00:12::1", destination=f"80 tcp {target}")
    lab.node.add(pod, wish, conf={**OFF, **CLUSTER}).refused(ANNOTATION, target)
    assert not pod.link("macvlan0")


# -- texts that somebody else understands otherwise


HOSTILE = {
    "an escape sequence": "\x1b]0;evil\x07\x1b[2J",
    "a line": 'a\n{"level": "info"}',
    "a quote": 'a" } ; flush ruleset #',
    "a label": 'a"} 1\nmacvlan_egress_up 0\nx{y="',
    "a path": "../../../../tmp/evil",
    "a command": "$(touch /tmp/evil)`id`",
    "the other direction": "\u202egpj.sserge\u2066",
    "no Unicode": "\udcff\udcfe",
    "a NUL in words": "a\\u0000b",
    "a format": "%s%n{0}{pod}",
}


@pytest.mark.parametrize(
    ("namespace", "name"), list(zip(list(HOSTILE)[::2], list(HOSTILE)[1::2], strict=True))
)
def test_hostile_names_stay_names(lab: Lab, pod: Pod, tmp_path: Path, namespace: str, name: str) -> None:
    """The pod's and its namespace's, as CNI_ARGS brings them; Kubernetes allows no such name, others may."""
    node = lab.node
    texts = [HOSTILE[one].replace(";", ",") for one in (namespace, name)]
    pod.args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={texts[0]};K8S_POD_NAME={texts[1]}"
    before, node.log_file = node.log_file, str(tmp_path / "log")
    try:
        wish = source("192.168.12.99/24", destination=DESTINATION)
        answer = node.add(pod, wish, conf={**OFF, "allow": [{"namespaces": ["x"]}]})
        answer.refused(NOT_ALLOWED)
        assert_printable(answer.stderr.removesuffix("\n"))
        answer = node.add(pod, wish, conf=OFF)
        assert_printable(answer.stderr.removesuffix("\n"))
        if answer.status == 0:  # a record holds Unicode text only
            shown = status(node)
            assert_printable(shown)
            assert len(shown.splitlines()) == len(SHOWN)
            assert pod.run("nft", "list", "tables") == "table inet macvlan_egress\n"
            json.loads(command(node, "status", "--json", "--state-dir", node.state_dir))
            node.check(pod).ok()
            node.delete(pod).ok()
        assert len(log_lines(node)) >= 2
        assert not os.path.exists("/tmp/evil")
    finally:
        node.log_file = before


SHOWN = ("the head", "the victim", "the pod", "its line", "what was sent on", "what was refused")
NAMES = (
    "source",
    "gateway",
    "destination",
    "routes",
    "mac",
    "mtu",
    "mode",
    "unknown\n",
    "\x1b[31m",
    "\u202e",
    "",
)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_annotation_is_refused_in_words_of_one_line(lab: Lab, pod: Pod, kind: str) -> None:
    """Whichever of them, known or not."""
    node = lab.node
    for name in NAMES:
        wish = {**source("192.168.12.99/24"), f"macvlan-egress/{name}": HOSTILE[kind]}
        asked = node.request(pod, wish, conf=OFF)
        variables = {"CNI_COMMAND": "ADD", "CNI_PATH": node.bin_dir, **asked.environment}
        document = wire.decode(asked.stdin)
        code, output, words = within(node.path, lambda v=variables, d=document: entry.respond(v, lambda: d))
        Answer(code, output, words).check().refused(ANNOTATION)
        assert_printable(words.removesuffix("\n"))
        assert len(output) < 2000


@pytest.mark.parametrize(
    "kind", ["an escape sequence", "a line", "a quote", "a path", "no Unicode", "a command"]
)
def test_hostile_name_of_a_nic_is_refused_in_words_of_one_line(lab: Lab, pod: Pod, kind: str) -> None:
    answer = lab.node.add(pod, {ASSIGN: HOSTILE[kind]}, conf=OFF)
    answer.refused(ANNOTATION)
    assert_printable(answer.stderr.removesuffix("\n"))


def test_no_name_becomes_a_label_of_the_metrics(lab: Lab, victim: Pod) -> None:
    """Labels are verbs and codes, and what is no verb is counted under one name."""
    counters = Counters(1, 1)
    slot = counters.slots[0]
    for verb in HOSTILE.values():
        slot.end(0, slot.begin(0), verb, 4)
        slot.idle(0)
    text = Metrics(lab.node.state_dir, lab.node.run_dir, counters).text()
    assert_printable(text)
    assert "evil" not in text
    assert text.count("\nmacvlan_egress_up ") == 1
    assert f'calls_total{{verb="other",code="4"}} {len(HOSTILE)}' in text


# -- too much


def lines(count: int) -> str:
    return "\n".join(f"{number + 1} tcp 203.0.{number >> 8}.{number & 255}" for number in range(count))


def addresses(count: int) -> str:
    return "80 tcp " + ",".join(f"203.{number >> 8}.{number & 255}.9" for number in range(count))


@pytest.mark.parametrize("text", [lines, addresses])
def test_work_grows_with_the_annotation_and_not_with_its_square(text: Callable[[int], str]) -> None:
    """Kubernetes allows 256 KiB, of a pod that nobody has granted anything; it is read before that is known."""

    def calls(count: int) -> int:
        profile = cProfile.Profile()
        profile.runcall(destinations.parse, text(count))
        return sum(one.callcount for one in profile.getstats())

    calls(10)
    assert calls(2000) < 3 * calls(1000)


@pytest.mark.parametrize("what", ["many lines", "one line", "one word", "many addresses", "many annotations"])
def test_huge_annotation_is_refused_in_few_words(lab: Lab, pod: Pod, tmp_path: Path, what: str) -> None:
    node, size = lab.node, 250_000
    value = {
        "many lines": lines(12_000) + "\nx",
        "one line": "80 tcp 203.0.113.25 " * (size // 20),
        "one word": "a" * size,
        "many addresses": addresses(16_000) + ",x",
        "many annotations": "",
    }[what]
    wish = source("192.168.12.99/24", destination=value)
    if what == "many annotations":
        wish |= {f"macvlan-egress/{number}": "x" for number in range(10_000)}
    before, node.log_file = node.log_file, str(tmp_path / "log")
    try:
        answer = node.add(pod, wish, conf=OFF)
    finally:
        node.log_file = before
    answer.refused(ANNOTATION)
    assert len(answer.stdout) + len(answer.stderr) < 4000
    assert (tmp_path / "log").stat().st_size < 4000
    assert not os.path.exists(node.record(pod))
