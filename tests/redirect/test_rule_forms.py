"""Every form that a line may have: what is sent to the pod arrives where the line says, under the egress source."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator

import pytest
from lab import Lan, Namespace, Node, Pod
from lab.network import OUTSIDE4, OUTSIDE6
from lab.traffic import exchange, ping

from .asking import EGRESS4, OFF, egress, of_the_macvlan, own, redirect, senders

SERVERS = {4: OUTSIDE4, 6: OUTSIDE6}
CHOICE = {
    4: tuple(f"203.0.113.{number}" for number in (25, 26, 27, 28)),
    6: tuple(f"2001:db8:113::{number}" for number in (25, 26, 27, 28)),
}

PROTOCOLS = ("tcp", "udp", "sctp")

# name of the form: its lines for one protocol and server, and which ports lead where
FORMS = {
    "port kept": ("8080 {protocol} {server}", {8080: 8080}),
    "target port": ("8080 {protocol} {server} 80", {8080: 80}),
    "range kept": ("8000-8010 {protocol} {server}", {8000: 8000, 8004: 8004, 8010: 8010}),
    "range to one port": ("8000-8010 {protocol} {server} 80", {8000: 80, 8004: 80, 8010: 80}),
    "ends of the ports": ("1 {protocol} {server} 65535\n65535 {protocol} {server} 1", {1: 65535, 65535: 1}),
    "all ports": ("1-65535 {protocol} {server}", {1: 1, 443: 443, 65535: 65535}),
    "capitals, comments, blanks": ("# shop\n\n\t8080   {capitals}  {server}\t80  \n   # end", {8080: 80}),
}


@pytest.mark.parametrize("form", FORMS)
def test_form(node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod, form: str) -> None:
    text, ports = FORMS[form]
    lines = [
        text.format(protocol=protocol, capitals=protocol.upper(), server=server)
        for server in SERVERS.values()
        for protocol in PROTOCOLS
    ]
    node.add(pod, redirect(*lines), conf=OFF).ok()
    with lan.capture() as wire:
        for version, server in SERVERS.items():
            for protocol, (local, remote) in itertools.product(PROTOCOLS, ports.items()):
                visit = exchange(protocol, client, (own(pod, version), local), outside, remote)
                assert (visit.source, visit.target) == (egress(server), server), (protocol, local)
            assert senders(wire, server) == of_the_macvlan(pod, egress(server))


@pytest.mark.parametrize("port_lines", ["", "8080 {protocol} {server} 80"], ids=["alone", "after-a-port"])
def test_whole_address_takes_what_no_other_line_takes(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod, port_lines: str
) -> None:
    lines = []
    for server in SERVERS.values():
        lines += [port_lines.format(protocol=protocol, server=server) for protocol in PROTOCOLS]
        lines.append(server)
    node.add(pod, redirect(*lines), conf=OFF).ok()
    with lan.capture() as wire:
        for version, server in SERVERS.items():
            for protocol, local in itertools.product(PROTOCOLS, (1, 80, 8080, 65535)):
                remote = 80 if port_lines and local == 8080 else local
                visit = exchange(protocol, client, (own(pod, version), local), outside, remote)
                assert (visit.source, visit.target) == (egress(server), server), (protocol, local)
            assert senders(wire, server) == of_the_macvlan(pod, egress(server))


def test_ports_beside_the_lines_stay_the_pods_own(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod
) -> None:
    """Neighbouring ports, and the same port of another protocol."""
    lines = [
        f"{first}-{first + 10} {protocol} {server} 80"
        for first, protocol in zip((8000, 8020, 8040), PROTOCOLS, strict=True)
        for server in SERVERS.values()
    ]
    node.add(pod, redirect(*lines), conf=OFF).ok()
    with lan.capture() as wire:
        for version, (first, taken), protocol in itertools.product(
            SERVERS, zip((8000, 8020, 8040), PROTOCOLS, strict=True), PROTOCOLS
        ):
            for port in (first - 1, first, first + 11):
                if protocol == taken and port == first:
                    continue
                visit = exchange(protocol, client, (own(pod, version), port), pod, port)
                assert (visit.source, visit.target) == (own(client, version), own(pod, version))
        assert senders(wire, *SERVERS.values()) == set()


def test_one_port_of_several_protocols_leads_to_several_servers(
    node: Node, outside: Namespace, pod: Pod, client: Pod
) -> None:
    for_protocol = dict(zip(("tcp", "udp", "sctp"), CHOICE[4], strict=False))
    lines = [f"53 {protocol} {server} 5353" for protocol, server in for_protocol.items()]
    node.add(pod, redirect(*lines, families=(4,)), conf=OFF).ok()
    for protocol, server in for_protocol.items():
        assert exchange(protocol, client, (pod.address, 53), outside, 5353).target == server


@pytest.mark.parametrize("version", [4, 6])
def test_echo_is_answered_by_a_whole_address_and_else_by_the_pod(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod, version: int
) -> None:
    port_line, whole = f"80 tcp {SERVERS[version]}", SERVERS[version]
    node.add(pod, redirect(port_line, families=(version,)), conf=OFF).ok()
    assert ping(client, own(pod, version), pod).source == own(client, version)
    node.delete(pod).ok()
    node.add(pod, redirect(port_line, whole, families=(version,)), conf=OFF).ok()
    with lan.capture() as wire:
        for _ in range(2):
            visit = ping(client, own(pod, version), outside)
            assert (visit.source, visit.target) == (egress(whole), whole)
        assert senders(wire, whole) == of_the_macvlan(pod, egress(whole))


def test_datagrams_larger_than_the_mtu_pass_in_fragments(
    node: Node, outside: Namespace, pod: Pod, client: Pod
) -> None:
    node.add(pod, redirect(OUTSIDE4, OUTSIDE6), conf=OFF).ok()
    for address in (pod.address, pod.address6):
        assert ping(client, address, outside, payload=8000).source == egress(address)


@pytest.mark.parametrize(
    ("version", "form"),
    [(4, "8080 tcp {choice}"), (4, "8080 tcp {choice} 80"), (4, "{choice}"), (6, "8080 tcp {choice} 80")],
)
def test_several_addresses_share_the_clients_and_each_client_keeps_its_own(
    node: Node, lan: Lan, outside: Namespace, version: int, form: str
) -> None:
    clients = _addresses(version)
    host = _client_with(lan, node, *clients)
    line = form.format(choice=",".join(CHOICE[version]))
    port = 80 if line.endswith(" 80") else 8080

    def targets_of(pod: Pod) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {address: set() for address in clients}
        for address in [*clients, *clients, *clients]:
            visit = exchange("tcp", host, (own(pod, version), 8080), outside, port, source=address)
            assert visit.source == egress(address)
            found[address].add(visit.target)
        return found

    pod = node.pod()
    node.add(pod, redirect(line), conf=OFF).ok()
    chosen = targets_of(pod)
    assert all(len(targets) == 1 for targets in chosen.values()), "a client is sent now here, now there"
    shares = Counter(target for targets in chosen.values() for target in targets)
    assert set(shares) == set(CHOICE[version])
    assert max(shares.values()) <= len(clients) / 2
    node.delete(pod).ok()
    successor = node.pod()
    node.add(successor, redirect(line), conf=OFF).ok()
    assert targets_of(successor) == chosen


def test_client_keeps_its_address_with_every_protocol_and_port(
    node: Node, outside: Namespace, pod: Pod, client: Pod
) -> None:
    node.add(pod, redirect(",".join(CHOICE[4]), families=(4,)), conf=OFF).ok()
    visits = [
        exchange(protocol, client, (pod.address, port), outside, port)
        for protocol in ("tcp", "udp", "sctp")
        for port in (80, 443)
    ]
    visits.append(ping(client, pod.address, outside))
    assert len({visit.target for visit in visits}) == 1
    assert {visit.source for visit in visits} == {EGRESS4}


def test_lines_may_lead_to_the_same_ports(node: Node, outside: Namespace, pod: Pod, client: Pod) -> None:
    """Ports that meet, overlap or are the same at the server, in one protocol or in several."""
    lines = (
        f"8000-8010 tcp {OUTSIDE4}",
        f"9000 tcp {OUTSIDE4} 8005",
        f"8011-8020 tcp {OUTSIDE4}",
        f"9001-9005 tcp {OUTSIDE4} 8005",
        f"8000-8010 udp {OUTSIDE4}",
        f"9000 udp {OUTSIDE4} 8005",
        f"80 tcp {OUTSIDE6}",
        f"81 tcp {OUTSIDE6} 80",
        f"70-90 udp {OUTSIDE6}",
        OUTSIDE4,
    )
    node.add(pod, redirect(*lines), conf=OFF).ok()
    for protocol, address, local, remote in (
        ("tcp", pod.address, 8005, 8005),
        ("tcp", pod.address, 9000, 8005),
        ("tcp", pod.address, 9003, 8005),
        ("tcp", pod.address, 8011, 8011),
        ("udp", pod.address, 8010, 8010),
        ("udp", pod.address, 9000, 8005),
        ("tcp", pod.address6, 80, 80),
        ("tcp", pod.address6, 81, 80),
        ("udp", pod.address6, 80, 80),
    ):
        visit = exchange(protocol, client, (address, local), outside, remote)
        assert visit.source == egress(address), (protocol, local)
    assert exchange("tcp", pod, (OUTSIDE4, 8005), outside, 8005).source == EGRESS4
    node.check(pod).ok()


def test_all_forms_together(node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod) -> None:
    lines = (
        "80 tcp 203.0.113.26 8080",
        "443 tcp 203.0.113.27",
        "8000-8010 udp 203.0.113.28",
        "9000-9010 udp 203.0.113.27 53",
        "80 tcp 2001:db8:113::26 8080",
        "7000 sctp 2001:db8:113::27",
        OUTSIDE4,
        OUTSIDE6,
    )
    node.add(pod, redirect(*lines), conf=OFF).ok()
    with lan.capture() as wire:
        for protocol, address, local, target, remote in (
            ("tcp", pod.address, 80, "203.0.113.26", 8080),
            ("tcp", pod.address, 443, "203.0.113.27", 443),
            ("udp", pod.address, 8007, "203.0.113.28", 8007),
            ("udp", pod.address, 9007, "203.0.113.27", 53),
            ("udp", pod.address, 80, OUTSIDE4, 80),
            ("tcp", pod.address, 8007, OUTSIDE4, 8007),
            ("sctp", pod.address, 7000, OUTSIDE4, 7000),
            ("tcp", pod.address6, 80, "2001:db8:113::26", 8080),
            ("sctp", pod.address6, 7000, "2001:db8:113::27", 7000),
            ("udp", pod.address6, 8007, OUTSIDE6, 8007),
        ):
            visit = exchange(protocol, client, (address, local), outside, remote)
            assert (visit.source, visit.target) == (egress(address), target), (protocol, local)
        assert senders(wire, *CHOICE[4], *CHOICE[6]) == of_the_macvlan(pod, EGRESS4, egress(OUTSIDE6))


def test_five_hundred_lines(node: Node, outside: Namespace, pod: Pod, client: Pod) -> None:
    lines = [f"{10000 + number} tcp {CHOICE[4][number % 4]} {20000 + number}" for number in range(500)]
    node.add(pod, redirect(*lines, families=(4,)), conf=OFF).ok()
    for number in (0, 1, 250, 499):
        visit = exchange("tcp", client, (pod.address, 10000 + number), outside, 20000 + number)
        assert (visit.source, visit.target) == (EGRESS4, CHOICE[4][number % 4])
    node.check(pod).ok()


def test_each_line_counts_its_flows(node: Node, outside: Namespace, pod: Pod, client: Pod) -> None:
    lines = (f"80 tcp {OUTSIDE4}", f"81 tcp {OUTSIDE4}", OUTSIDE4, OUTSIDE6)
    node.add(pod, redirect(*lines), conf=OFF).ok()
    for port, times in ((80, 3), (81, 1), (82, 2)):
        for _ in range(times):
            exchange("tcp", client, (pod.address, port), outside, port)
    assert dict(_counted(pod)) == {lines[0]: 3, lines[1]: 1, lines[2]: 2, lines[3]: 0}


def _counted(pod: Pod) -> Iterator[tuple[str, int]]:
    """The flows that each line has counted, by the comment of its rule."""
    ruleset = json.loads(pod.run("nft", "-j", "list", "table", "inet", "macvlan_egress"))["nftables"]
    for rule in (item["rule"] for item in ruleset if "rule" in item):
        if found := re.fullmatch(r"line \d+: (.*)", rule.get("comment", "")):
            (packets,) = (part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
            yield found[1], packets


def _addresses(version: int) -> list[str]:
    prefix = "fd00:12::" if version == 6 else "192.168.12."
    return [f"{prefix}{number}" for number in range(130, 154)]


def _client_with(lan: Lan, node: Node, *addresses: str) -> Namespace:
    """A client with many addresses, on another node of the cluster as it were."""
    host = lan.host(*addresses)
    host.ip(
        "route add 10.244.0.0/16 via 192.168.12.10"
        if "." in addresses[0]
        else "route add fd00:244::/32 via fd00:12::10"
    )
    return host
