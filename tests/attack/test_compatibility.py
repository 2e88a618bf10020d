"""Only assign-macvlan: a container that makes itself a router, as OpenShift's egress router image does.

It adds its address, makes the LAN's router its default gateway, translates what enters by eth0 and what leaves by
macvlan0, and announces itself; with nft as it does today, with iptables as it did before. In the mode `init` it is
gone then, in the mode `legacy` it stays, and is run again in the same namespace when it is restarted.
"""

from __future__ import annotations

import pytest
from lab import ASSIGN, Lan, Namespace, Node, Pod, unchanged
from lab.attacker import Process, Tap
from lab.network import OUTSIDE4, PODS4, PODS6

CONF = {"clusterNetworks": [PODS4, PODS6, "10.96.0.0/12"]}
SOURCE, GATEWAY = "192.168.12.99", "192.168.12.1"
TCP = 6


def configure(pod: Pod) -> None:
    """The image's network part; nothing is done twice."""
    if pod.route_get(GATEWAY)["dev"] != "macvlan0":
        pod.ip(
            f"address add {SOURCE}/32 dev macvlan0",
            "link set up dev macvlan0",
            f"route add {GATEWAY}/32 dev macvlan0",
            "route del default",
            f"route add default via {GATEWAY} dev macvlan0",
        )
    with Tap(pod, "macvlan0") as nic:
        nic.announce(SOURCE)


def translate_by_nft(pod: Pod) -> None:
    pod.run(
        "nft",
        "-f",
        "-",
        stdin=f"""
        table ip nat {{
            chain prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}
            chain postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
        }}
        flush table ip nat
        add rule ip nat prerouting iifname "eth0" tcp dport 80 dnat to {OUTSIDE4}:8080
        add rule ip nat prerouting iifname "eth0" udp dport 53 dnat to {OUTSIDE4}
        add rule ip nat postrouting oifname "macvlan0" snat to {SOURCE}
        """,
    )


def translate_by_iptables(pod: Pod) -> None:
    pod.run("iptables", "-t", "nat", "-F")
    for rule in (
        f"PREROUTING -i eth0 -p tcp --dport 80 -j DNAT --to-destination {OUTSIDE4}:8080",
        f"PREROUTING -i eth0 -p udp --dport 53 -j DNAT --to-destination {OUTSIDE4}",
        f"POSTROUTING -o macvlan0 -j SNAT --to-source {SOURCE}",
    ):
        pod.run("iptables", "-t", "nat", "-A", *rule.split())


TRANSLATIONS = {"nft": translate_by_nft, "iptables": translate_by_iptables}


@pytest.fixture(params=["calico", "bridge", "ptp"])
def main(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=TRANSLATIONS)
def router(node: Node, main: str, request: pytest.FixtureRequest) -> Pod:
    """A pod whose container has done its part."""
    pod = node.pod(main)
    pod.sysctl("net/ipv4/ip_forward", 1)  # as a pod inherits it from a Kubernetes node
    node.add(pod, {ASSIGN: "true"}, conf=CONF).ok()
    assert pod.snapshot()["nftables"] == []
    configure(pod)
    TRANSLATIONS[request.param](pod)
    return pod


def test_clients_reach_the_destination_under_the_containers_address(
    node: Node, lan: Lan, outside: Namespace, router: Pod
) -> None:
    client = node.pod(router.main)
    with lan.capture() as wire, Tap(outside) as server:
        assert Process(client).connects(outside, router.address, 3, 80, 8080)
        assert Process(client).sends(outside, router.address, 3, 53)
        at_lan = wire.frames(lambda f: f.proto == TCP and f.destination == OUTSIDE4)
        assert server.hears(lambda frame: frame[26:30] == bytes(map(int, SOURCE.split("."))), 3)
    assert {(frame.src, frame.source) for frame in at_lan} == {(router.mac("macvlan0"), SOURCE)}
    # What else a pod does.
    assert router.reach(node, "192.168.12.10") == router.address
    assert router.reach(client, client.address) == router.address
    assert client.reach(router, router.address) == client.address
    assert router.route_get("10.96.0.10")["dev"] == "eth0"
    node.check(router).ok()


@pytest.mark.parametrize("main", ["bridge"], indirect=True)
@pytest.mark.parametrize("router", ["nft"], indirect=True)
def test_container_that_is_restarted_finds_everything_and_serves_on(
    node: Node, outside: Namespace, router: Pod
) -> None:
    client = node.pod(router.main)
    configure(router)
    for translate in TRANSLATIONS.values():
        translate(router)
        assert Process(client).connects(outside, router.address, 3, 80, 8080)


@pytest.mark.parametrize("main", ["bridge"], indirect=True)
def test_rules_of_the_container_are_its_own_to_the_end(node: Node, router: Pod) -> None:
    before = router.snapshot()["nftables"]
    assert before
    node.check(router).ok()
    node.delete(router).ok()
    assert router.link("macvlan0") is None
    assert router.snapshot()["nftables"] == before


@pytest.mark.parametrize("main", ["bridge"], indirect=True)
@pytest.mark.parametrize("router", ["nft"], indirect=True)
def test_lan_learns_where_the_address_is_from_the_containers_announcement(
    node: Node, lan: Lan, router: Pod
) -> None:
    lan.ip(f"neighbour replace {SOURCE} lladdr 02:00:00:00:00:01 dev br0 nud stale")
    configure(router)
    assert lan.neighbour(SOURCE) == router.mac("macvlan0")


def test_nothing_is_left_when_pod_and_container_are_gone(node: Node, lan: Lan, main: str) -> None:
    pod = node.pod(main)
    with unchanged(node):
        node.add(pod, {ASSIGN: "true"}, conf=CONF).ok()
        configure(pod)
        translate_by_nft(pod)
        node.delete(pod).ok()
