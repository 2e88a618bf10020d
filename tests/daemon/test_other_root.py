"""The daemon as in a container: another root file system than the runtime's, the node's network, a few mounts."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Node, source

from .running import REPOSITORY, Daemon, Warm

SYSTEM = ("usr", "bin", "sbin", "lib", "lib64", "sys", "dev")


@pytest.fixture
def image(tmp_path: Path, node: Node) -> Path:
    """A root that has the plugin where the host has nothing, and an interpreter of its own name."""
    root = tmp_path / "image"
    own = (path.lstrip("/") for path in (sys.base_prefix, str(tmp_path), node.directory))
    for name in (*SYSTEM, *own, "proc", "run/netns", "opt/plugin", "opt/packages", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return root


@pytest.fixture
def contained(
    node: Node, make_daemon: Callable[..., Daemon], image: Path, tmp_path: Path
) -> Iterator[Daemon]:
    mounts = [f"mount --rbind -o ro /{name} {image}/{name}" for name in SYSTEM if (Path("/") / name).exists()]
    # What docs/daemon.md tells to mount; the namespaces as they come and go.
    mounts += [
        f"mount --rbind /proc {image}/proc",  # writable: sysctls are set through it
        f"mount --rbind /run/netns {image}/run/netns",
        *(f"mount --rbind {path} {image}{path}" for path in (tmp_path, node.directory)),
        f"mount --bind {REPOSITORY} {image}/opt/plugin",
        f"mount --bind {sys.base_prefix} {image}{sys.base_prefix}",
        f"mount --bind {sysconfig.get_paths()['purelib']} {image}/opt/packages",
    ]
    interpreter = os.path.realpath(sys.executable)
    # $0 and on: `python -m cni_macvlan_egress daemon …` of the host
    inside = f'shift 3; cd /; exec chroot {image} {interpreter} -B -c "$CODE" "$@"'
    script = "; ".join(["set -e", *mounts, inside])
    daemon = make_daemon(wrapper=("unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh"))
    code = (
        "import sys; sys.path += ['/opt/plugin', '/opt/packages']; "
        "from cni_macvlan_egress.admin import command_line; sys.exit(command_line.main(sys.argv[1:]))"
    )
    yield daemon.start({"CODE": code})


def test_daemon_in_another_root_serves_the_host(
    node: Node, contained: Daemon, warm: Warm, image: Path
) -> None:
    assert os.readlink(f"/proc/{contained.pid}/root") == str(image)
    assert not os.path.exists("/opt/plugin")
    asked = source("192.168.12.99/24,fd00:12::99/64", "192.168.12.1,fd00:12::1", destination="203.0.113.25")
    pod = node.pod()  # younger than the daemon: its namespace has to come through
    request = node.request(pod, asked, conf={"mac": "02:11:22:33:44:55", "conflictDetection": "off"})
    direct = node.send("ADD", request)
    node.send("DEL", request).ok()
    answer = warm.send("ADD", request)
    assert answer == direct
    answer.ok()
    assert pod.link("macvlan0")
    assert os.path.exists(node.record(pod))
    warm.send("CHECK", request).ok()
    node.send("CHECK", request).ok()
    pod.remove()
    warm.send("DEL", request).ok()
    assert not os.path.exists(node.record(pod))
    assert contained.metric('calls_total{verb="ADD",code="0"}') == 1


def test_host_without_python_needs_the_launcher_alone(contained: Daemon, warm: Warm, tmp_path: Path) -> None:
    """In a root that has nothing else at all."""
    root = tmp_path / "bare"
    (root / "run").mkdir(parents=True)
    os.link(warm.program, root / "macvlan-egress")
    directory = root / str(contained.directory).lstrip("/")
    directory.mkdir(parents=True)
    script = f"mount --bind {contained.directory} {directory}; exec chroot {root} /macvlan-egress"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env={"CNI_COMMAND": "VERSION", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert '"supportedVersions"' in done.stdout
