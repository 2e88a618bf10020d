"""The checkout: what is in it, its version, and the time that goes into what is made of it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "cni-macvlan-egress"
PACKAGE = "cni_macvlan_egress"
# Wherever a file of the source would tell of it: the one place that has the version.
_VERSION_FILE = ROOT / PACKAGE / "__init__.py"
_NOT_SOURCE = (".git", "PKG-INFO", "setup.cfg")


def version() -> str:
    """The version, read without importing: the build needs none of the package's dependencies."""
    for node in ast.parse(_VERSION_FILE.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise SystemExit(f"{_VERSION_FILE}: there is no __version__ in it")


def epoch() -> int:
    """The time that all files get, in seconds: SOURCE_DATE_EPOCH, else the commit's, else the sdist's own."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    if (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return int((ROOT / "pyproject.toml").stat().st_mtime)


def commit() -> str:
    """The commit, `-dirty` if the checkout differs from it; empty outside of git."""
    if not (ROOT / ".git").exists():
        return ""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--match=", "--dirty"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def copy(to: Path) -> Path:
    """A copy without what git ignores and an sdist adds, since setuptools writes into what it builds; returns it."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split() if line]
    shutil.copytree(ROOT, to, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_SOURCE, *ignored))
    return to
