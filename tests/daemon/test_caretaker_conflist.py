"""The daemon keeps the entry that was installed in the node's conflist."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lab import Node, source

from .running import REPOSITORY, Daemon, eventually

MAIN = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]}
TYPE = "macvlan-egress"


def types(path: Path) -> list[str]:
    return [plugin["type"] for plugin in json.loads(path.read_text())["plugins"]]


def run(command: str, directory: Path, node: Node, *options: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "cni_macvlan_egress", command, "--cni-dir", str(directory), "--state-dir",
         node.state_dir, *options],
        cwd=REPOSITORY, check=True, capture_output=True,
    )  # fmt: skip


def test_entry_that_was_installed_is_put_back_and_one_that_was_not_is_not_put_there(
    node: Node, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    directory = tmp_path / "net.d"
    directory.mkdir()
    path = directory / "10-main.conflist"
    path.write_text(json.dumps(MAIN))
    run("install", directory, node, "--no-executable", "--namespaces", "shop")
    assert types(path) == ["bridge", TYPE]
    entry = json.loads(path.read_text())["plugins"][1]
    daemon = make_daemon("--install-watch", str(directory)).start()
    eventually(lambda: any("in place" in line["msg"] for line in daemon.log), "it does not watch")
    new = directory / ".new"
    new.write_text(json.dumps(MAIN))
    new.rename(path)
    eventually(lambda: types(path) == ["bridge", TYPE], "it is not put back")
    assert json.loads(path.read_text())["plugins"][1] == entry
    eventually(lambda: daemon.metric("conflist_restored_total") == 1, "it is not counted")
    run("uninstall", directory, node)
    eventually(
        lambda: any("uninstalled" in line["msg"] for line in daemon.log),
        "that it was uninstalled is not seen",
    )
    assert types(path) == ["bridge"]
    assert daemon.stop() == 0


def test_nothing_is_installed_where_nobody_has(
    node: Node, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    directory = tmp_path / "net.d"
    directory.mkdir()
    path = directory / "10-main.conflist"
    path.write_text(json.dumps(MAIN))
    node.add(node.pod(), source("192.168.12.99/24"), conf={"conflictDetection": "off"}).ok()
    daemon = make_daemon("--install-watch", str(directory)).start()
    eventually(lambda: daemon.metric("announcements_total") >= 1, "the caretaker does not work")
    assert daemon.stop() == 0
    assert types(path) == ["bridge"]
