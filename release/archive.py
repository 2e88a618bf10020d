"""The self-contained archive: for nodes without pip, to be unpacked anywhere."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from . import library, source, tarball

_HERE = Path(__file__).parent


def write(output: Path, tree: Path, packages: Path, work: Path, epoch: int) -> Path:
    """Write it; returns its path.

    Args:
        tree: the unpacked sdist.
        packages: what library.build() made.
    """
    name = f"{source.NAME}-{source.version()}"
    root = work / name
    shutil.copytree(packages, root / "lib")
    library.copied(tree, root, "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "conf", "docs")
    library.copied(tree, root / "share/man/man8", "docs/man/macvlan-egress.8")
    (root / "bin").mkdir()
    for template, target, mode in (
        ("launcher.py.in", "bin/macvlan-egress", 0o755),
        ("INSTALL.in", "INSTALL", 0o644),
    ):
        text = (_HERE / template).read_text()
        for word, value in (
            ("@NAME@", name), ("@INTERPRETER@", library.interpreter()), ("@MINOR@", library.MINOR),
        ):  # fmt: skip
            text = text.replace(word, value)
        (root / target).write_text(text)
        (root / target).chmod(mode)
    path = output / f"{name}-linux-{platform.machine()}-python{library.MINOR}.tar.gz"
    tarball.write(path, root, name, epoch)
    return path
