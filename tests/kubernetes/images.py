"""Images without a registry: archives as `docker save` writes them, for `ctr images import`."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# What the shipped manifests name, and all that clients in the tests run.
PAUSE, BUSYBOX = "registry.k8s.io/pause:3.9", "docker.io/library/busybox:1.36"
_APPLETS = ("sh", "sleep", "nc", "wget", "ping", "ip", "cat", "ls")


def pause(path: Path) -> None:
    """An image that sleeps."""
    _busybox(path, PAUSE, ["/bin/sleep", "1000000"])


def busybox(path: Path) -> None:
    """An image with a shell and some tools."""
    _busybox(path, BUSYBOX, ["/bin/sh"])


def of_directory(path: Path, name: str, root: Path, config: dict[str, Any]) -> None:
    """An image that has the files of a directory."""
    layer = path.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        tar.add(root, ".", filter=_owned_by_root)
    _archive(path, name, layer, config)


def _busybox(path: Path, name: str, command: list[str]) -> None:
    layer = path.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox", filter=_owned_by_root)
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    _archive(path, name, layer, {"Env": ["PATH=/bin"], "Cmd": command})


def _archive(path: Path, name: str, layer: Path, config: dict[str, Any]) -> None:
    """The archive; takes the layer away."""
    with open(layer, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    machine = os.uname().machine
    description = {
        "os": "linux",
        "architecture": _ARCHITECTURES.get(machine, machine),
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for member, value in (("config.json", description), ("manifest.json", manifest)):
            text = path.with_suffix(".json")
            text.write_text(json.dumps(value))
            tar.add(text, member)
            text.unlink()
        tar.add(layer, "layer.tar")
    layer.unlink()


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    return member
