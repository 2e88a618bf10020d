"""`macvlan-egress policy` as an admin uses it: words, exit statuses, and what they say of the kernel."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lab import Lan, Namespace, Node, source

from .commands import Commands
from .documents import CLUSTER as CLUSTER_NETWORKS
from .documents import EVERYTHING, Policies, allow, deny, document
from .sink import ALLOWED, DENIED, FREE, Sink

EGRESS = source("192.168.12.99/24", "192.168.12.1")
OTHERS = {ALLOWED, FREE}


@pytest.fixture
def sink(lan: Lan, outside: Namespace) -> Sink:
    return Sink(lan, outside)


@pytest.fixture
def commands(policies: Policies) -> Commands:
    return Commands(policies)


# -- validate


def test_validate_accepts_what_the_documentation_shows(commands: Commands, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/policies.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "shop.yaml"
    path.write_text(example)
    text = commands.run("validate", str(path))
    assert f"EgressNetworkPolicy shop in {path}: ok: namespace shop, 4 rules" in text


def test_validate_reads_files_and_directories(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/bank.yaml").write_text(
        json.dumps(document(allow("*.bank.example"), deny("0.0.0.0/0"), namespace="bank"))
    )
    firewall = json.loads((tmp_path / "more/bank.yaml").read_text())
    firewall |= {"kind": "EgressFirewall", "apiVersion": "k8s.ovn.org/v1"}
    firewall["metadata"]["name"] = "default"
    (tmp_path / "more/bank.yaml").write_text(json.dumps(firewall))
    (tmp_path / "shop.json").write_text(json.dumps(document(deny("0.0.0.0/0"))))
    text = commands.run("validate", str(tmp_path / "shop.json"), str(tmp_path / "more"))
    assert "namespace shop, 1 rules" in text
    assert "namespace bank, 2 rules" in text
    assert "rule 1: *.bank.example cannot be resolved" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("kind: [", ()),
        ("{}", ("error: ",)),
        ("", ("error: ",)),
        (json.dumps(document(deny("203.0.113.1/24"))), ("203.0.113.1/24", "rule 1")),
        (json.dumps({**document(deny("0.0.0.0/0")), "kind": "NetworkPolicy"}), ("NetworkPolicy",)),
        (json.dumps(document(deny("*.bank.example"))), ("*.bank.example",)),
        (json.dumps([document(deny("0.0.0.0/0"))]), ("error: ",)),
        ("---\n".join([json.dumps(document(deny("0.0.0.0/0"))) + "\n"] * 2), ("2 policies",)),
    ],
)
def test_validate_says_what_is_wrong(
    commands: Commands, tmp_path: Path, content: str, words: tuple[str, ...]
) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(content)
    text = commands.run("validate", str(path), status=1)
    for word in (*words, str(path) if content else ""):
        assert word in text
    assert "error" in text


def test_validate_of_a_missing_file_fails(commands: Commands, tmp_path: Path) -> None:
    assert "nothing.yaml" in commands.run("validate", str(tmp_path / "nothing.yaml"), status=1)


# -- explain


@pytest.mark.parametrize(
    ("destination", "status", "words"),
    [
        (ALLOWED, 0, ("allowed", "rule 1")),
        (DENIED, 1, ("denied", "rule 3")),
        (f"{DENIED}:443/tcp", 1, ("(tcp 443): denied", "rule 3")),
        (f"{DENIED}:53/udp", 0, ("(udp 53): allowed", "rule 2")),
        (f"{DENIED}:53", 1, ("(tcp 53): denied",)),
        (f"{DENIED}/icmp", 1, ("denied", "rule 3")),
        ("10.1.2.3", 0, ("allowed",)),
        ("192.168.12.10", 0, ("allowed",)),
        ("198.51.100.1", 0, ("allowed",)),
        ("2001:db8:113::25", 1, ("denied", "rule 4")),
        ("[2001:db8:113::25]:443/tcp", 1, ("(tcp 443): denied", "rule 4")),
        ("fd00:244::9", 0, ("allowed",)),
    ],
)
def test_explain_says_which_rule_decides(
    policies: Policies, commands: Commands, destination: str, status: int, words: tuple[str, ...]
) -> None:
    policies.write(
        allow(f"{ALLOWED}/32"),
        allow(f"{DENIED}/32", ("UDP", 53)),
        deny("203.0.113.0/24"),
        deny("2001:db8::/32"),
    )
    text = commands.on_node("explain", "shop", destination, status=status)
    assert "EgressFirewall default in" in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("malformed", ["203.0.113.25:0", "203.0.113.25:99999", "", ":443", "a b"])
def test_explain_refuses_a_malformed_destination(
    policies: Policies, commands: Commands, malformed: str
) -> None:
    policies.write(*map(deny, EVERYTHING))
    assert "a destination is written" in commands.on_node("explain", "shop", malformed, status=1)


def test_explain_of_a_namespace_without_policy_or_with_a_broken_one(
    policies: Policies, commands: Commands
) -> None:
    assert "has no policy" in commands.on_node("explain", "shop", DENIED)
    policies.write_text('{"kind": "EgressFirewall", "metadata": {"namespace": "shop"}}', "shop.json")
    assert "denied" in commands.on_node("explain", "shop", DENIED, status=1)
    assert "allowed" in commands.on_node("explain", "shop", "10.1.2.3")


def test_explain_says_what_the_kernel_does(
    node: Node, policies: Policies, commands: Commands, sink: Sink
) -> None:
    policies.write(
        allow(f"{ALLOWED}/32", ("UDP", 4000)), deny(f"{DENIED}/32", ("TCP", 4000)), deny("203.0.113.26/31")
    )
    pod = node.pod()
    policies.add(pod).ok()
    reached = sink.reached(pod)
    for address in (DENIED, *OTHERS):
        commands.on_node("explain", "shop", f"{address}:4000/udp", status=int(address not in reached))
    assert reached == {DENIED, ALLOWED}


def test_explain_of_files_needs_no_configuration(commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    path.write_text(json.dumps(document(allow(f"{ALLOWED}/32"), *map(deny, EVERYTHING))))
    assert "allowed" in commands.run("explain", "shop", ALLOWED, "-f", str(path))
    assert "denied" in commands.run("explain", "shop", DENIED, "-f", str(path), status=1)
    assert "has no policy" in commands.run("explain", "bank", DENIED, "-f", str(path))


# -- status


def test_status_of_a_node_without_policies(node: Node, policies: Policies, commands: Commands) -> None:
    assert "no policy is in force" in commands.on_node("status")
    policies.add(node.pod()).ok()
    assert commands.status() == {
        "namespaces": {}, "unattributed": {}, "names": {}, "differences": []
    }  # fmt: skip


def test_status_counts_by_rule(node: Node, policies: Policies, commands: Commands, sink: Sink) -> None:
    policies.write(deny(f"{DENIED}/32"), allow(f"{ALLOWED}/32"))
    pod = node.pod()
    policies.add(pod, EGRESS, conflictTimeoutMs=20).ok()
    sink.reached(pod)
    sink.reached(pod, source="192.168.12.99", last=FREE)
    shop = commands.status()["namespaces"]["shop"]
    assert shop["broken"] == ""
    assert {number: rule["packets"] for number, rule in shop["rules"].items()} == {"1": 6, "2": 6}
    assert shop["counters"]["denied"]["packets"] == 6
    assert shop["counters"]["spared"]["packets"] == 3
    key = f"{pod.container_id}@eth0"
    assert shop["pods"] == [{"attachment": key, "device": f"cali{pod.container_id[:11]}", "side": "host"}]
    assert shop["macvlans"] == [{"attachment": key, "mac": pod.mac("macvlan0"), "nic": "eth0"}]
    text = commands.on_node("status")
    assert "shop: EgressNetworkPolicy policy in" in text
    assert re.search(rf"rule 1: deny .*{DENIED}.*: 6 packets, \d+ bytes", text, re.IGNORECASE)
    assert f"held at cali{pod.container_id[:11]} on the node" in text
    assert f"macvlan {pod.mac('macvlan0')}: held at eth0" in text
    policies.sync()
    assert commands.status()["namespaces"]["shop"]["rules"] == shop["rules"], "nothing has changed"


def test_status_counts_forged_sources(node: Node, policies: Policies, commands: Commands, sink: Sink) -> None:
    policies.write(deny(f"{DENIED}/32"))
    pod = node.pod()
    policies.add(pod).ok()
    pod.ip("address add 10.99.0.1/32 dev eth0")
    assert sink.hears_nothing(pod, "10.99.0.1")
    counted = commands.status()["unattributed"]["forged"]["packets"]
    assert counted >= 3, "and the address is asked for by ARP"
    assert re.search(r"dropped, forged sources: \d+ packets", commands.on_node("status"))


def test_status_says_what_is_closed_and_what_has_been_changed(
    node: Node, policies: Policies, commands: Commands
) -> None:
    policies.write(deny(f"{DENIED}/32"))
    policies.add(node.pod()).ok()
    assert commands.status()["differences"] == []
    node.run("nft", "flush", "chain", "netdev", "macvlan_egress", "ns-shop-denied")
    assert any("ns-shop-denied" in one for one in commands.status(1)["differences"])
    assert "! chain ns-shop-denied" in commands.on_node("status", status=1)
    assert "made anew" in commands.sync()
    policies.write_text('{"kind": "EgressFirewall", "metadata": {"namespace": "shop"}}', "more.json")
    assert "shop" in commands.sync(status=1)
    assert "2 policies" in commands.status(1)["namespaces"]["shop"]["broken"]
    assert "! nothing outside the cluster can be reached" in commands.on_node("status", status=1)


def test_status_names_pods_that_are_held_inside(
    lan: Lan, node: Node, policies: Policies, commands: Commands, sink: Sink
) -> None:
    from .test_lifecycle import pod_on_nic

    policies.write(deny(f"{DENIED}/32"), allow(f"{ALLOWED}/32"))
    pod = pod_on_nic(lan, node)
    policies.add(pod).ok()
    sink.reached(pod)
    shop = commands.status()["namespaces"]["shop"]
    assert [one["side"] for one in shop["pods"]] == ["pod"]
    assert {number: rule["packets"] for number, rule in shop["rules"].items()} == {"1": 3, "2": 3}
    assert "in the pod at eth0, where CAP_NET_ADMIN could undo it" in commands.on_node("status")


def test_commands_need_a_policy_in_the_configuration(node: Node, policies: Policies, tmp_path: Path) -> None:
    path = tmp_path / "10-pods.conflist"
    for deed in (["status"], ["sync"], ["explain", "shop", DENIED]):
        for plugins in ([node.configuration(clusterNetworks=CLUSTER_NETWORKS)], [{"type": "bridge"}]):
            path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}))
            text = Commands(policies).run(*deed, "--conflist", str(path), status=1)
            assert "policy" in text or "no plugin" in text


# -- sync


def test_sync_tells_what_it_has_done(node: Node, policies: Policies, commands: Commands, sink: Sink) -> None:
    pod = node.pod()
    policies.add(pod).ok()
    assert "all is in force: 0 policies, 0 pods" in commands.sync()
    policies.write(deny(f"{DENIED}/32"))
    text = commands.sync()
    assert "namespace shop: EgressNetworkPolicy policy in" in text
    assert f"{pod.container_id}@eth0: held now" in text
    assert sink.reached(pod) == OTHERS
    assert "all is in force: 1 policies, 1 pods" in commands.sync()
    policies.write(deny(f"{ALLOWED}/32"))
    assert "has changed" in commands.sync()
    policies.remove()
    assert "namespace shop: no policy is in force any more" in commands.sync()
    assert sink.reached(pod) == {DENIED, *OTHERS}


def test_sync_forgets_pods_that_have_gone_without_del(
    node: Node, policies: Policies, commands: Commands
) -> None:
    policies.write(deny(f"{DENIED}/32"))
    plain, egress = node.pod(), node.pod()
    policies.add(plain).ok()
    policies.add(egress, EGRESS, conflictTimeoutMs=20).ok()
    for pod in (plain, egress):
        pod.remove()
    text = commands.sync()
    for pod in (plain, egress):
        assert f"{pod.container_id}@eth0: let go" in text
    assert policies.table() == []
    assert policies.files() == []


def test_sync_that_cannot_read_the_documents_changes_nothing(
    node: Node, policies: Policies, commands: Commands, sink: Sink
) -> None:
    policies.write(deny(f"{DENIED}/32"))
    pod = node.pod()
    policies.add(pod).ok()
    (policies.directory / "shop.json").unlink()
    policies.directory.rmdir()
    policies.directory.write_text("")
    assert str(policies.directory) in commands.sync(status=1)
    assert sink.reached(pod) == OTHERS
    node.check(pod).ok()


# -- follow


def test_follow_puts_changes_into_force_by_itself(
    node: Node, policies: Policies, commands: Commands, sink: Sink
) -> None:
    policies.write(deny(f"{DENIED}/32"))
    pod = node.pod()
    policies.add(pod).ok()
    with commands.following() as output:
        output.expect("all is in force: 1 policies, 1 pods")
        policies.write(deny(f"{ALLOWED}/32"))
        output.expect("has changed")
        assert sink.reached(pod) == {DENIED, FREE}
        policies.write_text("{}", "broken.json")
        output.expect("broken.json")
        policies.write(deny(f"{DENIED}/32"))
        output.expect("has changed", "broken.json")
        assert sink.reached(pod) == OTHERS
        policies.remove()
        output.expect("no policy is in force any more")
        assert sink.reached(pod) == {DENIED, *OTHERS}
    node.delete(pod).ok()


def test_follow_goes_on_when_the_directory_cannot_be_read(
    node: Node, policies: Policies, commands: Commands, sink: Sink
) -> None:
    policies.write(deny(f"{DENIED}/32"))
    pod = node.pod()
    policies.add(pod).ok()
    with commands.following() as output:
        output.expect("all is in force")
        (policies.directory / "shop.json").unlink()
        policies.directory.rmdir()
        policies.directory.write_text("")
        output.expect("cannot read")
        assert sink.reached(pod) == OTHERS
        policies.directory.unlink()
        policies.directory.mkdir()
        policies.write(deny(f"{ALLOWED}/32"))
        output.expect("has changed")
        assert sink.reached(pod) == {DENIED, FREE}


def test_follow_ends_while_nothing_happens(policies: Policies, commands: Commands) -> None:
    with commands.following() as output:
        output.expect("all is in force")
