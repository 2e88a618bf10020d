"""A node's CNI directory with the files of a main CNI, and the commands as an admin runs them on it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cni_macvlan_egress.admin import command_line

HERE = Path(__file__).parent
GOLDEN = [pytest.param(path, id=path.name) for path in sorted((HERE / "golden").iterdir())]
TYPE = "macvlan-egress"
SECONDS = 30
CHAIN = '{\n  "cniVersion": "1.0.0",\n  "name": "pods",\n  "plugins": [\n    {"type": "calico"}\n  ]\n}\n'


class Directory:
    """The directories of one node: conflists, executables, state."""

    def __init__(self, root: Path, bin_dir: str = "") -> None:
        self.cni = root / "net.d"
        self.bin = root / "bin"
        self.state = root / "state"
        self.executable = os.path.join(bin_dir, TYPE)
        self.cni.mkdir()
        self.bin.mkdir()

    def put(self, name: str, text: str) -> Path:
        """Write a file as a main CNI does that knows how: at once."""
        path = self.cni / name
        temporary = self.cni / f"{name}.new"
        temporary.write_bytes(text.encode())
        temporary.rename(path)
        return path

    def text(self, name: str) -> str:
        return (self.cni / name).read_bytes().decode()

    def types(self, name: str) -> list[str]:
        """The plugins of a list, in order."""
        return [plugin["type"] for plugin in json.loads(self.text(name))["plugins"]]

    def entry(self, name: str) -> Any:
        """Our entry in a list; there has to be exactly one."""
        (entry,) = (one for one in json.loads(self.text(name))["plugins"] if one["type"] == TYPE)
        return entry

    def names(self) -> list[str]:
        return sorted(path.name for path in self.cni.iterdir())

    def words(self, command: str, *options: str) -> list[str]:
        """A command line for this node; the executable is left out unless it is asked for."""
        executable = ["--bin-dir", str(self.bin)]
        if command == "install" and "--bin-dir" not in options:
            executable = ["--no-executable"]
        places = ["--cni-dir", str(self.cni), "--state-dir", str(self.state)]
        return [command, *places, *(executable if "--bin-dir" not in options else []), *options]

    def run(self, command: str, *options: str) -> int:
        """Run a command in this process."""
        return command_line.main(self.words(command, *options))

    def install(self, *options: str) -> None:
        assert self.run("install", *options) == 0

    def uninstall(self, *options: str) -> None:
        assert self.run("uninstall", *options) == 0

    def start(self, command: str, *options: str, wrapper: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start a command as a process of its own."""
        return subprocess.Popen(
            [*wrapper, self.executable, *self.words(command, *options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def execute(self, command: str, *options: str, wrapper: tuple[str, ...] = ()) -> tuple[int, str]:
        """Exit status and output of such a process."""
        process = self.start(command, *options, wrapper=wrapper)
        output, _ = process.communicate(timeout=SECONDS)
        assert "Traceback" not in output
        return process.returncode, output


def normalised(output: str) -> str:
    """What a command says, whatever the width it was folded to."""
    return " ".join(output.split())
