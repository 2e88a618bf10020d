"""The wheel, installed by pip into a fresh virtual environment from a directory of wheels, without network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CALL = {"CNI_COMMAND": "VERSION", "PATH": "/usr/bin:/bin"}


@pytest.fixture(scope="module")
def venv(local_wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and nothing but what it asks for."""
    directory = tmp_path_factory.mktemp("venv") / "venv"
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    offline = ["--isolated", "--no-index", "--find-links", local_wheels, "--no-compile", "--quiet"]
    subprocess.run(
        [directory / "bin/python", "-m", "pip", "install", *offline, "cni-macvlan-egress"], check=True
    )
    return directory


def run(venv: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [venv / "bin/macvlan-egress", *words],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **variables},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_console_script_is_admin_command_line_and_plugin(venv: Path) -> None:
    assert run(venv, "version").stdout.startswith("macvlan-egress ")
    assert json.loads(run(venv, **CALL).stdout)["cniVersion"]


def test_what_it_needs_is_all_there(venv: Path) -> None:
    subprocess.run([venv / "bin/python", "-m", "pip", "check"], check=True, capture_output=True)
    everything = (
        "import importlib, pkgutil, cni_macvlan_egress as own\n"
        "names = [one.name for one in pkgutil.walk_packages(own.__path__, own.__name__ + '.')]\n"
        "[importlib.import_module(name) for name in names if not name.endswith('__main__')]\n"
        "print(len(names))"
    )
    done = subprocess.run(
        [venv / "bin/python", "-I", "-B", "-c", everything],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_page_and_examples_are_in_share(venv: Path) -> None:
    assert (venv / "share/man/man8/macvlan-egress.8").read_text().startswith('.\\" made by')
    assert (venv / "share/cni-macvlan-egress/conf/kubernetes/base/kustomization.yaml").is_file()
    assert (venv / "share/cni-macvlan-egress/conf/macvlan-egress.socket").is_file()


def test_native_launcher_is_written_from_it(venv: Path, tmp_path: Path) -> None:
    done = run(venv, "launcher", "--native", "--write", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "macvlan-egress").read_bytes()[:4] == b"\x7fELF"
    direct = (tmp_path / "macvlan-egress-direct").read_text()
    assert str(next(venv.glob("lib/python3*/site-packages"))) in direct
