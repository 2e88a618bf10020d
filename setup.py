"""Builds the native launcher into the package; everything else is in pyproject.toml.

A machine without a C compiler gets a package without it: the plugin works, and `macvlan-egress launcher --native` says
what is missing. The executable is static and is chosen by the machine's name, so the wheel stays one for all machines.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "launcher"))
from build import NATIVE, BuildError, build  # noqa: E402


class BuildWithLauncher(build_py):
    """Copies the Python files, and builds the launcher beside them (in an editable install: in place)."""

    def run(self) -> None:
        """Do what this command is for."""
        super().run()
        in_place = getattr(self, "editable_mode", False)
        directory = NATIVE if in_place else Path(self.build_lib) / "cni_macvlan_egress" / "native"
        try:
            self.announce(f"native launcher: {build(directory)}", level=2)
        except BuildError as error:
            self.warn(f"the native launcher is not built, which only the daemon's users miss: {error}")


setup(cmdclass={"build_py": BuildWithLauncher})
