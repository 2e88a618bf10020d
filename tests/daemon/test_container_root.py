"""The image and the DaemonSet together, on a host that has neither Python nor the plugin."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Answer, Lab, Node, Pod, source
from lab.network import OUTSIDE4, OUTSIDE6
from manifests.kustomize import KUBERNETES, Object, find, render

from .container import Container, Host, over_the_hosts, own
from .image import Image, build
from .running import eventually

OBJECTS = render(KUBERNETES / "base")
POD: Object = find(OBJECTS, "DaemonSet")["spec"]["template"]["spec"]
SPECS = {one["name"]: one for one in (*POD["initContainers"], *POD["containers"])}
UNINSTALL = next(
    one
    for one in find(render(KUBERNETES / "base", "uninstall"), "DaemonSet")["spec"]["template"]["spec"][
        "initContainers"
    ]
    if one["name"] == "uninstall"
)
ENTRY: dict[str, str] = find(OBJECTS, "ConfigMap")["data"]
CAPABILITIES: list[str] = SPECS["daemon"]["securityContext"]["capabilities"]["add"]
MAIN = {
    "cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0"}],
}  # fmt: skip
POLICY = {
    "apiVersion": "network.openshift.io/v1", "kind": "EgressNetworkPolicy",
    "metadata": {"name": "shop", "namespace": "shop"},
    "spec": {"egress": [{"type": "Deny", "to": {"cidrSelector": f"{OUTSIDE4}/32"}}]},
}  # fmt: skip
OTHER_USER = 1001
DAEMON_SOCKET = "/run/macvlan-egress/daemon.sock"
ASKED = source(
    "192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1", destination=f"{OUTSIDE4}\n{OUTSIDE6}"
)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    base = tmp_path_factory.getbasetemp()
    return build((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "image")


@pytest.fixture
def host(node: Node, tmp_path: Path) -> Host:
    """What the manifest finds on a node: a main CNI with its plugins."""
    host = Host(node, tmp_path, POD, ENTRY)
    for name in ("host-local", "bridge"):
        shutil.copy(f"/usr/lib/cni/{name}", host.path("/opt/cni/bin") / name)
    return host


@pytest.fixture
def run(host: Host, image: Image) -> Iterator[Callable[..., Container]]:
    made: list[Container] = []

    def start(spec: Object, *without: str) -> Container:
        made.append(Container(host, image, spec))
        return made[-1].start(*without)

    yield start
    for one in made:
        one.close()


@pytest.fixture
def daemon(run: Callable[..., Container], host: Host) -> Container:
    return serving(run(SPECS["daemon"]), host)


@pytest.fixture
def launcher(run: Callable[..., Container], host: Host) -> Path:
    """What the init container puts on the host."""
    container = run(SPECS["launcher"])
    assert container.wait() == 0, container.log
    return host.path("/opt/cni/bin/macvlan-egress")


def serving(container: Container, host: Host) -> Container:
    eventually(lambda: host.path(DAEMON_SOCKET).exists() or not container.runs, "the daemon does not start")
    assert container.runs, container.log
    return container


def call(host: Host, launcher: Path, verb: str, pod: Pod, asked: dict[str, str], **conf: Any) -> Answer:
    """A runtime's call on the host, which has a runtime's paths and the configuration's defaults."""
    conf = {"stateDir": None, "runDir": None, "logFile": None, **conf}
    request = host.node.request(pod, asked, conf=conf)
    environment = {"CNI_COMMAND": verb, **request.environment, "CNI_PATH": "/opt/cni/bin"}
    return host.node.execute(
        environment, request.stdin, program=str(launcher), wrapper=over_the_hosts(host)
    )  # fmt: skip


def records(host: Host) -> list[str]:
    return os.listdir(host.path("/var/lib/cni/macvlan-egress/attachments"))


def test_image_is_small_and_has_no_tools_to_build(image: Image) -> None:
    for name in ("gcc", "cc", "ld", "make", "pip", "pip3"):
        assert not list(image.root.glob(f"**/bin/{name}")), name
    size = int(
        subprocess.run(["du", "-sm", image.root], capture_output=True, check=True, text=True).stdout.split()[
            0
        ]
    )
    assert size < 160, f"{size} MB"
    assert not list(image.root.glob("opt/**/site-packages/pip"))
    assert not os.listdir(image.root / "var/cache") and not os.listdir(image.root / "var/lib/apt/lists")


def test_image_says_what_it_is(image: Image) -> None:
    assert image.config["Entrypoint"] == ["/opt/cni-macvlan-egress/bin/macvlan-egress"]
    assert image.config["Cmd"] == ["daemon"]
    assert image.config["Labels"]["org.opencontainers.image.title"] == "cni-macvlan-egress"
    assert not [one for one in image.config["Env"] if one.startswith("PIP_")]


def test_daemon_of_the_image_serves_the_host(lab: Lab, host: Host, daemon: Container, launcher: Path) -> None:
    pod = host.node.pod()  # younger than the daemon: its namespace has to come through
    call(host, launcher, "ADD", pod, ASKED).ok()
    assert pod.reach(lab.outside, OUTSIDE4, device="macvlan0") == "192.168.12.99"
    assert pod.reach(lab.outside, OUTSIDE6, device="macvlan0") == "fd00:12::99"
    assert host.node.reach(lab.outside, pod.address) == "192.168.12.99"  # redirected
    assert records(host) == [f"{pod.container_id}@eth0.json"]
    call(host, launcher, "CHECK", pod, ASKED).ok()
    call(host, launcher, "DEL", pod, ASKED).ok()
    assert pod.link("macvlan0") is None
    assert records(host) == []
    assert host.path("/var/log/macvlan-egress.log").exists()
    assert daemon.stop() == 0


def test_daemon_of_the_image_runs_the_hosts_ipam_plugins(
    host: Host, daemon: Container, launcher: Path
) -> None:
    pod = host.node.pod("bridge")
    ranges = [[{"subnet": "192.168.12.0/24", "rangeStart": "192.168.12.200", "rangeEnd": "192.168.12.200"}]]
    ipam = {"type": "host-local", "ranges": ranges}
    bare = {"pod.network.openshift.io/assign-macvlan": "true"}
    call(host, launcher, "ADD", pod, bare, ipam=ipam).ok()
    lease = host.path("/var/lib/cni/networks/pods.macvlan-egress/192.168.12.200")
    assert lease.exists()
    assert "192.168.12.200/24" in pod.addresses("macvlan0")
    call(host, launcher, "DEL", pod, bare, ipam=ipam).ok()
    assert not lease.exists()


def test_egress_policies_are_in_force_with_the_same_privileges(
    lab: Lab, host: Host, daemon: Container, launcher: Path
) -> None:
    directory = host.path("/etc/cni/macvlan-egress/policies.d")
    directory.mkdir()
    (directory / "shop.json").write_text(json.dumps(POLICY))
    pod = host.node.pod()
    more = {"policy": {}, "clusterNetworks": ["10.244.0.0/16", "fd00:244::/32"]}
    call(host, launcher, "ADD", pod, ASKED, **more).ok()
    assert pod.reach(lab.outside, OUTSIDE4, device="macvlan0", timeout=0.3) is None
    assert pod.reach(lab.outside, OUTSIDE6, device="macvlan0") == "fd00:12::99"
    call(host, launcher, "DEL", pod, ASKED, **more).ok()


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_daemon_needs_each_of_its_capabilities(
    host: Host, run: Callable[..., Container], launcher: Path, capability: str
) -> None:
    daemon = run(SPECS["daemon"], capability)
    eventually(lambda: host.path(DAEMON_SOCKET).exists() or not daemon.runs, "nothing happens")
    if daemon.runs:
        pod = host.node.pod()
        answer = call(host, launcher, "ADD", pod, ASKED)
        assert answer.status == 1
        assert "Operation not permitted" in answer.stdout
    else:
        assert "Operation not permitted" in daemon.log


def test_proc_of_its_own_is_needed(host: Host, run: Callable[..., Container], launcher: Path) -> None:
    spec = {**SPECS["daemon"], "command": ["/opt/cni-macvlan-egress/bin/macvlan-egress"], "args": ["daemon"]}
    serving(run(spec), host)
    answer = call(host, launcher, "ADD", host.node.pod(), ASKED)
    assert "Read-only file system" in answer.stdout


def test_probe_hears_of_a_daemon_that_hangs(daemon: Container) -> None:
    probe = SPECS["daemon"]["livenessProbe"]["exec"]["command"]
    assert daemon.execute(probe) == 0
    for pid in daemon.processes():
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.execute(probe, 0.5)


@pytest.fixture
def conflist(host: Host) -> Path:
    """The main CNI's file, in the way of those who write as somebody else than root."""
    directory = host.path("/etc/cni/net.d")
    path = directory / "10-main.conflist"
    path.write_text(json.dumps(MAIN, indent=3))
    path.chmod(0o600)
    for one in (path, directory):
        own(one, OTHER_USER)
    return path


def is_installed(conflist: Path) -> bool:
    *_, last = json.loads(conflist.read_text())["plugins"]
    return bool(last == json.loads(ENTRY["entry.json"]))


def test_installer_adds_the_entry_and_uninstaller_restores_the_file(
    run: Callable[..., Container], conflist: Path
) -> None:
    before = conflist.read_bytes()
    installer = run(SPECS["install"])
    eventually(lambda: is_installed(conflist), "the entry does not come")
    conflist.write_bytes(before)  # as the main CNI's agent does
    eventually(lambda: is_installed(conflist), "the entry does not come back")
    assert installer.stop() == 0
    uninstaller = run(UNINSTALL)
    assert uninstaller.wait() == 0, uninstaller.log
    assert conflist.read_bytes() == before
    status = conflist.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (OTHER_USER, 0o600)


@pytest.mark.parametrize("capability", SPECS["install"]["securityContext"]["capabilities"]["add"])
def test_installer_needs_each_of_its_capabilities(
    run: Callable[..., Container], conflist: Path, capability: str
) -> None:
    spec = {**SPECS["install"], "args": [one for one in SPECS["install"]["args"] if one != "--watch"]}
    installer = run(spec, capability)
    assert installer.wait() == 1
    assert not is_installed(conflist)


def test_launcher_is_written_where_the_directory_is_somebody_elses(
    host: Host, run: Callable[..., Container]
) -> None:
    own(host.path("/opt/cni/bin"), OTHER_USER)
    assert run(SPECS["launcher"], "DAC_OVERRIDE").wait() == 1
    assert run(SPECS["launcher"]).wait() == 0
    assert host.path("/opt/cni/bin/macvlan-egress").stat().st_mode & 0o777 == 0o755
