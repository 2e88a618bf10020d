"""Names among the destinations are followed while traffic goes on."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from lab import Namespace, Node, unchanged, within
from lab.network import OUTSIDE4, OUTSIDE6, PODS4
from lab.traffic import exchange
from policy.name_server import NameServer
from redirect.asking import EGRESS4, OFF, egress
from redirect.asking import redirect as asking

from cni_macvlan_egress.attach import refresh
from cni_macvlan_egress.attach.roster import Roster
from cni_macvlan_egress.kernel.nftables import Nftables
from cni_macvlan_egress.protocol.errors import CniError

from .running import Daemon, Warm, eventually

NAME = "db.example"
SECOND4, THIRD4, SECOND6 = "203.0.113.26", "203.0.113.27", "2001:db8:113::26"


@pytest.fixture
def outside(outside: Namespace) -> Namespace:
    outside.ip(
        *(f"address add {one}/24 dev eth0" for one in (SECOND4, THIRD4)), f"address add {SECOND6}/64 dev eth0"
    )
    return outside


@pytest.fixture
def name_server(node: Node) -> Iterator[NameServer]:
    with NameServer(node, ttl=1) as server:
        server.tell(NAME, [OUTSIDE4])
        yield server


def asking_there(server: NameServer) -> tuple[str, ...]:
    """What starts a daemon that asks there; unlike a call it lives to see the namespaces of later pods."""
    unshare, mount, *rest = server.wrapper
    return (unshare, mount, "--propagation", "slave", *rest)


class Follower:
    """An egress pod on a node, and a caretaker's hand on its names."""

    def __init__(self, node: Node, name_server: NameServer) -> None:
        self.node, self.pod, self.client = node, node.pod(), node.pod()
        self._name_server = name_server
        self.key = f"{self.pod.container_id}@eth0"

    def add(self, *lines: str, conf: dict[str, object] | None = None) -> None:
        request = self.node.request(self.pod, asking(*lines), conf={**OFF, **(conf or {})})
        answer = self.node.execute(
            {"CNI_COMMAND": "ADD", **request.environment}, request.stdin, wrapper=self._name_server.wrapper
        )
        answer.ok()
        self.pod.requests["eth0"] = request

    def lead(self, *addresses: str, name: str = NAME) -> tuple[bool, tuple[str, ...]]:
        """The name leads there now."""
        from ipaddress import ip_address

        def work() -> tuple[bool, tuple[str, ...]]:
            own = refresh.own_addresses()
            answers = {name: tuple(map(ip_address, addresses))}
            return refresh.renew(self.roster(), self.node.run_dir, self.key, answers, own)

        return within(self.node.path, work)

    def forget_unused(self) -> None:
        within(self.node.path, lambda: refresh.forget_unused(self.roster(), self.node.run_dir, self.key))

    def roster(self) -> Roster:
        roster = Roster(self.node.state_dir)
        roster.scan()
        return roster

    def routes(self) -> set[str]:
        """Destinations beyond the router that the pod has routes to by the macvlan."""
        found = {route["dst"] for version in (4, 6) for route in self.pod.routes(family=version)
                 if route.get("dev") == "macvlan0"}  # fmt: skip
        return {one for one in found if one.startswith(("203.0.113", "2001:db8:113"))}

    def packets(self, chain: str) -> int:
        text = self.pod.run("nft", "list", "chain", "inet", "macvlan_egress", chain)
        return int(re.search(r"counter packets (\d+)", text)[1])  # type: ignore[index]


@pytest.fixture
def follower(node: Node, name_server: NameServer) -> Follower:
    return Follower(node, name_server)


@contextmanager
def flow(
    client: Namespace, to: tuple[str, int], server: Namespace, port: int
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection through the egress pod: the client's end and the server's."""
    with closing(server.socket(socket.AF_INET)) as ear, closing(client.socket(socket.AF_INET)) as near:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.bind(("", port))
        ear.listen()
        near.settimeout(5)
        ear.settimeout(5)
        near.connect(to)
        far, _ = ear.accept()
        ear.close()
        with closing(far):
            far.settimeout(5)
            yield near, far


def talks(ends: tuple[socket.socket, socket.socket]) -> bool:
    """Whether words go both ways."""
    for sender, receiver in (ends, ends[::-1]):
        sender.sendall(b"words")
        if receiver.recv(16) != b"words":
            return False
    return True


# -- the whole of it


def test_new_flows_follow_the_name_and_an_established_one_stays(
    node: Node,
    outside: Namespace,
    name_server: NameServer,
    make_daemon: Callable[..., Daemon],
    warm: Warm,
) -> None:
    daemon = make_daemon(wrapper=asking_there(name_server)).start()
    pod, client = node.pod(), node.pod()
    request = node.request(pod, asking(f"80 tcp {NAME}", families=(4,)), conf=OFF)
    warm.send("ADD", request).ok()
    with flow(client, (pod.address, 80), outside, 80) as ends:
        assert talks(ends)
        name_server.tell(NAME, [SECOND4])
        eventually(
            lambda: daemon.metric('dns_refreshes_total{result="changed"}') == 1, "the name is not followed"
        )
        visit = exchange("tcp", client, (pod.address, 80), outside, 80)
        assert (visit.source, visit.target) == (EGRESS4, SECOND4)
        assert ends[1].getsockname()[0] == OUTSIDE4
        assert talks(ends), "the established flow has been lost"
    (line,) = daemon.told(lambda line: line["msg"] == "names lead elsewhere now")
    assert line["names"] == {NAME: [SECOND4]}
    assert daemon.metric("dns_names") == 1
    warm.send("CHECK", request).ok()

    name_server.stop()
    eventually(
        lambda: daemon.metric('dns_refreshes_total{result="failed"}') >= 1, "the failure is not counted"
    )
    assert exchange("tcp", client, (pod.address, 80), outside, 80).target == SECOND4
    assert daemon.told(lambda line: line["msg"] == "a name could not be followed in full")
    warm.send("CHECK", request).ok()
    warm.send("DEL", request).ok()
    eventually(lambda: daemon.metric("dns_names") == 0, "the name is still asked for")


def test_answer_is_used_until_its_time_to_live_is_over(
    node: Node, make_daemon: Callable[..., Daemon], warm: Warm
) -> None:
    with NameServer(node, ttl=600) as server:
        server.tell(NAME, [OUTSIDE4])
        daemon = make_daemon(wrapper=asking_there(server)).start()
        pod = node.pod()
        warm.send("ADD", node.request(pod, asking(f"80 tcp {NAME}", families=(4,)), conf=OFF)).ok()
        eventually(
            lambda: daemon.metric('dns_refreshes_total{result="unchanged"}') == 1, "the name is not asked for"
        )
        server.tell(NAME, [SECOND4])
        eventually(lambda: daemon.metric("announcements_total") >= 2, "the caretaker does not work")
        assert daemon.metric('dns_refreshes_total{result="unchanged"}') == 1
        assert daemon.metric('dns_refreshes_total{result="changed"}') == 0


# -- what may change, and what of it is seen


def test_check_passes_and_delete_undoes_after_every_change(follower: Follower, outside: Namespace) -> None:
    node, pod, client = follower.node, follower.pod, follower.client
    with unchanged(pod, node):
        follower.add(f"80 tcp {NAME} 8080", f"81-83 udp {NAME}", f"90 tcp {THIRD4}", NAME)
        for addresses in (
            [SECOND4], [OUTSIDE4, SECOND4], [OUTSIDE4, SECOND4, OUTSIDE6], [SECOND6], [OUTSIDE4, OUTSIDE6], [THIRD4],
        ):  # fmt: skip
            changed, problems = follower.lead(*addresses)
            assert (changed, problems) == (True, ())
            node.check(pod).ok()
            for version, own in ((4, pod.address), (6, pod.address6)):
                of_version = [one for one in addresses if (":" in one) == (version == 6)]
                if of_version:
                    visit = exchange("tcp", client, (own, 80), outside, 8080)
                    assert visit.source == egress(own)
                    assert visit.target in of_version
                    assert exchange("udp", client, (own, 82), outside, 82).target in of_version
                    assert exchange("udp", client, (own, 4711), outside, 4711).target in of_version
            assert exchange("tcp", client, (pod.address, 90), outside, 90).target == THIRD4
        assert follower.lead(THIRD4) == (False, ())
        node.delete(pod).ok()


def test_only_what_changes_is_touched_and_counters_go_on(follower: Follower, outside: Namespace) -> None:
    follower.add(f"80 tcp {NAME}", f"81 tcp {THIRD4}")
    pod, client = follower.pod, follower.client
    for port in (80, 80, 81):
        exchange("tcp", client, (pod.address, port), outside, port)
    sent = follower.packets("forward")
    handle = pod.run("nft", "-a", "list", "chain", "inet", "macvlan_egress", "forward")
    assert follower.lead(SECOND4) == (True, ())
    assert pod.run("nft", "-a", "list", "chain", "inet", "macvlan_egress", "forward") == handle
    assert (follower.packets("line-1-ip"), follower.packets("line-2-ip")) == (2, 1)
    exchange("tcp", client, (pod.address, 80), outside, 80)
    assert follower.packets("line-1-ip") == 3
    assert follower.packets("forward") >= sent


def test_damaged_table_is_made_anew_when_a_name_changes(follower: Follower, outside: Namespace) -> None:
    follower.add(f"80 tcp {NAME}")
    pod = follower.pod
    pod.run("nft", "delete", "table", "inet", "macvlan_egress")
    assert follower.lead(SECOND4) == (True, ())
    follower.node.check(pod).ok()
    assert exchange("tcp", follower.client, (pod.address, 80), outside, 80).target == SECOND4


def test_ports_that_come_to_touch_each_other(follower: Follower) -> None:
    """The kernel takes no overlapping elements, so that they are merged into a range, which is another kind of set."""
    follower.add(f"80 tcp {NAME}", f"81 tcp {SECOND4}")
    for addresses in ([SECOND4], [OUTSIDE4]):
        assert follower.lead(*addresses) == (True, ())
        follower.node.check(follower.pod).ok()


def test_routes_to_old_addresses_stay_for_the_flows_that_use_them(
    follower: Follower, outside: Namespace
) -> None:
    follower.add(f"80 tcp {NAME}")
    pod, node = follower.pod, follower.node
    with flow(follower.client, (pod.address, 80), outside, 80) as ends:
        follower.lead(SECOND4)
        follower.lead(THIRD4)
        assert follower.routes() == {OUTSIDE4, SECOND4, THIRD4}
        follower.forget_unused()
        assert follower.routes() == {OUTSIDE4, THIRD4}
        assert talks(ends)
        node.check(pod).ok()
    pod.run("conntrack", "-F")
    follower.forget_unused()
    assert follower.routes() == {THIRD4}
    node.check(pod).ok()
    assert follower.lead(OUTSIDE4) == (True, ())
    assert follower.routes() >= {OUTSIDE4}


HOSTILE = (
    "127.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "10.244.0.9", EGRESS4, "192.168.12.10",
    "::1", "fe80::1", "ff02::1", "::ffff:cb00:7119", "fd00:12::10",
)  # fmt: skip


def test_name_is_not_followed_inside(follower: Follower) -> None:
    """Into the cluster, to the node, to the pod itself, to no host at all: whatever ADD refuses, and more."""
    follower.add(f"80 tcp {NAME}", conf={"clusterNetworks": [PODS4]})
    before = follower.pod.run("nft", "list", "ruleset")
    for address in HOSTILE:
        changed, problems = follower.lead(address)
        assert not changed, address
        assert address in problems[0] or "no usable" in problems[0]
    assert follower.pod.run("nft", "list", "ruleset") == before
    assert follower.lead(*HOSTILE, SECOND4) == (True, ())
    assert follower.routes() == {OUTSIDE4, SECOND4}
    follower.node.check(follower.pod).ok()


def test_other_lines_follow_where_one_cannot(follower: Follower, name_server: NameServer) -> None:
    name_server.tell("web.example", [OUTSIDE4])
    follower.add(f"80 tcp {NAME}", "81 tcp web.example", conf={"clusterNetworks": [PODS4]})
    changed, problems = follower.lead("10.244.0.9")
    assert not changed
    assert len(problems) == 1
    assert follower.lead(SECOND4, name="web.example") == (True, ())
    assert follower.routes() >= {OUTSIDE4, SECOND4}


def test_change_that_the_kernel_refuses_is_taken_back(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower.add(f"80 tcp {NAME}")

    def refuse(*_: object) -> None:
        raise CniError(105, "no")

    with unchanged(follower.pod, follower.node):
        monkeypatch.setattr(Nftables, "replace", refuse)
        monkeypatch.setattr(refresh, "transition", lambda *_: "")
        with pytest.raises(CniError):
            follower.lead(SECOND4)
    follower.node.check(follower.pod).ok()


def test_change_whose_record_was_not_written_is_made_again(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between kernel and record."""
    follower.add(f"80 tcp {NAME}")
    with monkeypatch.context() as patch:

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("cni_macvlan_egress.attach.records.Records.save", die)
        with pytest.raises(KeyboardInterrupt):
            follower.lead(SECOND4)
    assert follower.lead(SECOND4) == (True, ())
    follower.node.check(follower.pod).ok()
    follower.node.delete(follower.pod).ok()


def test_attachment_that_a_call_is_at_work_on_is_left_for_later(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cni_macvlan_egress.attach import locks

    follower.add(f"80 tcp {NAME}")
    monkeypatch.setattr(refresh, "_LOCK_SECONDS", 0.05)
    with locks.attachment(follower.node.run_dir, follower.key), pytest.raises(CniError) as caught:
        follower.lead(SECOND4)
    assert caught.value.code == 11
    assert follower.lead(SECOND4) == (True, ())


def test_attachment_without_names_has_nothing_to_follow(follower: Follower) -> None:
    follower.add(f"80 tcp {OUTSIDE4}")
    assert follower.lead(SECOND4) == (False, ())
    (one,) = follower.roster().attachments.values()
    assert one.names == ()
