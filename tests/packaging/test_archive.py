"""The archive works wherever it is unpacked, without pip, network or environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

UNSHARE = ("unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec")
# The demo's namespaces have names below /run/netns.
DEMO = 'mount -t tmpfs tmpfs /run; exec "$0" demo --json'
CALL = {"CNI_COMMAND": "VERSION", "PATH": "/usr/bin:/bin"}


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **variables}
    return subprocess.run(
        command,
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_demo_runs_from_a_path_with_spaces(archive: Path, tmp_path: Path) -> None:
    executable = archive / "bin/macvlan-egress"
    done = run(*UNSHARE, DEMO, executable, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["passed"]
    assert len(document["packets"]) > 5


def test_launcher_names_the_link_that_an_upgrade_changes(archive: Path, tmp_path: Path) -> None:
    link = tmp_path / "cni-macvlan-egress"
    link.symlink_to(archive)
    written = run(link / "bin/macvlan-egress", "launcher").stdout
    assert f"sys.path += ['{link}/lib']" in written
    launcher = tmp_path / "launcher"
    launcher.write_text(written)
    launcher.chmod(0o755)
    assert json.loads(run(launcher, **CALL).stdout)["supportedVersions"]
    link.unlink()
    assert run(launcher, **CALL).returncode != 0


def test_it_is_found_through_links(archive: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "bin" / "second"
    second.parent.mkdir()
    first.symlink_to(archive / "bin/macvlan-egress")
    second.symlink_to("../first")
    done = run(second, "version")
    assert done.stdout.startswith("macvlan-egress "), done.stderr


def test_native_launcher_is_written_from_it(archive: Path, tmp_path: Path) -> None:
    done = run(archive / "bin/macvlan-egress", "launcher", "--native", "--write", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "macvlan-egress").read_bytes()[:4] == b"\x7fELF"
    assert json.loads(run(tmp_path / "macvlan-egress", **CALL).stdout)["supportedVersions"]


def test_another_python_is_told_so(archive: Path, tmp_path: Path) -> None:
    executable = tmp_path / "macvlan-egress"
    text = (archive / "bin/macvlan-egress").read_text()
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert text.count(f'"{own}"') == 1
    executable.write_text(text.replace(f'"{own}"', '"3.99"'))
    executable.chmod(0o755)
    done = run(executable, "version")
    assert done.returncode == 1
    assert "is for Python" in done.stderr


def test_nothing_is_written_into_it(archive: Path) -> None:
    before = {path: os.stat(path).st_mtime_ns for path in archive.rglob("*")}
    assert run(archive / "bin/macvlan-egress", "version").returncode == 0
    assert {path: os.stat(path).st_mtime_ns for path in archive.rglob("*")} == before
