"""One version, in one place; whatever else tells it tells the same, and what is locked is what is required."""

from __future__ import annotations

import re
import subprocess
import tomllib
from email.parser import HeaderParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import cni_macvlan_egress
from release import deb, library, source, wheels

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_build_reads_the_packages_own_version() -> None:
    assert source.version() == cni_macvlan_egress.__version__
    assert PROJECT["project"]["dynamic"] == ["version"]


def test_pages_and_manifests_tell_the_version() -> None:
    version = source.version()
    assert f'"cni-macvlan-egress {version}"' in (ROOT / "docs/man/macvlan-egress.8").read_text()
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == version
    tags = {
        tag
        for path in (ROOT / "conf/kubernetes").rglob("kustomization.yaml")
        for tag in re.findall(r"newTag: (\S+)", path.read_text())
    }
    assert tags == {version}


def test_artefacts_tell_the_version(artefacts: Any) -> None:
    version = source.version()
    for path in (artefacts.sdist, artefacts.wheel):
        assert path.name.startswith(f"cni_macvlan_egress-{version}")
    assert artefacts.archive.name.startswith(f"cni-macvlan-egress-{version}-linux-")
    assert artefacts.deb.name.startswith(f"cni-macvlan-egress_{deb.version()}_")
    control = HeaderParser().parsestr((artefacts.unpacked / "deb/DEBIAN/control").read_text())
    assert control["Version"] == deb.version()


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("0.9.10", "1.0a1"), ("1.0a1", "1.0b1"), ("1.0b2", "1.0b10"), ("1.0b1", "1.0rc1"), ("1.0rc1", "1.0"),
        ("1.0.dev1", "1.0"), ("1.0", "1.0.1"), ("1.0.9", "1.0.10"),
    ],
)  # fmt: skip
def test_dpkg_orders_versions_as_they_are_meant(
    monkeypatch: pytest.MonkeyPatch, lower: str, higher: str
) -> None:
    ordered = []
    for version in (lower, higher):
        monkeypatch.setattr(source, "version", lambda version=version: version)
        ordered.append(deb.version())
    monkeypatch.setattr(library, "MINOR", "3.999")  # the same release for a later Debian
    ordered.append(deb.version())
    for one, other in pairwise(ordered):
        subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=True)


@pytest.mark.parametrize(
    ("lock", "required"),
    [
        (wheels.RUNTIME, PROJECT["project"]["dependencies"]),
        (wheels.BUILD, PROJECT["build-system"]["requires"]),
        (wheels.COMPILER, ["ziglang"]),
    ],
    ids=["runtime", "build", "compiler"],
)
def test_lock_has_what_is_required(lock: Path, required: list[str]) -> None:
    found = re.findall(
        r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", lock.read_text(), re.MULTILINE
    )
    versions = {canonicalize_name(name): Version(version) for name, version, _ in found}
    assert len(versions) == lock.read_text().count("==")
    for requirement in map(Requirement, required):
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: run 'python3 -m release.lock'"
