"""Every command line that the documentation shows is run, on a machine as its page takes for granted.

What needs more than a node, such as a cluster, names the test that runs it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import commands
import pytest
from lab import Lab, Pod, source
from lab.machine import CommandError, Machine, Process, eventually, sweep
from lab.needed import DEBIAN_PLUGINS, REPOSITORY

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
WORK = "/root/work"
PREFIX = "/opt/cni-macvlan-egress"
ROUTER_OBJECT = """\
apiVersion: network.operator.openshift.io/v1
kind: EgressRouter
metadata: {name: egress, namespace: shop}
spec:
  mode: Redirect
  networkInterface: {macvlan: {mode: Bridge}}
  addresses: [{ip: 192.168.12.99/24, gateway: 192.168.12.1}]
  redirect: {redirectRules: [{destinationIP: 203.0.113.25, port: 80, protocol: TCP}]}
"""
# Says what an API server would.
KUBECTL = f"""\
#!/bin/sh
case " $* " in *" egressrouters "*) exec cat {WORK}/objects.yaml ;; *) exec cat {WORK}/router.yaml ;; esac
"""
# What these end with says what they have found.
FINDING = re.compile(r"macvlan-egress (doctor|policy (explain|status|sync)|migrate --check|plan)\b")
STAYING = re.compile(r"macvlan-egress (daemon|policy sync --follow|install .*--watch)")
# Run by other tests, which are named; some word of the line stands in that file.
ELSEWHERE = {
    r"bin/demo|.*/macvlan-egress demo": "tests/netns/test_demo.py",
    r"macvlan-egress demo( --json)?": "tests/netns/test_demo.py",
    r"bin/test( tests/unit)?": ".ci/run",
    r"bin/test (-n \d+ )?tests/faults .*": "tests/faults/conftest.py",
    r"bin/(package|release-check)": "tests/packaging/test_artefacts.py",
    r"bin/test-kubernetes": "bin/test-kubernetes",
    r"bin/test-kernel": "bin/test-kernel",
    r"bin/fuzz( --record)?": "tests/fuzz/session.py",
    r"tar -C /opt.*|ln -sfn cni-.*": "tests/packaging/test_archive.py",
    r"apt install \./.*\.deb": "release/check.py",
    r"python3 -m venv .*|.*/pip install .*": "tests/kubernetes/conftest.py",
    r"kubectl (describe|apply|create|label|delete|wait|-n) ?.*|kubectl apply": "tests/kubernetes/test_manifests.py",
    r"sudo \.venv/bin/python -m benchmarks.*": "tests/benchmarks/test_benchmark_runs.py",
    r"(sudo )?bin/storm.*": "tests/storm/test_storm.py",
    r"python3 docs/errors_page.py .*": "tests/docs/test_docs.py",
    r"bin/macvlan-egress manual .*": "tests/admin/test_manual.py",
    r"python3 launcher/build.py --all": "tests/daemon/running.py",
}
# Nothing here can run these: no systemd, no registry, no OpenStack, another machine; or they are only names.
UNTRIED = re.compile(
    r"systemctl .*|cp conf/.*/etc/systemd/system/|podman .*|openstack .*|oc process|nsenter .*crictl.*"
    r"|pip install.*|nft -f|python3? -I?.*(-c pass|-IBS)|\.venv/bin/python -m release\.lock|ip link set NIC up"
    r"|macvlan-egress COMMAND --help"
)


class Scene:
    """A node with a main CNI's conflist, our entry in it, a policy, and a pod that is attached."""

    def __init__(self, lab: Lab, machine: Machine) -> None:
        self._machine = machine
        self._lab = lab
        self._write_files()
        for line in (
            f"ln -s {sys.prefix} {PREFIX}",
            f"cp -r {DEBIAN_PLUGINS} /opt/cni/bin",
            "mkdir -p /host/opt/cni/bin",
        ):
            self._machine.run("bash", "-ec", line)
        self._install()
        self.pod = self._attached()

    def run(self, line: str) -> str:
        """What a line of the documentation prints."""
        shell = "fish" if line.endswith("| source") else "zsh" if "fpath" in line else "bash"
        return self._machine.run(
            "env", f"--chdir={WORK}", f"PATH={self._path}", shell, "-c", self._filled(line)
        )

    def run_and_go_on(self, line: str) -> None:
        """The same; what the line has taken out is put back for those that follow."""
        self.run(line)
        if " uninstall" in line:
            self._install()

    def start(self, line: str) -> Process:
        """Start one that stays."""
        words = ["env", f"--chdir={WORK}", f"PATH={self._path}", *self._filled(line).split()]
        return self._machine.start(words, f"/var/log/{re.sub('[^a-z-]', '-', line)}.log")

    def in_pod(self, line: str) -> str:
        return self.pod.run(*line.split())

    @property
    def _path(self) -> str:
        return f"{WORK}/bin:{PREFIX}/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    @staticmethod
    def _filled(line: str) -> str:
        file = "policy.yaml" if " policy " in line else "10-mynet.conflist"
        return line.replace(" FILE", f" {file}")

    def _install(self) -> None:
        networks = "10.0.0.0/8 192.168.12.0/24"
        self.run(f"macvlan-egress install --namespaces shop egress --policy --cluster-networks {networks}")

    def _write_files(self) -> None:
        write = self._machine.write
        conf = REPOSITORY / "conf"
        with_entry = (conf / "10-bridge-macvlan-egress.conflist").read_text()
        main = json.loads(with_entry)
        main["plugins"] = main["plugins"][:1]
        policy = (conf / "policies/egressnetworkpolicy.yaml").read_text()
        self._machine.run("rm", "-rf", "/etc/cni", "/opt/cni", PREFIX, "/var/lib/cni")
        self._machine.run("mkdir", "-p", "/opt/cni", f"{WORK}/bin")
        write("/etc/cni/net.d/10-mynet.conflist", json.dumps(main, indent=2))
        write("/etc/cni/macvlan-egress/policies.d/shop.yaml", policy)
        for name, text in {
            "10-mynet.conflist": with_entry,
            "pod.yaml": (conf / "pod-egress.yaml").read_text(),
            "router.yaml": (conf / "pod-openshift-router.yaml").read_text(),
            "objects.yaml": ROUTER_OBJECT,
            "policy.yaml": policy,
            "shop.yaml": policy,
            "bin/kubectl": KUBECTL,
        }.items():
            write(f"{WORK}/{name}", text)
        self._machine.path(f"{WORK}/bin/kubectl").chmod(0o755)

    def _attached(self) -> Pod:
        """A pod that the machine knows by the name that the lab has given it."""
        machine, node = self._machine, self._lab.node
        pod = node.pod()
        machine.start(["sleep", "1000000"], "/var/log/sleep.log", pod)
        eventually(lambda: machine.processes("sleep", "1000000"), "the pod's process does not start")
        (pid,) = machine.processes("sleep", "1000000")
        machine.run("ip", "netns", "attach", pod.name, str(pid))
        entry = json.loads(machine.path("/etc/cni/net.d/10-mynet.conflist").read_text())["plugins"][-1]
        asked = source("192.168.12.99/24", destination="80 tcp 203.0.113.25")
        own = {"stateDir": None, "runDir": None, "logFile": None, **entry}
        request = node.request(pod, asked, conf=own)
        environment = {"CNI_COMMAND": "ADD", "CNI_PATH": "/opt/cni/bin", **request.environment}
        machine.run(
            "env", *(f"{name}={value}" for name, value in environment.items()), "/opt/cni/bin/macvlan-egress",
            stdin=request.stdin,
        )  # fmt: skip
        return pod


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    sweep()
    machine = Machine(lab.node, "/usr/bin")
    try:
        yield Scene(lab, machine)
    finally:
        machine.switch_off()


def _of_a_node(page: Path) -> list[str]:
    """The lines that are run here."""
    return [
        line
        for line in commands.shown(page)
        if not UNTRIED.fullmatch(line) and not any(re.fullmatch(pattern, line) for pattern in ELSEWHERE)
    ]


def _run(scene: Scene, line: str) -> None:
    if STAYING.search(line):
        process = scene.start(line)
        eventually(lambda: process.log or not process.runs, lambda: f"{line} says nothing")
        assert process.runs, process.log
        assert process.end() == 0, process.log
        return
    if re.match(r"ip |nft ", line):
        assert scene.in_pod(line)
        return
    try:
        scene.run_and_go_on(line)
    except CommandError as error:
        assert FINDING.search(line), error
        assert error.stdout, error
        assert "Traceback" not in error.stderr, error


@pytest.mark.parametrize("page", list(filter(_of_a_node, PAGES)), ids=lambda page: page.name)
def test_commands_of_the_page_work(scene: Scene, page: Path) -> None:
    for line in _of_a_node(page):
        _run(scene, line)


@pytest.mark.parametrize("file", sorted(set(ELSEWHERE.values())))
def test_what_is_run_elsewhere_is(file: str) -> None:
    assert os.path.exists(REPOSITORY / file)


def test_no_exception_is_left_over() -> None:
    lines = [line for page in PAGES for line in commands.shown(page)]
    assert not [pattern for pattern in ELSEWHERE if not any(re.fullmatch(pattern, line) for line in lines)]
    assert shutil.which("bash")
