"""What is in the artefacts: everything, nothing of the machine that built them, and the same bytes each time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest

LIBRARY = "usr/lib/cni-macvlan-egress"
# What setuptools adds to an sdist.
GENERATED = ("PKG-INFO", "setup.cfg", "cni_macvlan_egress.egg-info/")


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


def contents(artefacts: Any) -> Iterator[tuple[str, bytes]]:
    """Every file of every artefact."""
    for path in artefacts.unpacked.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(artefacts.unpacked)), path.read_bytes()
    with zipfile.ZipFile(artefacts.wheel) as wheel:
        for name in wheel.namelist():
            yield f"{artefacts.wheel.name}/{name}", wheel.read(name)


@pytest.mark.parametrize("kind", ["sdist", "wheel", "archive", "deb"])
def test_built_elsewhere_from_the_sdist_it_has_the_same_bytes(artefacts: Any, kind: str) -> None:
    path: Path = getattr(artefacts, kind)
    assert (artefacts.again / path.name).read_bytes() == path.read_bytes()


def test_sdist_has_all_of_the_repository(artefacts: Any) -> None:
    with tarfile.open(artefacts.sdist) as sdist:
        packed = {member.name.partition("/")[2] for member in sdist if not member.isdir()}
    built = {name for name in files(artefacts.tree) if name.startswith("cni_macvlan_egress/native/macvlan-")}
    assert {name for name in packed if not name.startswith(GENERATED)} == {
        name for name in files(artefacts.tree) - built if not name.startswith(GENERATED)
    }


def test_wheel_has_modules_launcher_page_and_examples_and_no_more(artefacts: Any) -> None:
    with zipfile.ZipFile(artefacts.wheel) as wheel:
        packed = {info.filename: info.external_attr >> 16 & 0o777 for info in wheel.infolist()}
        entry_points = wheel.read(next(name for name in packed if name.endswith("entry_points.txt"))).decode()
    tree = artefacts.tree
    modules = {name for name in files(tree / "cni_macvlan_egress") if name.endswith((".py", "py.typed"))}
    assert {name for name in packed if name.endswith((".py", "py.typed"))} == {
        f"cni_macvlan_egress/{name}" for name in modules
    }
    assert "macvlan-egress = cni_macvlan_egress.entry:script" in entry_points
    (launcher,) = (name for name in packed if "/native/macvlan-egress-" in name)
    assert packed[launcher] == 0o755
    shared = {name.partition(".data/data/share/")[2] for name in packed if ".data/" in name}
    examples = {name for name in files(tree / "conf") if not name.startswith("debian/")}
    assert shared == {f"cni-macvlan-egress/conf/{name}" for name in examples} | {"man/man8/macvlan-egress.8"}
    assert {name.partition("/")[0].rpartition(".")[2] for name in packed} == {
        "cni_macvlan_egress", "data", "dist-info",
    }  # fmt: skip


@pytest.mark.parametrize("library", [f"deb/{LIBRARY}", "archive/*/lib"])
def test_library_has_what_the_lock_names_compiled(artefacts: Any, library: str) -> None:
    (directory,) = artefacts.unpacked.glob(library)
    about = [HeaderParser().parsestr(path.read_text()) for path in directory.glob("*.dist-info/METADATA")]
    found = {f"{one['Name'].lower().replace('_', '-')}=={one['Version']}" for one in about}
    lock = (artefacts.tree / "release/runtime.lock").read_text()
    locked = {line.split()[0] for line in lock.splitlines() if "==" in line}
    own = {one for one in found if one.startswith("cni-macvlan-egress==")}
    assert found - own == locked
    assert len(own) == 1
    tag = sys.implementation.cache_tag
    for module in directory.rglob("*.py"):
        compiled = module.parent / "__pycache__" / f"{module.stem}.{tag}.pyc"
        # The second word says: by hash, and not to be compared with the source.
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", module


def test_nothing_tells_of_the_machine_that_built_it(artefacts: Any) -> None:
    words = [str(artefacts.tree).encode(), str(artefacts.output.parent).encode(), b"macvlan-egress-package-"]
    for name, content in contents(artefacts):
        assert not [word for word in words if word in content], name


def test_no_artefact_is_writable_by_others_or_owned_by_the_builder(artefacts: Any) -> None:
    for path in (artefacts.sdist, artefacts.archive):
        with tarfile.open(path) as packed:
            for member in packed:
                assert (member.uid, member.gid) == (0, 0), member.name
                assert member.issym() or member.mode in (0o644, 0o755), member.name
    listing = subprocess.run(
        ["dpkg-deb", "-c", artefacts.deb], capture_output=True, text=True, check=True
    ).stdout
    allowed = ("drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x")
    for line in listing.splitlines():
        mode, owner = line.split()[:2]
        assert mode in allowed, line
        assert owner == "root/root", line


def test_archive_has_pages_and_examples(artefacts: Any) -> None:
    (top,) = (artefacts.unpacked / "archive").iterdir()
    for name in ("INSTALL", "LICENSE", "README.md", "docs/packaging.md", "share/man/man8/macvlan-egress.8"):
        assert (top / name).is_file(), name
    unit = (top / "conf/macvlan-egress.service").read_text()
    assert "ExecStart=/opt/cni-macvlan-egress/bin/macvlan-egress daemon" in unit
    assert "@" not in (top / "bin/macvlan-egress").read_text() + (top / "INSTALL").read_text()


def test_deb_has_command_units_and_pages_where_they_belong(artefacts: Any) -> None:
    root = artefacts.unpacked / "deb"
    for name in (
        "usr/share/man/man8/macvlan-egress.8.gz", "usr/share/doc/cni-macvlan-egress/copyright",
        "usr/share/doc/cni-macvlan-egress/changelog.gz", "usr/share/doc/cni-macvlan-egress/docs/packaging.md",
        "usr/share/bash-completion/completions/macvlan-egress", "usr/share/zsh/vendor-completions/_macvlan-egress",
        "usr/share/fish/vendor_completions.d/macvlan-egress.fish", "etc/logrotate.d/cni-macvlan-egress",
    ):  # fmt: skip
        assert (root / name).stat().st_size > 100, name
    units = {path.name: path.read_text() for path in (root / "usr/lib/systemd/system").iterdir()}
    assert set(units) == {path.name for path in artefacts.tree.glob("conf/macvlan-egress*.s*")}
    for name, text in units.items():
        assert "Adapt the path" not in text
        assert text.count("ExecStart=/usr/bin/macvlan-egress ") == name.endswith(".service")
        assert all(line.startswith(("#", "[")) or "=" in line for line in text.splitlines() if line)
        # The scripts name each of them.
        assert name in (root / "DEBIAN/prerm").read_text()


def test_maintainer_scripts_are_clean_shell(artefacts: Any) -> None:
    for name in ("postinst", "prerm", "postrm"):
        subprocess.run(["dash", "-n", artefacts.unpacked / "deb/DEBIAN" / name], check=True)


def test_check_sums_are_those_of_the_files(artefacts: Any) -> None:
    lines = (artefacts.output / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    assert set(sums) == {path.name for path in artefacts.output.iterdir()} - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((artefacts.output / name).read_bytes()).hexdigest() == digest


def test_build_information_says_what_it_takes_to_get_the_same(artefacts: Any) -> None:
    facts = json.loads(artefacts.one("*.buildinfo.json").read_text())
    assert facts["SOURCE_DATE_EPOCH"] == 1_700_000_000
    assert facts["python"] == sys.version.split()[0]
