"""Many calls at once: each in its own pod, none in another's namespace, and nothing left over by them."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab import ASSIGN, Node, Pod, Request, source, unchanged

from cni_macvlan_egress.daemon.worker import THREADS

from .running import Daemon, Warm, eventually

QUICK = {"conflictDetection": "off"}
MANY = 40
CYCLES = 200


def at_home(daemon: Daemon) -> bool:
    """Whether every thread of the daemon is in the node's namespace."""
    home = os.stat(daemon.node.path)
    found = set()
    for pid in daemon.processes():
        for task in os.listdir(f"/proc/{pid}/task"):
            status = os.stat(f"/proc/{pid}/task/{task}/ns/net")
            found.add((status.st_dev, status.st_ino))
    return found == {(home.st_dev, home.st_ino)}


def macvlans(pod: Pod) -> list[tuple[str, list[str]]]:
    links = pod.show("link show type macvlan")
    return [(link["ifname"], list(pod.addresses(link["ifname"]))) for link in links]


def test_calls_at_once_stay_in_their_own_namespaces(node: Node, daemon: Daemon, warm: Warm) -> None:
    pods = [node.pod(ipv6=False) for _ in range(MANY)]
    addresses = [f"192.168.12.{100 + number}/24" for number in range(MANY)]
    destination = "203.0.113.25"
    requests = [
        node.request(pod, source(address, destination=destination), conf=QUICK)
        for pod, address in zip(pods, addresses, strict=True)
    ]
    with unchanged(node), ThreadPoolExecutor(MANY) as pool:
        for answer, address in zip(
            pool.map(lambda one: warm.send("ADD", one), requests), addresses, strict=True
        ):
            assert address in [ip["address"] for ip in answer.ok()["ips"]]
        assert [macvlans(pod) for pod in pods] == [[("macvlan0", [address])] for address in addresses]
        assert node.show("link show type macvlan") == []
        assert len(os.listdir(f"{node.state_dir}/attachments")) == MANY
        assert all("table inet macvlan_egress" in pod.run("nft", "list", "ruleset") for pod in pods)
        assert "macvlan_egress" not in node.run("nft", "list", "ruleset")
        for answer in pool.map(lambda one: warm.send("CHECK", one), requests):
            answer.ok()
        for answer in pool.map(lambda one: warm.send("DEL", one), requests):
            answer.ok()
    assert [macvlans(pod) for pod in pods] == [[] for _ in pods]
    assert at_home(daemon)
    assert daemon.metric("workers_replaced_total") == 0
    assert daemon.metric('calls_total{verb="ADD",code="0"}') == MANY


def test_one_address_asked_for_at_once_is_given_once(node: Node, daemon: Daemon, warm: Warm) -> None:
    requests = [node.request(node.pod(ipv6=False), source("192.168.12.99"), conf=QUICK) for _ in range(12)]
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(lambda one: warm.send("ADD", one), requests))
    assert sorted(answer.status for answer in answers) == [0] + [1] * 11
    assert {answer.json["code"] for answer in answers if answer.status} == {103}


def test_one_attachment_added_and_deleted_at_once_ends_in_one_of_both(
    node: Node, daemon: Daemon, warm: Warm
) -> None:
    pod = node.pod(ipv6=False)
    request = node.request(pod, source("192.168.12.99"), conf=QUICK)
    with unchanged(pod, node):
        with ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda verb: warm.send(verb, request), ["ADD", "DEL"] * 8):
                assert answer.status == 0 or answer.json["code"] == 108, answer
        there = pod.link("macvlan0") is not None
        assert there == os.path.exists(node.record(pod)) == node.holds("192.168.12.99")
        warm.send("DEL", request).ok()


def test_descriptors_threads_and_memory_stay_what_they_are(node: Node, daemon: Daemon, warm: Warm) -> None:
    pods = [node.pod(ipv6=False) for _ in range(4)]
    requests = [node.request(pod, {ASSIGN: "true"}, conf=QUICK) for pod in pods]

    def cycle(request: Request, times: int) -> None:
        for _ in range(times):
            warm.send("ADD", request).ok()
            warm.send("DEL", request).ok()

    def all_cycle(times: int) -> None:
        with ThreadPoolExecutor(len(requests)) as pool:
            list(pool.map(cycle, requests, [times] * len(requests)))

    def held() -> list[tuple[int, int]]:
        return [
            (len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))
            for pid in daemon.processes()
        ]

    def kilobytes() -> int:
        return sum(
            int(line.split()[1])
            for pid in daemon.processes()
            for line in open(f"/proc/{pid}/smaps_rollup")
            if line.startswith("Private_Dirty")
        )

    all_cycle(CYCLES // 8)
    eventually(daemon.settled, "threads are left")
    before, memory = held(), kilobytes()
    all_cycle(CYCLES // 4)
    eventually(lambda: held() == before, f"descriptors and threads of each process: {before}, then {held()}")
    assert [threads for _, threads in before] == [1, THREADS + 1, THREADS + 1]
    # A thread's stack and arena are touched when it works for the first time; no more than that.
    assert kilobytes() - memory < 8192
    assert at_home(daemon)


def test_thread_that_has_gone_astray_ends_its_worker(node: Node, daemon: Daemon, warm: Warm) -> None:
    """The namespace check can fail: a worker that starts in another one than its threads find themselves in."""
    pod = node.pod()
    warm.send("VERSION", Request()).ok()
    assert at_home(daemon)
    script = (
        "import os, socket, sys, threading\n"
        "from cni_macvlan_egress.daemon import worker\n"
        "from cni_macvlan_egress.daemon.counters import Counters\n"
        "from cni_macvlan_egress.kernel.netns import own_identity\n"
        "import ctypes\n"
        "listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); listener.listen()\n"
        "home = own_identity()\n"
        "assert ctypes.CDLL(None).setns(os.open(sys.argv[2], os.O_RDONLY), 0x40000000) == 0\n"
        "sys.stdout.write('ready\\n'); sys.stdout.flush()\n"
        "worker._serve_calls(listener, home, threading.Semaphore(1), Counters(1, 32).slots[0], 0)\n"
    )
    import socket
    import subprocess
    import sys

    path = f"{daemon.directory}/astray.sock"
    with subprocess.Popen(
        [sys.executable, "-c", script, path, pod.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "ready\n"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(path)
            with pytest.raises(ConnectionError):
                sock.sendall(b"x")
                assert not sock.recv(1)
                raise ConnectionResetError
        assert process.wait(20) == os.EX_SOFTWARE
        assert "foreign network namespace" in json.loads(process.stderr.read())["msg"]
