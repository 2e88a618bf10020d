"""The image of conf/container, built for real: its base is made of Debian's packages, so that no registry is needed."""

from __future__ import annotations

import configparser
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
CONTAINERFILE = REPOSITORY / "conf/container/Containerfile"
_BASE, _IMAGE = "localhost/base", "localhost/macvlan-egress"
_PIP_CERTIFICATES = "/etc/pip-certificates.pem"
# As Debian's own slim images are, without perl's library, which only moves files of older installations.
_BASE_OPTIONS = [
    "--variant=essential", "--include=apt,usr-is-merged", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man", "lintian")),
]  # fmt: skip
# What of pip's configuration says where packages come from.
_PIP_KEYS = ("cert", "index-url", "extra-index-url", "proxy", "trusted-host")


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        root: its files.
        config: the image's own configuration: Entrypoint, Cmd, Env, Labels.
    """

    root: Path
    config: dict[str, Any]


def build(directory: Path) -> Image:
    """The image, built by whichever test comes first; test processes that run at the same time share it."""
    directory.mkdir(exist_ok=True)
    done = directory / "config.json"
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _build(directory, done)
    return Image(directory / "root", json.loads(done.read_text()))


def _build(directory: Path, done: Path) -> None:
    base, store = directory / "base.tar", directory / "store"
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    _run("mmdebstrap", "--quiet", *_BASE_OPTIONS, release, str(base))
    podman = ("podman", "--root", str(store), "--runroot", str(directory / "run"))
    volumes = [word for one in _pip_volumes(directory) for word in ("--volume", one)]
    try:
        _run(*podman, "import", "--quiet", str(base), _BASE)
        base.unlink()
        _run(
            *podman, "build", "--layers=false", "--isolation=chroot", "--pull=never",
            "--build-arg", f"BASE={_BASE}", "--file", str(CONTAINERFILE), "--tag", _IMAGE,
            *volumes, str(REPOSITORY),
        )  # fmt: skip
        _extract(podman, directory / "root")
        config = json.loads(_run(*podman, "image", "inspect", _IMAGE))[0]["Config"]
    finally:
        _run(*podman, "rmi", "--all", "--force")
        subprocess.run(["umount", store / "overlay"], capture_output=True, check=False)  # podman leaves it
        shutil.rmtree(store)
    done.write_text(json.dumps(config))


def _extract(podman: tuple[str, ...], root: Path) -> None:
    container = _run(*podman, "create", _IMAGE).strip()
    root.mkdir()
    with subprocess.Popen([*podman, "export", container], stdout=subprocess.PIPE) as export:
        subprocess.run(["tar", "-C", str(root), "-xf", "-"], stdin=export.stdout, check=True)
    assert export.returncode == 0
    _run(*podman, "rm", container)


def _pip_volumes(directory: Path) -> list[str]:
    """What this machine's pip knows of where packages come from, for the one in the image."""
    listed = _run(sys.executable, "-m", "pip", "config", "list")
    found = {
        name.rpartition(".")[2]: value.strip("'\"")
        for name, _, value in (line.partition("=") for line in listed.splitlines())
    }
    own = {name: found[name] for name in _PIP_KEYS if name in found and "file:" not in found[name]}
    volumes = []
    if certificates := own.get("cert"):
        volumes.append(f"{os.path.realpath(certificates)}:{_PIP_CERTIFICATES}:ro")
        own["cert"] = _PIP_CERTIFICATES
    parser = configparser.RawConfigParser()
    parser["global"] = own
    path = directory / "pip.conf"
    with open(path, "w") as file:
        parser.write(file)
    return [*volumes, f"{path}:/etc/pip.conf:ro"]


def _run(*argv: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout
