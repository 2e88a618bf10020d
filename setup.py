"""Builds the native launcher into the package, and says where pages and examples go; the rest is in pyproject.toml.

A machine without a C compiler gets a package without it: the plugin works, and `macvlan-egress launcher --native` says
what is missing. The executable is static and is chosen by the machine's name, so the wheel stays one for all machines.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "launcher"))
from build import NATIVE, BuildError, build  # noqa: E402

# bin/package sets it: a directory with launchers for every machine, built by one compiler.
PREBUILT = "MACVLAN_EGRESS_LAUNCHERS"


class BuildWithLauncher(build_py):
    """Copies the Python files, and builds the launcher beside them (in an editable install: in place)."""

    def run(self) -> None:
        """Do what this command is for."""
        super().run()
        in_place = getattr(self, "editable_mode", False)
        directory = NATIVE if in_place else Path(self.build_lib) / "cni_macvlan_egress" / "native"
        if prebuilt := os.environ.get(PREBUILT):
            shutil.copytree(prebuilt, directory, dirs_exist_ok=True)
            return
        try:
            self.announce(f"native launcher: {build(directory)}", level=2)
        except BuildError as error:
            self.warn(f"the native launcher is not built, which only the daemon's users miss: {error}")


def shared_files() -> list[tuple[str, list[str]]]:
    """The manual page, examples and units, as far as they are there: an image is built without them."""
    found = {"share/man/man8": sorted((ROOT / "docs/man").glob("*.8"))}
    for path in sorted((ROOT / "conf").rglob("*")):
        if path.is_file() and path.relative_to(ROOT).parts[1] != "debian":
            found.setdefault(f"share/cni-macvlan-egress/{path.parent.relative_to(ROOT)}", []).append(path)
    return [
        (directory, [str(path.relative_to(ROOT)) for path in paths])
        for directory, paths in found.items()
        if paths
    ]


setup(cmdclass={"build_py": BuildWithLauncher}, data_files=shared_files())
