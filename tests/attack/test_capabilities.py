"""The egress pod itself, root with CAP_NET_ADMIN and CAP_NET_RAW in its own namespace, and no policy to hold it.

What it may still not do to the node, to other pods and to whoever looks at it. What it may send is held by a policy of
its namespace: tests/policy/test_attacks.py.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from daemon.running import eventually
from lab import ASSIGN, Lab, Namespace, Pod, source
from lab.attacker import BROADCAST_MAC, Tap, token, udp
from lab.needed import made_lab
from lab.network import ROUTER4
from policy import disguise
from policy.arena import DENIED, FAMILIES, UNUSED, Arena
from policy.disguise import datagram

from .stage import OFF, assert_printable, status

NOT_ALLOWED, DRIFT = 100, 107
DESTINATION = "80 tcp 203.0.113.25 8080"
ESCAPE = "\x1b]0;evil\x07"
ADDRESS = "192.168.12.99"
ANSWER_MAX = 1 << 17


@pytest.fixture(scope="module")
def lab(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with made_lab(bin_dir, tmp_path_factory) as lab:
        yield lab


@pytest.fixture(scope="module")
def host(lab: Lab) -> Namespace:
    return lab.lan.host("192.168.12.50", "fd00:12::50")


@pytest.fixture
def pod(lab: Lab) -> Iterator[Pod]:
    """An egress pod."""
    pod = lab.node.pod()
    lab.node.add(pod, source(f"{ADDRESS}/24", destination=DESTINATION), conf=OFF).ok()
    yield pod
    lab.node.delete(pod).ok()
    pod.remove()


def refuses(pod: Namespace, command: str) -> bool:
    try:
        pod.ip(command)
    except AssertionError:
        return True
    return False


# -- the node's NIC


@pytest.mark.parametrize(
    "change",
    [
        "link set macvlan0 type macvlan mode passthru",
        "link add x0 link macvlan0 type macvlan mode passthru",
        "link set macvlan0 mtu 9000",
        "link add x0 link macvlan0 type macvlan mode source macaddr set {node}",
    ],
)
def test_macvlan_cannot_be_made_the_nodes_nic(lab: Lab, pod: Pod, change: str) -> None:
    """In mode passthru it would get all that the NIC receives; the kernel changes no macvlan to or from it."""
    if not refuses(pod, change.format(node=lab.node.mac())):
        assert "x0" in change
        assert pod.link("x0")
        pod.ip("link delete x0")
    assert lab.node.reach(lab.lan, ROUTER4) == "192.168.12.10"
    link = pod.link("macvlan0")
    assert link
    assert link["linkinfo"]["info_data"]["mode"] == "bridge"


@pytest.mark.parametrize("whose", ["the node's", "another egress pod's", "a LAN host's"])
def test_promiscuous_macvlan_hears_no_frames_of_others(
    lab: Lab, pod: Pod, host: Namespace, whose: str
) -> None:
    """A macvlan is given frames by their MAC address, whatever it asks for; and broadcasts, as everybody."""
    node = lab.node
    pod.ip("link set macvlan0 promisc on allmulticast on")
    other = node.pod()
    node.add(other, source("192.168.12.98/24"), conf=OFF).ok()
    mac = {
        "the node's": node.mac(),
        "another egress pod's": other.mac("macvlan0"),
        "a LAN host's": disguise.random_mac(),  # that the switch does not know either, and sends everywhere
    }[whose]
    with Tap(host) as sender, Tap(pod, "macvlan0") as ear, Tap(node) as at_nic:
        sent, last = token(), token()
        sender.send(udp("192.168.12.50", "192.168.12.77", (1, 4711), sent), mac)
        sender.send(udp("192.168.12.50", "192.168.12.255", (1, 4711), last), BROADCAST_MAC)
        assert at_nic.hears(sent, 2), "the frame does not come to the NIC"
        heard: list[bytes] = []
        assert ear.hears(lambda frame: heard.append(frame) or last in frame, 2), "it hears nothing at all"
        assert not any(sent in frame for frame in heard)
    node.delete(other).ok()


@pytest.fixture
def in_user_namespace(lab: Lab) -> Iterator[int]:
    """The process of an egress pod that has a user namespace of its own (`hostUsers: false`)."""
    node = lab.node
    process = subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sleep", "infinity"])
    eventually(lambda: os.readlink(f"/proc/{process.pid}/exe").endswith("/sleep"), "it does not start")
    asked = node.standalone(node.pod(), conf={**OFF, "runtimeConfig": {"ips": [f"{ADDRESS}/24"]}})
    asked = asked.but({"CNI_NETNS": f"/proc/{process.pid}/ns/net"})
    node.send("ADD", asked).ok()
    try:
        yield process.pid
    finally:
        node.send("DEL", asked).ok()
        process.kill()
        process.wait()


@pytest.mark.parametrize("deed", ["add", "passthru", "raise"])
def test_pod_in_a_user_namespace_of_its_own_gets_nothing_else_on_the_nic(
    lab: Lab, in_user_namespace: int, deed: str
) -> None:
    """The node's namespace has an id in a pod's; with CAP_NET_ADMIN over both, links can be made across.

    Without a user namespace of its own any pod with CAP_NET_ADMIN has it, egress pod or not.
    """
    index = lab.node.show("link show dev eth0")[0]["ifindex"]
    command = {
        "add": f"link add x0 link if{index} link-netnsid 0 type macvlan mode bridge",
        "passthru": "link set net1 type macvlan mode passthru",
        "raise": "link set net1 mtu 9000",
    }[deed]

    def tried(*namespaces: str) -> subprocess.CompletedProcess[str]:
        entering = ["nsenter", "--preserve-credentials", f"--target={in_user_namespace}", *namespaces]
        return subprocess.run(
            [*entering, "ip", *command.split()], capture_output=True, text=True, check=False
        )

    done = tried("--user", "--net")
    assert done.returncode, "it succeeds"
    if deed == "add":
        assert "not permitted" in done.stderr
        assert tried("--net").returncode == 0, "nor does it from the node's user namespace"
    assert lab.node.reach(lab.lan, ROUTER4) == "192.168.12.10"


# -- the plugin's own work


def flush(pod: Pod) -> None:
    pod.run("nft", "flush", "ruleset")


def no_routes(pod: Pod) -> None:
    pod.ip("route flush table 7200", "rule flush", "rule add lookup main")


def other_address(pod: Pod) -> None:
    pod.ip(f"address delete {ADDRESS}/24 dev macvlan0", "address add 192.168.12.77/24 dev macvlan0")


def other_mac(pod: Pod) -> None:
    pod.ip("link set macvlan0 address 02:00:00:00:00:77")


def other_interface(pod: Pod) -> None:
    pod.ip("link delete macvlan0", "link add macvlan0 type bridge", "link set macvlan0 up")


def macvlan_of_its_own(pod: Pod) -> None:
    pod.ip(
        "link delete macvlan0", "link add macvlan0 link eth0 type macvlan mode bridge", "link set macvlan0 up"
    )


def renamed(pod: Pod) -> None:
    pod.ip("link set macvlan0 down", "link set macvlan0 name hidden0", "link set hidden0 up")


def down(pod: Pod) -> None:
    pod.ip("link set macvlan0 down", "link set lo down")


def obstacles(pod: Pod) -> None:
    """Rules and tables under the plugin's own numbers and name."""
    pod.run(
        "nft",
        "add table inet macvlan_egress { chain x { type filter hook input priority 0; policy drop; }; }",
    )
    pod.ip("rule add from 1.2.3.4 lookup 7200 priority 7200", "route add 9.9.9.9/32 dev macvlan0 table 7200")


SABOTAGE = [
    flush,
    no_routes,
    other_address,
    other_mac,
    other_interface,
    macvlan_of_its_own,
    renamed,
    down,
    obstacles,
]


@pytest.mark.parametrize("sabotage", SABOTAGE)
def test_sabotage_is_noticed_and_hinders_neither_del_nor_the_next_pod(
    lab: Lab, pod: Pod, sabotage: Callable[[Pod], None]
) -> None:
    node = lab.node
    sabotage(pod)
    node.check(pod).refused(DRIFT, "expected")
    assert "drifted" in status(node)
    node.delete(pod).ok()
    assert not node.holds(ADDRESS)
    assert not pod.link("hidden0")
    if sabotage is other_interface:
        assert pod.link("macvlan0"), "what is not the plugin's has been removed"
    following = node.pod()
    node.add(following, source(f"{ADDRESS}/24"), conf=OFF).ok()
    node.check(following).ok()
    node.delete(following).ok()


@pytest.mark.parametrize("where", ["under another name and MAC address", "in a namespace of its own"])
def test_interface_that_the_pod_has_hidden_ends_with_it(lab: Lab, host: Namespace, where: str) -> None:
    """DEL succeeds; what it could not find goes with the pod's processes, as everything in their namespaces."""
    node = lab.node
    pod = node.pod()
    node.add(pod, source(f"{ADDRESS}/24"), conf=OFF).ok()
    holder = pod
    if where == "in a namespace of its own":
        holder = lab.keep(Namespace(lab.name(f"inner{lab.number()}")))
        pod.ip(f"link set macvlan0 netns {holder.name}")
        holder.ip(f"address add {ADDRESS}/24 dev macvlan0", "link set macvlan0 up")
    else:
        renamed(pod)
        pod.ip("link set hidden0 down", "link set hidden0 address 02:00:00:00:00:78", "link set hidden0 up")
    with Tap(host) as tap:
        assert tap.answers_arp(ADDRESS, "192.168.12.50", 2)
        node.delete(pod).ok()
        for one in {holder, pod}:
            one.remove()
        # The kernel takes namespaces down in the background.
        eventually(lambda: not tap.answers_arp(ADDRESS, "192.168.12.50", 0.1), "it outlives its pod")
    following = node.pod()
    node.add(following, source(f"{ADDRESS}/24")).ok()
    node.delete(following).ok()


# -- whoever looks at it


def test_names_that_the_pod_has_made_up_do_not_speak_to_the_admins_terminal(lab: Lab, pod: Pod) -> None:
    """Of an interface, a chain's comment and a rule's: `status` shows them, and CHECK's error on stderr."""
    node = lab.node
    pod.run("ip", "link", "add", ESCAPE, "type", "bridge")
    pod.run("ip", "link", "set", ESCAPE, "up")
    pod.run("ip", "route", "replace", "203.0.113.25/32", "dev", ESCAPE)
    pod.run("nft", f'add rule inet macvlan_egress forward counter comment "{ESCAPE}"')
    pod.run("nft", "-f", "-", stdin=f'add chain inet macvlan_egress c {{ comment "{ESCAPE}"; }}\n')
    shown = status(node)
    assert shown.count("evil") == 3
    assert_printable(shown)
    answer = node.check(pod)
    assert "evil" in answer.refused(DRIFT)
    assert "evil" in answer.stderr
    assert_printable(answer.stderr.removesuffix("\n"))
    pod.run("ip", "link", "delete", ESCAPE)


def test_answers_do_not_grow_with_what_the_pod_heaps_up(lab: Lab, pod: Pod) -> None:
    """The runtime keeps an answer in memory, and the log a line for each."""
    pod.run("nft", "add set inet macvlan_egress heap { type ipv4_addr; }")
    for part in range(4):
        elements = ", ".join(f"10.{part}.{number >> 8}.{number & 255}" for number in range(4000))
        pod.run("nft", "-f", "-", stdin=f"add element inet macvlan_egress heap {{ {elements} }}\n")
    answer = lab.node.check(pod)
    assert "more" in answer.refused(DRIFT, "heap")
    assert len(answer.stdout) < ANSWER_MAX
    assert len(status(lab.node)) < ANSWER_MAX


def test_grant_that_limits_gives_no_interface_that_a_privileged_pod_configures_itself(lab: Lab) -> None:
    """Limits would be words only: such a pod may set any address, or take any from the NIC."""
    node, pod = lab.node, lab.node.pod()
    limited = {**OFF, "allow": [{"namespaces": ["shop"], "sources": ["192.168.12.96/28"]}]}
    node.add(pod, {ASSIGN: "true"}, conf=limited).refused(NOT_ALLOWED, "bare")
    taken = source(f"{ADDRESS}/24", mode="passthru")
    node.add(pod, taken, conf=limited).refused(NOT_ALLOWED, "passthru")
    assert not pod.link("macvlan0")


# -- out of its policy


@pytest.fixture(scope="module")
def arena(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with made_lab(bin_dir, tmp_path_factory) as lab:
        yield Arena(lab)


@contextmanager
def inner_interface(arena: Arena, pod: Pod, device: str, kind: str) -> Iterator[tuple[Namespace, str]]:
    """One that the pod has made on top of another, in a namespace of its own."""
    with ExitStack() as stack:
        inner = arena.lab.keep(Namespace(arena.lab.name(f"nested{secrets.token_hex(2)}")))
        stack.callback(inner.remove)
        pod.ip(f"link add top0 link {device} type {kind}", f"link set top0 netns {inner.name}")
        inner.ip("link set top0 up")
        yield inner, inner.mac("top0")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("on", ["calico", "bridge", "macvlan"])
@pytest.mark.parametrize("kind", ["macvlan mode bridge", "macvtap mode private"])
def test_interface_on_top_of_any_other_leaves_no_policy(
    arena: Arena, kind: str, on: str, family: int
) -> None:
    """Under the pod's own address or another, from a MAC address that nobody knows."""
    way = arena.ways[on]
    with inner_interface(arena, way.pod, way.device, kind) as (inner, mac), Tap(inner, "top0") as nic:

        def act(sent: bytes) -> None:
            packet = datagram(way.addresses[family], DENIED[family], sent)
            with suppress(OSError):
                nic.send(packet, way.next_hop)

        assert mac != way.mac
        arena.assert_held(way, act)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("address", ["its own", "nobody's", "an unpoliced pod's"])
def test_macvlan_that_the_pod_makes_across_namespaces_is_held(
    arena: Arena, address: str, family: int
) -> None:
    """On the node's NIC, by the id that the node's namespace has in the pod's: nobody knows its MAC address."""
    way = arena.ways["macvlan"]
    index = arena.node.show("link show dev eth0")[0]["ifindex"]
    way.pod.ip(f"link add x0 link if{index} link-netnsid 0 type macvlan mode bridge", "link set x0 up")
    origin = {"its own": way.addresses, "nobody's": UNUSED, "an unpoliced pod's": way.neighbour}[address][
        family
    ]
    try:
        with Tap(way.pod, "x0") as nic:

            def act(sent: bytes) -> None:
                with suppress(OSError):  # ENOBUFS tells of the drop
                    nic.send(datagram(origin, DENIED[family], sent), way.next_hop)

            arena.assert_held(way, act)
    finally:
        way.pod.ip("link delete x0")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("on", ["calico", "macvlan"])
def test_renamed_interface_leaves_no_policy(arena: Arena, on: str, family: int) -> None:
    """Rules on the node know a pod's interface by the node's end of it, and its macvlan by the NIC."""
    way = arena.ways[on]
    pod, device = way.pod, way.device
    pod.ip(f"link set {device} down", f"link set {device} name other0", "link set other0 up")
    try:

        def act(sent: bytes) -> None:
            with Tap(pod, "other0") as nic, suppress(OSError):
                nic.send(datagram(way.addresses[family], DENIED[family], sent), way.next_hop)

        assert not arrives(arena, act)
        with arena.lifted():
            assert arrives(arena, act, 2)
    finally:
        pod.ip("link set other0 down", f"link set other0 name {device}", f"link set {device} up")


def arrives(arena: Arena, act: Callable[[bytes], None], seconds: float = 0.1) -> bool:
    sent = token()
    with Tap(arena.outside) as ear:
        act(sent)
        return ear.hears(sent, seconds)
