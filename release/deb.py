"""The Debian package: the library, the command, units and pages, and the scripts of conf/debian."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path

from . import library, source

LIBRARY = f"/usr/lib/{source.NAME}"
COMMAND = "/usr/bin/macvlan-egress"
_DOC = f"usr/share/doc/{source.NAME}"
_SCRIPTS = ("postinst", "prerm", "postrm")
_LOGROTATE = f"etc/logrotate.d/{source.NAME}"
_UNIT = re.compile(r"^(ExecStart=)\S*/macvlan-egress(?= )", re.MULTILINE)
_ADAPT = re.compile(r"^# Adapt the path[^.]*\.\n| Adapt the path[^.]*\.", re.MULTILINE)
_COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/macvlan-egress",
    "zsh": "usr/share/zsh/vendor-completions/_macvlan-egress",
    "fish": "usr/share/fish/vendor_completions.d/macvlan-egress.fish",
}


def version() -> str:
    """As dpkg orders versions: 1.0rc1 comes before 1.0, and a release's next system has the newer package."""
    upstream = re.sub(r"(a|b|rc|[.]dev)(?=\d)", r"~\1", source.version(), count=1)
    return f"{upstream}+py{library.MINOR}"


def write(output: Path, tree: Path, packages: Path, work: Path, epoch: int) -> Path:
    """Write it; returns its path.

    Args:
        tree: the unpacked sdist.
        packages: what library.build() made.
    """
    root = work / "deb"
    shutil.copytree(packages, root / LIBRARY.lstrip("/"))
    _command(root)
    _units(root, tree)
    _pages(root, tree)
    _file(root, _LOGROTATE, (tree / "conf/debian/logrotate").read_text())
    architecture = _dpkg("dpkg", "--print-architecture").strip()
    _control(root, tree / "conf/debian", architecture)
    _normalise(root, epoch)
    path = output / f"{source.NAME}_{version()}_{architecture}.deb"
    # One thread: how xz splits the work would show in the bytes. Level 6 saves a sixth and takes six times as long.
    _dpkg(
        "dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--threads-max=1", "--build", str(root), str(path),
        SOURCE_DATE_EPOCH=str(epoch),
    )  # fmt: skip
    return path


def _command(root: Path) -> None:
    """The executable, as `macvlan-egress launcher` would write it there, and completion for it."""
    packages = str(root / LIBRARY.lstrip("/"))
    program = (
        f"import sys; sys.path.append({packages!r}); from cni_macvlan_egress.admin import launcher; "
        f"print(launcher.render({library.interpreter()!r}, [{LIBRARY!r}]), end='')"
    )
    _file(root, COMMAND.lstrip("/"), _python("-c", program), 0o755)
    program = (
        f"import sys; sys.path.append({packages!r}); from cni_macvlan_egress.entry import launch; launch()"
    )
    for shell, path in _COMPLETIONS.items():
        _file(root, path, _python("-c", program, "completion", shell))


def _units(root: Path, tree: Path) -> None:
    for unit in sorted((*tree.glob("conf/*.service"), *tree.glob("conf/*.socket"))):
        text, changed = _UNIT.subn(rf"\1{COMMAND}", unit.read_text())
        if changed != (unit.suffix == ".service"):
            raise SystemExit(f"{unit.name}: ExecStart is to name macvlan-egress once")
        _file(root, f"usr/lib/systemd/system/{unit.name}", _ADAPT.sub("", text))


def _pages(root: Path, tree: Path) -> None:
    _packed(root, "usr/share/man/man8/macvlan-egress.8.gz", tree / "docs/man/macvlan-egress.8")
    _packed(root, f"{_DOC}/changelog.gz", tree / "CHANGELOG.md")
    library.copied(tree, root / _DOC, "README.md", "docs", "conf")
    shutil.rmtree(root / _DOC / "docs/man")
    words = [(tree / "conf/debian/copyright").read_text().rstrip()]
    for metadata in sorted((root / LIBRARY.lstrip("/")).glob("*.dist-info/METADATA")):
        about = HeaderParser().parsestr(metadata.read_text())
        if about["Name"] != source.NAME:
            words.append(
                f" {about['Name']} {about['Version']}: {about['License-Expression'] or about['License']}"
            )
    _file(root, f"{_DOC}/copyright", "\n".join(words) + "\n")


def _control(root: Path, templates: Path, architecture: str) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    kibibytes = sum(-(-path.stat().st_size // 1024) for path in files)
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files]  # noqa: S324
    text = (templates / "control").read_text()
    for word, value in (
        ("@VERSION@", version()), ("@ARCHITECTURE@", architecture),
        ("@SIZE@", str(kibibytes)), ("@MINOR@", library.MINOR),
    ):  # fmt: skip
        text = text.replace(word, value)
    _file(root, "DEBIAN/control", text)
    _file(root, "DEBIAN/md5sums", "".join(sums))
    _file(root, "DEBIAN/conffiles", f"/{_LOGROTATE}\n")
    for script in _SCRIPTS:
        _file(root, f"DEBIAN/{script}", (templates / script).read_text(), 0o755)


def _normalise(root: Path, epoch: int) -> None:
    """Modes as every Debian package has them, and the one time."""
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (epoch, epoch))


def _packed(root: Path, name: str, page: Path) -> None:
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(page.read_bytes(), 9, mtime=0))


def _file(root: Path, name: str, text: str, mode: int = 0o644) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _python(*words: str) -> str:
    return _dpkg(sys.executable, "-IBS", *words)


def _dpkg(*command: str, **variables: str) -> str:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr[-4000:]}")
    return done.stdout
