"""CHECK reads the content of the redirect: every rule, element, route and setting, and their order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab import Namespace, Node, Pod, unchanged
from lab.network import OUTSIDE4, OUTSIDE6, PODS4, PODS6
from lab.traffic import exchange

from .asking import DRIFT, EGRESS4, OFF, redirect

TABLE = "inet macvlan_egress"
Change = Callable[[Pod], object]
Drifts = dict[str, tuple[Change, list[str]]]
LINES = (
    f"80 tcp {OUTSIDE4} 8080",
    f"5000-5010 udp {OUTSIDE4}",
    f"443 tcp {OUTSIDE4},203.0.113.26",
    OUTSIDE4,
    f"80 tcp {OUTSIDE6} 8080",
    OUTSIDE6,
)


def nft(*commands: str) -> Change:
    """nft(8) commands in one transaction; TABLE stands for the plugin's."""
    text = "\n".join(command.replace("TABLE", TABLE) for command in commands)
    return lambda pod: run_nft(pod, text)


def run_nft(pod: Pod, text: str) -> None:
    pod.run("nft", "-f", "-", stdin=text + "\n")


def handle(pod: Pod, chain: str, words: str) -> str:
    """The handle of the one rule of a chain that holds some words."""
    listing = pod.run("nft", "-a", "list", "chain", *TABLE.split(), chain)
    (line,) = [line for line in listing.splitlines() if words in line]
    return line.rpartition("# handle ")[2]


def without(chain: str, words: str) -> Change:
    return lambda pod: run_nft(pod, f"delete rule {TABLE} {chain} handle {handle(pod, chain, words)}")


def instead(chain: str, words: str, rule: str) -> Change:
    return lambda pod: run_nft(pod, f"replace rule {TABLE} {chain} handle {handle(pod, chain, words)} {rule}")


def to_the_end(chain: str, words: str, rule: str) -> Change:
    """The same rule, behind all others."""
    return lambda pod: run_nft(
        pod,
        f"delete rule {TABLE} {chain} handle {handle(pod, chain, words)}\nadd rule {TABLE} {chain} {rule}",
    )


def ip(*commands: str) -> Change:
    return lambda pod: pod.ip(*commands)


def sysctl(key: str, value: int) -> Change:
    return lambda pod: pod.sysctl(key, value)


ELEMENTS: Drifts = {
    "element deleted": (nft("delete element TABLE lines4 { tcp . 80 }"), ["lines4", "line-1-ip"]),
    "element added": (nft("add element TABLE lines4 { tcp . 22 : goto line-1-ip }"), ["tcp . 22"]),
    "element leads elsewhere": (
        nft(
            "delete element TABLE lines4 { tcp . 80 }",
            "add element TABLE lines4 { tcp . 80 : goto line-4-ip }",
        ),
        ["tcp . 80", "line-4-ip"],
    ),
    "range widened": (
        nft(
            "delete element TABLE lines4 { udp . 5000-5010 }",
            "add element TABLE lines4 { udp . 5000-5011 : goto line-2-ip }",
        ),
        ["5000-5011"],
    ),
    "IPv6 element deleted": (nft("delete element TABLE lines6 { tcp . 80 }"), ["lines6"]),
    "host added that the pod may reach": (
        nft("add element TABLE hosts4 { 203.0.113.66 }"),
        ["hosts4", "203.0.113.66"],
    ),
    "target deleted that the pod may reach": (
        nft(f"delete element TABLE targets4 {{ {OUTSIDE4} . tcp . 8080 }}"),
        ["targets4", "8080"],
    ),
}

RULES: Drifts = {
    "rule inserted": (nft("insert rule TABLE forward accept"), ["forward", "accept"]),
    "rule added": (nft("add rule TABLE prerouting meta l4proto icmp accept"), ["prerouting", "icmp"]),
    "rule deleted": (without("input", "counter"), ["input", "drop"]),
    "translation deleted": (without("postrouting", EGRESS4), ["postrouting", EGRESS4]),
    "translation to another source": (
        instead(
            "postrouting", EGRESS4, 'oifname "macvlan0" ip saddr != 192.168.12.99 snat ip to 192.168.12.98'
        ),
        ["192.168.12.98"],
    ),
    "line leads elsewhere": (
        instead("line-4-ip", OUTSIDE4, f'counter dnat ip to 203.0.113.66 comment "line 4: {OUTSIDE4}"'),
        ["line-4-ip", "203.0.113.66"],
    ),
    "other port": (
        instead("line-1-ip", "8080", "meta l4proto tcp counter dnat ip to 203.0.113.25:8081"),
        ["line-1-ip", "8081"],
    ),
    "order of the rules": (
        to_the_end("input", "iifname", 'iifname != "macvlan0" accept'),
        ["input", 'iifname != "macvlan0" accept'],
    ),
    "rule there twice": (
        nft('insert rule TABLE prerouting iifname != "eth0" accept'),
        ["prerouting", 'iifname != "eth0" accept'],
    ),
    "counter gone": (
        instead("line-4-ip", OUTSIDE4, f'dnat ip to {OUTSIDE4} comment "line 4: {OUTSIDE4}"'),
        ["line-4-ip"],
    ),
}

CHAINS: Drifts = {
    "policy": (nft("add chain TABLE forward { policy accept ; }"), ["forward", "policy"]),
    "chain emptied": (nft("flush chain TABLE output"), ["output"]),
    "chain more": (nft("add chain TABLE more", "add rule TABLE more drop"), ["more", "drop"]),
    "empty chain more": (nft("add chain TABLE more"), ["more"]),
    "hook more": (
        nft("add chain TABLE more { type filter hook input priority -10 ; policy drop ; }"),
        ["more", "priority"],
    ),
    "set more": (nft("add set TABLE more { type ipv4_addr ; }"), ["more"]),
    "table asleep": (nft("add table TABLE { flags dormant ; }"), ["dormant"]),
    "table gone": (nft("delete table TABLE"), ["table"]),
}

SETTINGS_AND_ROUTES: Drifts = {
    "IPv4 forwarding off": (sysctl("net/ipv4/conf/eth0/forwarding", 0), ["eth0/forwarding"]),
    "IPv4 forwarding off at the other side": (
        sysctl("net/ipv4/conf/macvlan0/forwarding", 0),
        ["macvlan0/forwarding"],
    ),
    "forwarding off as a whole": (
        lambda pod: [pod.sysctl("net/ipv4/ip_forward", value) for value in (1, 0)],
        ["eth0/forwarding", "macvlan0/forwarding"],
    ),
    "reverse path filter": (sysctl("net/ipv4/conf/macvlan0/rp_filter", 1), ["rp_filter"]),
    "route of a destination gone": (ip(f"route delete {OUTSIDE4}"), [OUTSIDE4]),
    "IPv6 route of a destination gone": (ip(f"-6 route delete {OUTSIDE6}"), [OUTSIDE6]),
    "route by another gateway": (
        ip(f"route replace {OUTSIDE4} via 192.168.12.10 dev macvlan0 onlink"),
        ["192.168.12.1", "192.168.12.10"],
    ),
    "route by eth0": (ip(f"route replace {OUTSIDE4} via 169.254.1.1 dev eth0"), [OUTSIDE4, "eth0"]),
}


@pytest.mark.parametrize("drifts", [ELEMENTS, RULES, CHAINS], ids=["elements", "rules", "chains"])
def test_drift_of_the_table_is_found_and_named(node: Node, pod: Pod, drifts: Drifts) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    intact = pod.run("nft", "list", "table", *TABLE.split())
    missed = {}
    for drift, (change, words) in drifts.items():
        change(pod)
        try:
            node.check(pod).refused(DRIFT, *words)
        except AssertionError as error:
            missed[drift] = str(error)
        run_nft(pod, f"table {TABLE}\ndelete table {TABLE}\n{intact}")
    assert not missed
    node.check(pod).ok()


@pytest.mark.parametrize("drift", SETTINGS_AND_ROUTES)
def test_drift_of_settings_and_routes_is_found_and_named(node: Node, pod: Pod, drift: str) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    change, words = SETTINGS_AND_ROUTES[drift]
    change(pod)
    node.check(pod).refused(DRIFT, *words)


def test_ipv6_forwarding_off_is_found(node: Node, pod: Pod) -> None:
    before = ipv6_forwarding(pod)
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    changed = [key for key, value in ipv6_forwarding(pod).items() if before.get(key, value) != value]
    assert changed, "nothing lets IPv6 through"
    for key in changed:
        pod.sysctl(key, 0)
        node.check(pod).refused(DRIFT, key)
        pod.sysctl(key, 1)
    node.check(pod).ok()


def ipv6_forwarding(pod: Pod) -> dict[str, str]:
    """By which settings IPv6 is forwarded: another since Linux 6.17."""
    keys = pod.run(
        "find", "/proc/sys/net/ipv6/conf/all", "/proc/sys/net/ipv6/conf/eth0", "-name", "*forwarding"
    ).split()
    keys = [key.removeprefix("/proc/sys/") for key in keys if "mc_" not in key]
    return {key: pod.sysctl(key) for key in keys}


def test_rule_of_the_default_routes_is_checked(node: Node, pod: Pod) -> None:
    conf = {**OFF, "clusterNetworks": [PODS4, PODS6]}
    node.add(pod, redirect(*LINES, routes="default"), conf=conf).ok()
    node.check(pod).ok()
    for family in (4, 6):
        (rule,) = [rule for rule in pod.rules(family) if rule.get("iif") == "macvlan0"]
        pod.ip(f"-{family} rule delete priority {rule['priority']} iif macvlan0")
        node.check(pod).refused(DRIFT, f"IPv{family}", "iif macvlan0")
        pod.ip(f"-{family} rule add priority {rule['priority']} iif macvlan0 lookup main protocol 77")
        node.check(pod).ok()


def test_all_drifts_of_the_redirect_are_listed_at_once(node: Node, pod: Pod) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    pod.sysctl("net/ipv4/conf/eth0/forwarding", 0)
    pod.ip(f"route delete {OUTSIDE4}")
    run_nft(
        pod,
        f"add element {TABLE} lines4 {{ tcp . 22 : goto line-1-ip }}\ninsert rule {TABLE} forward accept",
    )
    node.check(pod).refused(DRIFT, "eth0/forwarding", OUTSIDE4, "tcp . 22", "forward")


def test_mended_redirect_is_content_again(node: Node, pod: Pod) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    run_nft(pod, f"delete element {TABLE} lines4 {{ tcp . 80 }}")
    node.check(pod).refused(DRIFT)
    run_nft(pod, f"add element {TABLE} lines4 {{ tcp . 80 : goto line-1-ip }}")
    node.check(pod).ok()


def test_traffic_and_its_counters_are_no_drift(node: Node, outside: Namespace, pod: Pod, client: Pod) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    for _ in range(3):
        assert exchange("tcp", client, (pod.address, 80), outside, 8080).source == EGRESS4
    node.check(pod).ok()


def test_many_elements_are_compared_whatever_their_order(node: Node, pod: Pod) -> None:
    """The kernel keeps them in an order of its own, another in each table."""
    servers = [f"203.0.113.{number}" for number in range(30, 90)]
    lines = [f"{2000 + number} tcp {server}" for number, server in enumerate(servers)]
    node.add(pod, redirect(*lines, ",".join(servers[:40])), conf=OFF).ok()
    for _ in range(2):
        node.check(pod).ok()
    run_nft(pod, f"delete element {TABLE} targets4 {{ 203.0.113.50 . tcp . 2020 }}")
    node.check(pod).refused(DRIFT, "203.0.113.50 . tcp . 2020")


def test_rules_of_others_are_no_drift(node: Node, pod: Pod) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    run_nft(pod, "add table inet mesh\nadd chain inet mesh out { type nat hook output priority -100 ; }")
    pod.ip("route add 198.51.100.0/24 via 169.254.1.1 dev eth0", "rule add priority 100 fwmark 7 lookup 100")
    node.check(pod).ok()


def test_check_leaves_nothing_behind(node: Node, pod: Pod) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    with unchanged(pod, node):
        node.check(pod).ok()
        pod.ip(f"route delete {OUTSIDE4}")
        node.check(pod).refused(DRIFT)
        pod.ip(f"route add {OUTSIDE4} via 192.168.12.1 dev macvlan0 src {EGRESS4} proto 77 onlink")
