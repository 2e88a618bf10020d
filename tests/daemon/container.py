"""Runs a container of the DaemonSet as kubelet and containerd do: the image's root, the manifest's privileges."""

from __future__ import annotations

import copy
import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any

from lab import Node, within
from manifests.kustomize import Object

from .image import Image

NETNS = "/run/netns"
_SECONDS = 30
# containerd's for a container that is not privileged.
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"]
_SHELLS = ["/usr/bin/dash", "/usr/bin/bash", "/usr/bin/perl"]
_PROPAGATION = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}


class Host:
    """A node's file system, of which the containers see what the manifest mounts; /run/netns is the real one."""

    def __init__(self, node: Node, directory: Path, pod: Object, files: dict[str, str]) -> None:
        self.node = node
        self.directory = directory
        self._volumes = {one["name"]: one for one in pod["volumes"]}
        for one in self._volumes.values():
            self._source(one["name"]).mkdir(parents=True, exist_ok=True)
            if "configMap" in one:
                for name, text in files.items():
                    (self._source(one["name"]) / name).write_text(text)

    def path(self, path: str) -> Path:
        """Where the host's path is."""
        return Path(path) if path == NETNS else self.directory / "host" / path.lstrip("/")

    def mount(self, volume: Object) -> Object:
        """A mount of a container, as runc wants it."""
        options = ["rbind", _PROPAGATION[volume.get("mountPropagation", "None")]]
        return {
            "destination": volume["mountPath"],
            "type": "bind",
            "source": str(self._source(volume["name"])),
            "options": [*options, "ro" if volume.get("readOnly") else "rw"],
        }

    def _source(self, volume: str) -> Path:
        if path := self._volumes[volume].get("hostPath", {}).get("path"):
            return self.path(path)
        return self.directory / "volumes" / volume


class Container:
    """One container on a host, with the host's network and no other namespace shared."""

    def __init__(self, host: Host, image: Image, spec: Object) -> None:
        self.name = f"cme-{secrets.token_hex(6)}"
        self._host = host
        self._image = image
        self._spec = copy.deepcopy(spec)
        self._bundle = host.directory / self.name
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *without: str) -> Container:
        """Start it.

        Args:
            without: capabilities that it does not get, although the manifest says so.
        """
        self._bundle.mkdir()
        (self._bundle / "config.json").write_text(json.dumps(self._config(without)))
        command = [*self._runc, "run", "--bundle", str(self._bundle), self.name]
        with open(self._bundle / "log", "wb") as log:
            self._process = within(
                self._host.node.path,
                lambda: subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log),
            )
        return self

    def wait(self) -> int:
        """Its exit status when it has ended by itself."""
        assert self._process
        return self._process.wait(_SECONDS)

    @property
    def runs(self) -> bool:
        assert self._process
        return self._process.poll() is None

    @property
    def log(self) -> str:
        return (self._bundle / "log").read_text()

    def execute(self, argv: list[str], seconds: float = _SECONDS) -> int:
        """What an exec probe does: run something inside; its exit status."""
        command = [*self._runc, "exec", self.name, *argv]
        return subprocess.run(command, capture_output=True, check=False, timeout=seconds).returncode

    def processes(self) -> list[int]:
        """All of them, as the host numbers them."""
        listed = subprocess.run(
            [*self._runc, "ps", "--format", "json", self.name], capture_output=True, check=True
        )
        found: list[int] = json.loads(listed.stdout)
        return found

    def signal(self, name: str) -> None:
        """Send the first process a signal."""
        subprocess.run([*self._runc, "kill", self.name, name], capture_output=True, check=False)

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        self.signal("TERM")
        return self.wait()

    def close(self) -> None:
        """Make an end of it."""
        if self._process is None:
            return
        subprocess.run([*self._runc, "delete", "--force", self.name], capture_output=True, check=False)
        self._process.wait(_SECONDS)

    @property
    def _runc(self) -> list[str]:
        return ["runc", "--root", str(self._host.directory / "runc")]

    def _config(self, without: tuple[str, ...]) -> dict[str, Any]:
        spec, image = self._spec, self._image.config
        context = spec["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"]
        capabilities = [f"CAP_{name}" for name in context["capabilities"]["add"] if name not in without]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": [*spec.get("command", image["Entrypoint"]), *spec.get("args", image["Cmd"])],
                "env": image["Env"],
                "cwd": "/",
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
                "noNewPrivileges": not context["allowPrivilegeEscalation"],
            },
            "root": {"path": str(self._image.root), "readonly": context["readOnlyRootFilesystem"]},
            "mounts": [*_SYSTEM, *map(self._host.mount, spec["volumeMounts"])],
            "linux": {
                "namespaces": [{"type": name} for name in ("pid", "ipc", "uts", "mount")],
                "rootfsPropagation": "rslave",
                "cgroupsPath": f"/{self.name}",
                "readonlyPaths": _READ_ONLY,
                "maskedPaths": [*_MASKED, *_SHELLS],  # nothing in the image needs a shell
            },
        }


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


_SYSTEM = [
    _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
    _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
    _mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
]


def over_the_hosts(host: Host) -> tuple[str, ...]:
    """A wrapper of commands that are to find the host's directories where the real ones are."""
    script = 'mkdir -p "$0/run/netns"; mount --rbind /run/netns "$0/run/netns"; mount --rbind "$0/run" /run; exec "$@"'
    return ("unshare", "--mount", "sh", "-ec", script, str(host.path("/")))


def own(path: Path, user: int) -> None:
    """Give something to another user."""
    os.chown(path, user, user)
