"""All artefacts, built twice by whichever test comes first, and a root to install the .deb into."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for `release`, which is in the repository and in no package

from release import roots, source, tarball, wheels  # noqa: E402

EPOCH = 1_700_000_000


@dataclass(frozen=True)
class Artefacts:
    """What has been built.

    Attributes:
        tree: the copy of the repository that it was built from.
        output: the artefacts' directory.
        again: those that were built from the sdist, elsewhere, under other circumstances.
        unpacked: directories `archive` and `deb` with their files.
    """

    tree: Path
    output: Path
    again: Path
    unpacked: Path

    def one(self, pattern: str) -> Path:
        (found,) = self.output.glob(pattern)
        return found

    @property
    def sdist(self) -> Path:
        return self.one("cni_macvlan_egress-*.tar.gz")

    @property
    def wheel(self) -> Path:
        return self.one("*.whl")

    @property
    def archive(self) -> Path:
        return self.one("*-linux-*.tar.gz")

    @property
    def deb(self) -> Path:
        return self.one("*.deb")


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Artefacts:
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "artefacts"
    directory.mkdir(exist_ok=True)
    made = Artefacts(directory / "tree", directory / "output", directory / "again", directory / "unpacked")
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "done").exists():
            _build(made)
            (directory / "done").touch()
    return made


def _build(made: Artefacts) -> None:
    source.copy(made.tree)
    _package(made.tree, made.output, 0o022, SOURCE_DATE_EPOCH=str(EPOCH))
    elsewhere = tarball.unpack(made.sdist, made.again.with_name("elsewhere"))
    # No SOURCE_DATE_EPOCH: the sdist has it.
    surroundings = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "1", "COLUMNS": "40"}
    _package(elsewhere, made.again, 0o077, **surroundings)
    with tarfile.open(made.archive) as archive:
        tarball.extract(archive, made.unpacked / "archive")
    subprocess.run(["dpkg-deb", "--extract", made.deb, made.unpacked / "deb"], check=True)
    subprocess.run(["dpkg-deb", "--control", made.deb, made.unpacked / "deb" / "DEBIAN"], check=True)


def _package(tree: Path, output: Path, umask: int, **variables: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(
        [sys.executable, "-m", "release", "--own-compiler", "--output", str(output)],
        cwd=tree,
        env=inherited | variables,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def archive(artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, unpacked where nobody expected it."""
    (top,) = (artefacts.unpacked / "archive").iterdir()
    return Path(shutil.copytree(top, tmp_path_factory.mktemp("else where") / "plugin"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[roots.Root]:
    """This machine's root, with a layer on it that takes every change and goes with the test."""
    layers, top = tmp_path / "layers", tmp_path / "root"
    layers.mkdir()
    top.mkdir()
    # A file system of its own, as the upper layer must not be below the lower one.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", layers], check=True)
    try:
        options = f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/work"
        (layers / "upper").mkdir()
        (layers / "work").mkdir()
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, top], check=True)
        try:
            for used in ("opt/cni", "var/lib/cni", "etc/cni", "var/log/macvlan-egress.log"):
                subprocess.run(["rm", "-rf", top / used], check=True)
            for directory in ("opt/cni/bin", "etc/cni/net.d", "var/lib/cni"):
                (top / directory).mkdir(parents=True)
            yield roots.Root(top)
        finally:
            subprocess.run(["umount", top], check=True)
    finally:
        subprocess.run(["umount", layers], check=True)


@pytest.fixture(scope="session")
def local_wheels(artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with our wheel and all that it needs."""
    directory = tmp_path_factory.mktemp("wheels")
    for wheel in (artefacts.wheel, *wheels.gather(wheels.RUNTIME)):
        (directory / wheel.name).symlink_to(wheel)
    return directory
