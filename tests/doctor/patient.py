"""A node that a test makes ill, and what the doctor says of it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from lab import POD_ANNOTATIONS, Node, within
from lab.node import MINIMAL_PATH

from cni_macvlan_egress import __version__
from cni_macvlan_egress.admin.examination import node as examined
from cni_macvlan_egress.admin.examination.check import examine
from cni_macvlan_egress.admin.examination.finding import Finding

_CLONE_NEWNS = 0x00020000
_LIBC = ctypes.CDLL(None, use_errno=True)
VERSION_ANSWER = '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}'
BUSYBOX = "/bin/busybox"
TYPE = "macvlan-egress"
IN_MOUNTS = str(Path(__file__).with_name("in_mounts.py"))
CONTAINERD = "containerd github.com/containerd/containerd v1.6.20 2806fc1057397dbaeefbea0e4e17bddfbd388f38"
_CONTAINERD_CONFIG = """\
version = 2
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
"""


class Findings(list[Finding]):
    """What was found."""

    def of(self, kind: str) -> list[Finding]:
        """The findings of a kind that are not `ok`."""
        return [one for one in self if one.id == kind and one.severity != "ok"]

    def ills(self) -> set[str]:
        """The kinds of which there is one that is not `ok`."""
        return {one.id for one in self if one.severity != "ok"}

    def shows(self, kind: str, severity: str, evidence: str, cure: str = "") -> Finding:
        """Exactly one finding of a kind, with words in its evidence and cure."""
        (found,) = self.of(kind)
        assert found.severity == severity, found
        assert evidence in found.evidence, found
        assert cure in found.cure, found
        assert found.cure, found
        return found


class Patient:
    """A node's file system below a directory: containerd, a conflist with the plugin, its executable.

    Args:
        bin_dir: where the plugin and Debian's plugins are.
    """

    def __init__(self, directory: Path, bin_dir: str) -> None:
        self.root = directory / "root"
        self.cni_dir = self.root / "etc/cni/net.d"
        self.bin_dir = self.root / "opt/cni/bin"
        self.state_dir = self.root / "var/lib/cni/macvlan-egress"
        self.run_dir = self.root / "run/macvlan-egress"
        self.log_file = self.root / "var/log/macvlan-egress.log"
        for path in (
            self.cni_dir,
            self.bin_dir,
            self.state_dir.parent,
            self.run_dir.parent,
            self.log_file.parent,
        ):
            path.mkdir(parents=True)
        self.directory = directory
        for name in ("bridge", "ptp", "host-local", "portmap"):
            (self.bin_dir / name).symlink_to(os.path.join(bin_dir, name))
        self.plugin(__version__)
        self.write("bin/sh", "").chmod(0o755)
        shutil.copyfile(BUSYBOX, self.root / "bin/sh")  # static: the node's programs run below its root
        self.write("etc/containerd/config.toml", _CONTAINERD_CONFIG)
        self.program("usr/bin/containerd", CONTAINERD)
        self.conflist()

    # -- its files

    def write(self, path: str, text: str) -> Path:
        """A file of the node."""
        found = self.root / path
        found.parent.mkdir(parents=True, exist_ok=True)
        found.write_text(text)
        return found

    def program(self, path: str, says: str, status: int = 0) -> Path:
        """A program that says something, whatever it is asked."""
        found = self.write(path, f"#!/bin/sh\necho '{says}'\nexit {status}\n")
        found.chmod(0o755)
        return found

    def plugin(self, version: str, answer: str = VERSION_ANSWER) -> Path:
        """What stands for the plugin's executable below a root that has no Python."""
        path = self.program("opt/cni/bin/macvlan-egress", "")
        words = f"[ \"$1\" = --version ] && echo 'macvlan-egress {version}' || echo '{answer}'"
        path.write_text(f"#!/bin/sh\n{words}\n")
        return path

    def entry(self, **keys: Any) -> dict[str, Any]:
        """The plugin's object; None takes a key away."""
        entry = {
            "type": TYPE,
            "capabilities": {POD_ANNOTATIONS: True},
            "allow": [{"namespaces": ["*"]}],
            **keys,
        }
        return {key: value for key, value in entry.items() if value is not None}

    def conflist(self, *plugins: Any, file: str = "10-pods.conflist", **keys: Any) -> str:
        """Write a conflist; by default one in which all is well. None takes a key away."""
        chain = list(plugins) or [{"type": "bridge", "ipam": {"type": "host-local"}}, self.entry()]
        document = {"cniVersion": "1.0.0", "name": "pods", "disableCheck": True, "plugins": chain, **keys}
        path = self.cni_dir / file
        path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
        return str(path)

    def chain(self, **keys: Any) -> str:
        """The usual chain with keys of the plugin's entry changed."""
        return self.conflist({"type": "bridge", "ipam": {"type": "host-local"}}, self.entry(**keys))

    @contextmanager
    def listening(self, path: str = "run/containerd/containerd.sock") -> Iterator[socket.socket]:
        """Somebody at a socket of the node."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(place))
            sock.listen()
            yield sock

    # -- the examination

    def look(
        self,
        *modules: ModuleType,
        node: Node | None = None,
        mounts: Sequence[str] | None = None,
        **places: str,
    ) -> Findings:
        """Have modules of the examination look at it in this process, from inside a node's namespace.

        Args:
            mounts: words of mount(8) for each thing that is different meanwhile, beside /sys.
        """
        given = {"root": str(self.root), **places}

        def work() -> Findings:
            if mounts is not None:
                _mount(("-t sysfs none /sys", *mounts))
            subject = examined.Node(examined.Places(**given))
            return Findings(examine(subject, [check for one in modules for check in one.CHECKS]))

        return within(node.path, work) if node else work()

    def command(
        self,
        node: Node,
        *words: str,
        mounts: Sequence[str] = (),
        without: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run the command on a node, with /sys as it is there.

        Args:
            mounts: words of mount(8) for each thing that is different for this process.
            without: a capability that it does not have, as setpriv(1) calls it.
        """
        wrapper = ["setpriv", f"--bounding-set=-{without}", f"--inh-caps=-{without}"] if without else []
        argv = self.argv(node, *words, mounts=mounts, wrapper=wrapper)
        env = {"PATH": MINIMAL_PATH}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def argv(
        self, node: Node, *words: str, mounts: Sequence[str] = (), wrapper: Sequence[str] = ()
    ) -> list[str]:
        """The command that examines a node."""
        return [
            *(
                "ip",
                "netns",
                "exec",
                node.name,
                sys.executable,
                IN_MOUNTS,
                json.dumps(list(mounts)),
                *wrapper,
            ),
            *(os.path.join(node.bin_dir, TYPE), "doctor", "--root", str(self.root), *words),
        ]

    def report(self, node: Node, *words: str, **options: Any) -> Findings:
        """What the command finds."""
        done = self.command(node, *words, "--json", **options)
        assert done.stdout, done.stderr
        fields = [
            {key: one[key] for key in one if key != "area"} for one in json.loads(done.stdout)["findings"]
        ]
        return Findings(Finding(**one) for one in fields)


def _mount(mounts: Sequence[str]) -> None:
    """Mount things in a mount namespace of this thread's own, which ends with it."""
    if _LIBC.unshare(_CLONE_NEWNS):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    for words in ("--make-rslave /", *mounts):
        subprocess.run(["mount", *words.split()], check=True)


def all_names(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file below a directory, with what would change if it was written to."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_mtime_ns, status.st_ctime_ns)
    return found
