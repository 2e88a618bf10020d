"""Same call, same answer: by the daemon byte for byte what direct mode says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import ASSIGN, Answer, Node, Pod, Request, source

from cni_macvlan_egress.protocol.versions import SUPPORTED

from .running import Daemon, Warm, emulator, make_launcher

Send = Callable[[str, Request], Answer]
# What the kernel or chance would choose, and what takes time.
FIXED = {"mac": "02:11:22:33:44:55", "conflictDetection": "off"}
ASKED = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1", destination="203.0.113.25")
pytestmark = pytest.mark.usefixtures("daemon")


def same(direct: list[Answer], warm: list[Answer]) -> None:
    assert [(one.status, one.stdout, one.stderr) for one in warm] == [
        (one.status, one.stdout, one.stderr) for one in direct
    ]


def life(pod: Pod, request: Request, send: Send) -> list[Answer]:
    """All that can be asked about one attachment, good and bad."""
    answers = [send("CHECK", request), send("ADD", request), send("ADD", request)]
    later = request.but(prevResult=json.loads(answers[1].stdout))
    answers.append(send("CHECK", later))
    name = json.loads(answers[1].stdout)["interfaces"][-1]["name"]
    pod.ip(f"link set {name} mtu 1400", f"address add 192.168.12.7/24 dev {name}")
    answers += [send("CHECK", later), send("DEL", later), send("DEL", later), send("CHECK", later)]
    return answers


@pytest.mark.parametrize("version", [one for one in SUPPORTED if one >= "0.3.0"])
def test_chained_attachment_is_answered_alike(node: Node, warm: Warm, version: str) -> None:
    pod = node.pod(version=version)
    request = node.request(pod, ASKED, conf=FIXED)
    direct = life(pod, request, node.send)
    assert [one.status for one in direct].count(0) >= 3
    same(direct, life(pod, request, warm.send))
    plain = node.request(pod, {})
    for verb in ("ADD", "CHECK", "DEL"):
        same([node.send(verb, plain)], [warm.send(verb, plain)])


def test_launcher_of_another_machine_is_answered_alike(node: Node, daemon: Daemon, tmp_path: Path) -> None:
    program = make_launcher(tmp_path / "arm64", daemon.socket, machine="aarch64")

    def send(verb: str, request: Request) -> Answer:
        environment = {"CNI_COMMAND": verb, **request.environment}
        return node.execute(environment, request.stdin, program=program, wrapper=(emulator("aarch64"),))

    pod = node.pod()
    request = node.request(pod, ASKED, conf=FIXED)
    same(life(pod, request, node.send), life(pod, request, send))


@pytest.mark.parametrize("version", SUPPORTED)
def test_standalone_attachment_is_answered_alike(node: Node, warm: Warm, version: str) -> None:
    pod = node.pod()
    conf = {**FIXED, "runtimeConfig": {"ips": ["192.168.12.99/24"]}}
    request = node.standalone(pod, version=version, conf=conf)

    def both_ways(send: Send) -> list[Answer]:
        return [
            send(verb, request) for verb in ("ADD", "ADD", "DEL", "DEL", "CHECK", "STATUS", "GC", "VERSION")
        ]

    direct = both_ways(node.send)
    assert direct[0].status == direct[2].status == 0
    same(direct, both_ways(warm.send))


def test_leased_attachment_is_answered_alike(node: Node, warm: Warm) -> None:
    pod = node.pod()
    pool = {"subnet": "192.168.12.0/24", "rangeStart": "192.168.12.200", "gateway": "192.168.12.1"}

    def both_ways(send: Send, name: str) -> list[Answer]:
        ipam = {"type": "host-local", "ranges": [[pool]], "dataDir": f"{node.directory}/{name}"}
        request = node.standalone(pod, version="1.0.0", conf={**FIXED, "ipam": ipam})
        return [send(verb, request) for verb in ("ADD", "CHECK", "DEL")]

    direct = both_ways(node.send, "direct")
    assert [one.status for one in direct] == [0, 0, 0]
    same(direct, both_ways(warm.send, "warm"))


def test_what_is_recorded_is_the_same(node: Node, warm: Warm) -> None:
    pod = node.pod()
    request = node.request(pod, ASKED, conf=FIXED)

    def record(send: Send) -> Any:
        send("ADD", request).ok()
        with open(node.record(pod)) as file:
            found = json.load(file)
        send("DEL", request).ok()
        return found

    direct, warmly = record(node.send), record(warm.send)
    assert direct["plan"]
    different = {key for key in direct if direct[key] != warmly[key]}
    assert different <= {"created"}


def _broken_environments(node: Node, pod: Pod) -> dict[str, dict[str, str]]:
    whole = {"CNI_COMMAND": "ADD", **node.request(pod, ASKED).environment}
    return {
        "no variables": {"CNI_COMMAND": "ADD"},
        "empty verb": {**whole, "CNI_COMMAND": ""},
        "unknown verb": {**whole, "CNI_COMMAND": "UPDATE"},
        "not UTF-8": {**whole, "CNI_CONTAINERID": "\udcff"},
        "bad interface name": {**whole, "CNI_IFNAME": "a/b"},
        "long container ID": {**whole, "CNI_CONTAINERID": "a" * 300},
        "bad arguments": {**whole, "CNI_ARGS": "K8S_POD_NAME"},
        "unknown arguments": {**whole, "CNI_ARGS": "COLOUR=red"},
        "no such namespace": {**whole, "CNI_NETNS": "/run/netns/nobody"},
        "no namespace": {**whole, "CNI_NETNS": "/etc/passwd"},
        "the node's namespace": {**whole, "CNI_NETNS": node.path},
        "second of a name": {**whole, "CNI_NETNS": node.path, "CNI_NETNS_OVERRIDE": "no"},
    }


def test_bad_environments_are_answered_alike(node: Node, warm: Warm) -> None:
    pod = node.pod()
    stdin = node.request(pod, ASKED, conf=FIXED).stdin
    for name, environment in _broken_environments(node, pod).items():
        raw = {key: os.fsencode(value) for key, value in environment.items()}
        direct = node.execute(raw, stdin)  # type: ignore[arg-type]
        assert direct.status, name
        same([direct], [warm.execute(raw, stdin)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "stdin",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": 1} x', b'{"a": NaN}', b'{"cniVersion": "9"}', b"[" * 100000,
        b'{"cniVersion": "0.4.0"}', b'{"cniVersion": 5, "name": "x", "type": "macvlan-egress"}',
        b'{"pad": "' + b"x" * (8 << 20) + b'"}', b" " * ((8 << 20) - 2) + b"{}", b" " * ((8 << 20) + 1),
        b'{"cniVersion": "0.3.1", "name": "n", "type": "t", "prevResult": {"cniVersion": "0.4.0\\""}}',
    ],
    ids=lambda data: f"{data[:40]!r} {len(data)}",
)  # fmt: skip
@pytest.mark.parametrize("verb", ["ADD", "DEL", "GC", "VERSION"])
def test_bad_documents_are_answered_alike(node: Node, warm: Warm, verb: str, stdin: bytes) -> None:
    environment = {
        "CNI_COMMAND": verb, "CNI_CONTAINERID": "a1", "CNI_NETNS": "/run/netns/nobody", "CNI_IFNAME": "eth0",
    }  # fmt: skip
    same([node.execute(environment, stdin)], [warm.execute(environment, stdin)])


@pytest.mark.parametrize(
    "conf",
    [
        {"mastr": "eth0"}, {"master": "nic9"}, {"mtu": 9999}, {"mode": "bride"}, {"allow": []}, {"allow": None},
        {"mac": "x"}, {"stateDir": "relative"}, {"stateDir": "/proc/x"}, {"ifName": "eth0"},
        {"ipam": {"type": "nothing"}}, {"policy": {"directory": "/etc/passwd"}},
        {"policy": {"kubernetes": True}}, {"kubeconfig": "/nowhere"}, {"cniVersion": "7.0.0"}, {"name": "a b"},
        {"runtimeConfig": {}, "annotations": ["runtime"]}, {"prevResult": {"cniVersion": "1.1.0", "ips": 5}},
    ],
    ids=str,
)  # fmt: skip
def test_bad_configurations_are_answered_alike(node: Node, warm: Warm, conf: dict[str, Any]) -> None:
    pod = node.pod()
    request = node.request(pod, {ASSIGN: "true"}, conf={**FIXED, **conf})
    verbs = ("ADD", "CHECK", "STATUS", "DEL", "GC")
    direct = [node.send(verb, request) for verb in verbs]
    same(direct, [warm.send(verb, request) for verb in verbs])


@pytest.mark.parametrize(
    "annotations",
    [
        {ASSIGN: "nic9"}, {ASSIGN: "perhaps\n"}, {"macvlan-egress/source": "nonsense"},
        source("192.168.12.99", "192.168.12.99"), source("192.168.12.99", "fd00:12::1"),
        source("192.168.12.99", destination="70000 tcp 203.0.113.25"),
        source("192.168.12.99", "", destination="1.2.3.4"),
        {ASSIGN: "true", "macvlan-egress/colour": "red"}, source("192.168.12.10"), source("é"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_annotations_are_answered_alike(node: Node, warm: Warm, annotations: dict[str, str]) -> None:
    request = node.request(node.pod(), annotations, conf=FIXED)
    direct = node.send("ADD", request)
    assert direct.status, direct
    same([direct], [warm.send("ADD", request)])


def test_conflicts_are_answered_alike(node: Node, warm: Warm) -> None:
    holder, pod = node.pod(), node.pod()
    node.lab.lan.host("192.168.12.77")
    node.add(holder, source("192.168.12.98"), conf={"conflictDetection": "off"}).ok()
    for address in ("192.168.12.98", "192.168.12.77"):
        request = node.request(pod, source(address), conf={"mac": FIXED["mac"]})
        direct = node.send("ADD", request)
        assert direct.status, direct
        same([direct], [warm.send("ADD", request)])


def test_answer_that_cannot_be_written_is_told_alike(node: Node, warm: Warm) -> None:
    request = node.request(node.pod(), {})
    for redirection in (">/dev/full", ">&-"):
        wrapper = ("sh", "-c", f'exec "$0" "$@" {redirection}')
        for verb in ("ADD", "VERSION", "DEL"):
            environment = {"CNI_COMMAND": verb, **request.environment}
            direct, warmly = (
                run(environment, request.stdin, wrapper=wrapper, check=False)
                for run in (node.execute, warm.execute)
            )
            same([direct], [warmly])


def test_the_daemon_did_it_all(node: Node, warm: Warm, daemon: Daemon) -> None:
    """The comparisons above would hold as well if the launcher went direct."""
    warm.send("VERSION", Request())
    request = node.request(node.pod(), {"macvlan-egress/source": "nonsense"})
    warm.send("ADD", request).refused(106)
    assert daemon.metric('calls_total{verb="VERSION",code="0"}') == 1
    assert daemon.metric('calls_total{verb="ADD",code="106"}') == 1
