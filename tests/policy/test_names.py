"""Names in policies, asked of the node's own name server."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest
from lab import Lan, Namespace, Node, source

from .commands import Commands
from .documents import EVERYTHING, Policies, allow, deny
from .name_server import NameServer, let_time_pass
from .sink import ALLOWED, CLUSTER, DENIED, FREE, Sink

NAME = "api.bank.example"
OTHERS = {ALLOWED, FREE}
MOST_ADDRESSES = 1024  # docs/policies.md says nothing of more


@pytest.fixture
def sink(lan: Lan, outside: Namespace) -> Sink:
    return Sink(lan, outside)


@pytest.fixture
def server(node: Node) -> Iterator[NameServer]:
    with NameServer(node) as server:
        yield server


@pytest.fixture
def commands(policies: Policies, server: NameServer) -> Commands:
    return Commands(policies, server.wrapper)


def test_name_follows_its_addresses(
    node: Node, policies: Policies, server: NameServer, commands: Commands, sink: Sink
) -> None:
    server.tell(NAME, [ALLOWED, "2001:db8:113::26"])
    policies.write(allow(NAME), *map(deny, EVERYTHING))
    pod = node.pod()
    server.add(policies, pod, source("192.168.12.99/24")).ok()
    assert sink.reached(pod) == {ALLOWED}
    assert commands.status()["names"][NAME]["addresses"] == [ALLOWED, "2001:db8:113::26"]
    server.tell(NAME, [FREE, DENIED])
    commands.sync()
    assert sink.reached(pod) == {ALLOWED}, "the time to live is not over"
    let_time_pass(node)
    assert "the addresses of its names have" in commands.sync()
    assert sink.reached(pod) == {FREE, DENIED}
    assert "all is in force" in commands.sync()
    node.check(pod).ok()
    node.delete(pod).ok()
    assert policies.table() == []


def test_denied_name_is_denied_in_its_place_among_the_rules(
    node: Node, policies: Policies, server: NameServer, commands: Commands, sink: Sink
) -> None:
    server.tell(NAME, [DENIED, ALLOWED])
    policies.write(allow(f"{ALLOWED}/32"), deny(NAME))
    pod = node.pod()
    server.add(policies, pod).ok()
    assert sink.reached(pod) == OTHERS
    policies.write(deny(NAME), allow(f"{ALLOWED}/32"))
    commands.sync()
    assert sink.reached(pod) == {FREE}


def test_last_good_answer_stays_while_nobody_answers(
    node: Node, policies: Policies, server: NameServer, commands: Commands, sink: Sink
) -> None:
    server.tell(NAME, [ALLOWED])
    policies.write(allow(NAME), *map(deny, EVERYTHING))
    pod = node.pod()
    server.add(policies, pod).ok()
    server.stop()
    let_time_pass(node)
    assert f"name {NAME}" in commands.sync(status=1)
    assert sink.reached(pod) == {ALLOWED}
    (found,) = commands.status()["names"].values()
    assert found["addresses"] == [ALLOWED]
    assert "127.0.0.1" in found["error"]
    assert re.search(rf"name {NAME}: {ALLOWED}; ! .*127\.0\.0\.1", commands.on_node("status"))
    late = node.pod()
    server.add(policies, late).ok()
    assert sink.reached(late) == {ALLOWED}, "and holds for pods that come meanwhile"
    server.start()
    let_time_pass(node)
    commands.sync()
    assert commands.status()["names"][NAME]["error"] == ""


def test_old_addresses_hold_until_the_new_ones_are_there(
    node: Node, policies: Policies, server: NameServer, commands: Commands, sink: Sink
) -> None:
    """A sync that waits for a silent server takes nothing away."""
    server.tell(NAME, [ALLOWED])
    policies.write(allow(NAME), *map(deny, EVERYTHING))
    pod = node.pod()
    server.add(policies, pod).ok()
    server.fall_silent()
    let_time_pass(node)
    outcome: list[str] = []
    thread = threading.Thread(target=lambda: outcome.append(commands.sync(status=1)))
    thread.start()
    asked = 0
    while thread.is_alive():
        assert sink.reached(pod) == {ALLOWED}
        asked += 1
        thread.join(0.05)
    assert asked > 1
    assert "no valid answer" in outcome[0]
    assert sink.reached(pod) == {ALLOWED}


def test_silent_server_delays_an_add_and_does_not_stop_it(
    node: Node, policies: Policies, server: NameServer, commands: Commands, sink: Sink
) -> None:
    server.tell(NAME, [ALLOWED])
    policies.write(allow(NAME), allow(f"{FREE}/32"), *map(deny, EVERYTHING))
    server.fall_silent()
    pod = node.pod()
    server.add(policies, pod).ok()
    assert sink.reached(pod) == {FREE}
    assert commands.status()["names"][NAME]["error"]
    server.stop()
    server.start()
    let_time_pass(node)
    commands.sync()
    assert sink.reached(pod) == OTHERS


def test_name_that_does_not_exist_is_reported(
    node: Node, policies: Policies, server: NameServer, commands: Commands, sink: Sink
) -> None:
    policies.write(allow("nobody.example"), *map(deny, EVERYTHING))
    pod = node.pod()
    server.add(policies, pod).ok()
    assert sink.reached(pod) == set()
    assert "NXDOMAIN" in commands.on_node("status")


def test_name_may_not_lead_into_the_cluster(
    node: Node, policies: Policies, server: NameServer, commands: Commands, sink: Sink
) -> None:
    server.tell(NAME, [CLUSTER, "fd00:244::7", "127.0.0.1", "169.254.169.254", ALLOWED])
    policies.write(allow(NAME), *map(deny, EVERYTHING))
    pod = node.pod()
    server.add(policies, pod).ok()
    assert sink.reached(pod) == {ALLOWED}
    found = commands.status()["names"][NAME]
    assert found["addresses"] == [ALLOWED]
    for address in (CLUSTER, "fd00:244::7", "127.0.0.1", "169.254.169.254"):
        assert address in found["error"]
    assert "refused" in commands.on_node("status")
    let_time_pass(node)
    assert f"name {NAME}: refused" in commands.sync(status=1)


@pytest.mark.parametrize("count", [MOST_ADDRESSES, MOST_ADDRESSES + 300])
def test_huge_answer_is_used_up_to_its_bound(
    node: Node, policies: Policies, server: NameServer, commands: Commands, sink: Sink, count: int
) -> None:
    many = [f"198.18.{number >> 8}.{number & 255}" for number in range(count - 1)]
    server.tell(NAME, [*many, ALLOWED])
    policies.write(deny(NAME), allow("0.0.0.0/0"))
    pod = node.pod()
    server.add(policies, pod).ok()
    found = commands.status()["names"][NAME]
    assert len(found["addresses"]) == MOST_ADDRESSES
    assert (f"only the first {MOST_ADDRESSES} of {count}" in found["error"]) == (count > MOST_ADDRESSES)
    assert sink.reached(pod) == ({DENIED, *OTHERS} if count > MOST_ADDRESSES else {DENIED, FREE})


@pytest.mark.parametrize("refresh", ["sync", "add"])
def test_counters_survive_when_addresses_change(
    node: Node, policies: Policies, server: NameServer, commands: Commands, sink: Sink, refresh: str
) -> None:
    """The same policy goes on counting, whoever it is that asks for the name anew."""

    def packets() -> dict[str, int]:
        rules = commands.status()["namespaces"]["shop"]["rules"]
        return {number: rule["packets"] for number, rule in rules.items()}

    server.tell(NAME, [ALLOWED])
    policies.write(allow(NAME), deny("203.0.113.0/24"))
    pod = node.pod()
    server.add(policies, pod).ok()
    sink.reached(pod)
    once = packets()
    assert once == {"1": 3, "2": 6}
    server.tell(NAME, [ALLOWED, FREE])
    let_time_pass(node)
    if refresh == "sync":
        commands.sync()
    else:
        server.add(policies, node.pod()).ok()
    assert packets() == once
    sink.reached(pod)
    assert packets() == {"1": 9, "2": 9}
    commands.sync()
    assert packets() == {"1": 9, "2": 9}
    policies.write(allow(NAME), deny("203.0.113.0/25"))
    commands.sync()
    assert packets() == {"1": 0, "2": 0}, "another policy counts anew"


def test_names_of_policies_without_pods_are_not_asked_for(
    node: Node, policies: Policies, server: NameServer, commands: Commands
) -> None:
    server.tell(NAME, [ALLOWED])
    policies.write(allow(NAME), namespace="bank")
    pod = node.pod()
    server.add(policies, pod).ok()
    commands.sync()
    assert commands.status()["names"] == {}


def test_explain_knows_the_addresses_of_a_name(
    node: Node, policies: Policies, server: NameServer, commands: Commands
) -> None:
    server.tell(NAME, [ALLOWED])
    server.tell("other.example", [DENIED, FREE])
    policies.write(allow(NAME), allow(f"{FREE}/32"), *map(deny, EVERYTHING))
    text = commands.on_node("explain", "shop", f"{NAME}:443/tcp")
    assert f"{ALLOWED} (tcp 443): allowed" in text
    assert "rule 1" in text
    assert re.search(rf"{NAME}: {ALLOWED}, for \d+ s", text)
    text = commands.on_node("explain", "shop", "other.example", status=1)
    assert f"{FREE}: allowed" in text
    assert f"{DENIED}: denied" in text
    path = str(policies.directory / "shop.json")
    assert f"{ALLOWED}: allowed" in commands.on_node("explain", "shop", NAME, "-f", path)
    assert "no address is known" in commands.on_node("explain", "shop", "nobody.example", status=1)


def test_follow_asks_again_when_the_time_to_live_is_over(node: Node, policies: Policies, sink: Sink) -> None:
    with NameServer(node, ttl=1) as server:
        server.tell(NAME, [ALLOWED])
        policies.write(allow(NAME), *map(deny, EVERYTHING))
        pod = node.pod()
        server.add(policies, pod).ok()
        with Commands(policies, server.wrapper).following() as output:
            output.expect("all is in force")
            server.tell(NAME, [FREE])
            output.expect("the addresses of its names have")
            assert sink.reached(pod) == {FREE}
