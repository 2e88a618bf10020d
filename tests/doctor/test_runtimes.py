"""What the doctor finds of container runtimes."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from lab import Node

from cni_macvlan_egress.admin.examination import runtimes

from .patient import CONTAINERD, Findings, Patient


def look(patient: Patient, **places: str) -> Findings:
    return patient.look(runtimes, **places)


def test_runtime_that_listens_and_passes_annotations_is_well(patient: Patient) -> None:
    with patient.listening():
        found = look(patient)
    assert found.ills() == set()
    assert any(CONTAINERD in one.summary for one in found)


def test_node_without_runtime(patient: Patient, tmp_path: Path) -> None:
    look(patient, root=str(tmp_path)).shows("runtime", "warning", str(tmp_path), "--root")


def test_runtime_that_does_not_run(patient: Patient) -> None:
    look(patient).shows("runtime-socket", "warning", "No such file", "systemctl status containerd")


def test_socket_that_nobody_listens_at(patient: Patient) -> None:
    with patient.listening():
        pass
    look(patient).shows("runtime-socket", "warning", "Connection refused")


def test_configuration_that_is_no_toml(patient: Patient) -> None:
    path = patient.write("etc/containerd/config.toml", "version = ")
    look(patient).shows("runtime-configuration", "warning", str(path), f"correct {path}")


def test_containerd_without_cri_as_docker_ships_it(patient: Patient) -> None:
    patient.write("etc/containerd/config.toml", 'disabled_plugins = ["cri"]\n')
    look(patient).shows("runtime-cri", "error", "disabled_plugins", "systemctl restart containerd")


@pytest.mark.parametrize(
    "says",
    [
        "containerd github.com/containerd/containerd v1.4.0 269548fa27e0089a8b8278fc4fc781d7f65a939b",
        "containerd github.com/containerd/containerd 1.4.13~ds1 1.4.13~ds1-1~deb11u4",
    ],
    ids=["upstream", "Debian"],
)
def test_containerd_that_is_too_old(patient: Patient, says: str) -> None:
    patient.program("usr/bin/containerd", says)
    look(patient).shows("runtime-annotations", "error", "1.4", "containerd 1.5")


def test_old_runtime_does_where_the_api_server_is_asked(patient: Patient) -> None:
    patient.program("usr/bin/containerd", "containerd x v1.4.0 y")
    patient.chain(kubeconfig="/etc/kubeconfig")
    assert look(patient).of("runtime-annotations") == []


@pytest.mark.parametrize(("says", "old"), [("crio version 1.27.1", True), ("crio version 1.28.0", False)])
def test_crio_passes_them_since_1_28(patient: Patient, says: str, old: bool) -> None:
    patient.write("etc/crio/crio.conf", "[crio]\n")
    patient.program("usr/bin/crio", says)
    with patient.listening("run/crio/crio.sock"):
        found = look(patient)
    assert bool(found.of("runtime-annotations")) is old
    assert found.of("runtime-version") == []


@pytest.mark.parametrize(("says", "status"), [("what?", 0), ("", 3)])
def test_version_that_nobody_tells(patient: Patient, says: str, status: int) -> None:
    patient.program("usr/bin/containerd", says, status)
    found = look(patient)
    found.shows("runtime-version", "note", says or "exit status 3", "containerd --version")
    assert found.of("runtime-annotations") == []


def test_directories_that_are_not_the_runtimes(patient: Patient, tmp_path: Path) -> None:
    found = look(patient, cni_dir=str(tmp_path))
    found.shows("runtime-directories", "warning", str(tmp_path), f"--cni-dir {patient.cni_dir}")


@pytest.mark.parametrize(
    "text",
    [
        '[plugins."io.containerd.grpc.v1.cri".cni]\nconf_dir = "/a/net.d"\nbin_dir = "/a/bin"\n',
        '[plugins."io.containerd.cri.v1.runtime".cni]\nconf_dir = "/a/net.d/"\nbin_dirs = ["/a/bin"]\n',
        '[plugins.cri.cni]\nconf_dir = "/a/net.d"\nbin_dir = "/a/bin"\n',
    ],
    ids=["version 2", "version 3", "version 1"],
)
def test_directories_are_read_from_every_version_of_the_configuration(patient: Patient, text: str) -> None:
    patient.write("etc/containerd/config.toml", text)
    (found,) = [one for one in look(patient) if one.id == "runtime-directories"]
    assert found.summary == f"{patient.root}/a/net.d, {patient.root}/a/bin"


def test_configuration_that_is_imported_counts(patient: Patient) -> None:
    patient.write("etc/containerd/config.toml", 'imports = ["/etc/containerd/conf.d/*.toml"]\n')
    patient.write("etc/containerd/conf.d/cni.toml", '[plugins.cri.cni]\nconf_dir = "/b/net.d"\n')
    assert any(f"{patient.root}/b/net.d" in one.summary for one in look(patient))


def test_tables_of_an_unexpected_shape_are_passed_over(patient: Patient) -> None:
    patient.write("etc/containerd/config.toml", 'plugins = 3\ndisabled_plugins = "cri"\nimports = 7\n')
    with patient.listening():
        assert look(patient).ills() == set()


_SMALL = """\
version = 2
root = "{root}/var/lib/containerd"
state = "{root}/run/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{root}/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt/containerd"
"""


def test_containerd_that_runs_is_asked_itself(patient: Patient, well: Node) -> None:
    """Whatever is called containerd elsewhere, what listens at the socket is the one."""
    configuration = patient.write("etc/containerd/config.toml", _SMALL.format(root=patient.root))
    socket = patient.root / "run/containerd/containerd.sock"
    with subprocess.Popen(["containerd", "-c", configuration], stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while not socket.exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            fake = patient.program("usr/bin/containerd", "containerd x v1.4.0 y")
            mounts = [f"--bind {patient.root}/run /run", f"--bind {fake} {shutil.which('containerd')}"]
            found = patient.look(runtimes, node=well, root="/", mounts=mounts)
        finally:
            process.terminate()
    told = subprocess.run(
        ["containerd", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (runtime,) = [one for one in found if one.id == "runtime"]
    assert told in runtime.summary
    assert found.of("runtime-socket") == []


def test_program_of_the_name_that_does_not_listen_is_not_asked(patient: Patient) -> None:
    with patient.listening():  # this process does, and it is no containerd
        (found,) = [one for one in look(patient) if one.id == "runtime"]
    assert CONTAINERD in found.summary


def test_crio_of_several_files(patient: Patient) -> None:
    patient.write("etc/crio/crio.conf", '[crio.network]\nnetwork_dir = "/c/net.d"\n')
    patient.write("etc/crio/crio.conf.d/10-bin.conf", '[crio.network]\nplugin_dirs = ["/c/bin"]\n')
    with patient.listening("run/crio/crio.sock"):
        found = look(patient)
    assert any(one.summary == f"{patient.root}/c/net.d, {patient.root}/c/bin" for one in found)
