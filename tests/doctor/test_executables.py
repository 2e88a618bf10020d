"""What the doctor finds in the CNI bin directory, and of the daemon."""

from __future__ import annotations

import os
import platform
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cni_macvlan_egress import __version__
from cni_macvlan_egress.admin import launcher
from cni_macvlan_egress.admin.examination import executables
from cni_macvlan_egress.daemon import frames

from .patient import TYPE, VERSION_ANSWER, Findings, Patient


def look(patient: Patient, **places: str) -> Findings:
    """By default as below the node's own root, where the real executable runs."""
    here = {"root": "/", "cni_dir": str(patient.cni_dir), "bin_dir": str(patient.bin_dir)}
    return patient.look(executables, **{**here, **places})


@pytest.fixture
def real(patient: Patient, bin_dir: str) -> Patient:
    """With the real executable in its place."""
    (patient.bin_dir / TYPE).unlink()
    (patient.bin_dir / TYPE).symlink_to(os.path.join(bin_dir, TYPE))
    return patient


@contextmanager
def serving(path: Path, answer: bytes) -> Iterator[None]:
    """Somebody who answers every call at a socket in the same way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = sock.accept()
                except OSError:  # the socket has been shut down
                    return
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            thread.join()


def metrics(version: str) -> bytes:
    body = f'macvlan_egress_build_info{{version="{version}"}} 1\n'
    return f"HTTP/1.1 200 OK\r\n\r\n{body}".encode()


def native(patient: Patient, socket_path: Path, direct: Path | None = None) -> None:
    """The native launcher of this installation in the place of the plugin."""
    data = launcher.with_settings(
        launcher.native(platform.machine()), str(socket_path), str(direct) if direct else "", 1
    )
    (patient.bin_dir / TYPE).unlink()
    (patient.bin_dir / TYPE).write_bytes(data)
    (patient.bin_dir / TYPE).chmod(0o755)


def test_executable_of_this_version_is_well(real: Patient) -> None:
    found = look(real)
    assert found.ills() == set()
    assert {one.id for one in found} >= {"bin-dir", "executable", "executable-runs", "executable-current"}


def test_executable_of_a_node_that_is_mounted_somewhere_runs_there(patient: Patient) -> None:
    assert patient.look(executables).ills() == set()
    patient.plugin("0.0.1")
    found = patient.look(executables).shows("executable-current", "warning", "macvlan-egress 0.0.1")
    assert found.cure == f"macvlan-egress launcher --write {patient.bin_dir}"
    assert __version__ in found.evidence


def test_missing_directory(patient: Patient) -> None:
    found = look(patient, bin_dir=f"{patient.root}/nowhere")
    found.shows("bin-dir", "error", "No such file", f"mkdir -p {patient.root}/nowhere")


def test_missing_executable(patient: Patient) -> None:
    (patient.bin_dir / TYPE).unlink()
    cure = f"macvlan-egress launcher --write {patient.bin_dir}"
    look(patient).shows("executable", "error", f"{patient.bin_dir}/{TYPE}", cure)


def test_executable_that_is_none(patient: Patient) -> None:
    (patient.bin_dir / TYPE).chmod(0o644)
    look(patient).shows("executable-mode", "error", "-rw-r--r--", "chmod 755")


@pytest.mark.parametrize(("mode", "shown"), [(0o775, "-rwxrwxr-x"), (0o757, "-rwxr-xrwx")])
def test_executable_that_others_can_write(patient: Patient, mode: int, shown: str) -> None:
    path = patient.bin_dir / TYPE
    path.chmod(mode)
    look(patient).shows("executable-writable", "warning", shown, f"chmod go-w {path}")


def test_directory_that_belongs_to_somebody(patient: Patient) -> None:
    os.chown(patient.bin_dir, 65534, 65534)
    look(patient).shows("executable-writable", "warning", "user 65534", f"chown root:root {patient.bin_dir}")


def test_executable_that_fails(patient: Patient) -> None:
    patient.program(f"opt/cni/bin/{TYPE}", "no module named cni_macvlan_egress", status=1)
    look(patient).shows("executable-runs", "error", "exit status 1: no module named", "launcher --write")


def test_executable_that_is_something_else(patient: Patient) -> None:
    patient.plugin(__version__, answer="hello")
    look(patient).shows("executable-runs", "error", "hello", "launcher --write")


def test_executable_whose_interpreter_is_gone(patient: Patient) -> None:
    (patient.bin_dir / TYPE).write_text("#!/nowhere/python3\n")
    look(patient).shows("executable-runs", "error", "No such file")


def test_plugins_that_are_missing(patient: Patient) -> None:
    (patient.bin_dir / "bridge").unlink()
    (patient.bin_dir / "host-local").unlink()
    look(patient).shows("chain-executables", "error", "bridge, host-local", str(patient.bin_dir))


def test_native_launcher_without_daemon_and_direct_mode(patient: Patient) -> None:
    native(patient, patient.run_dir / "daemon.sock")
    found = look(patient)
    found.shows("daemon", "error", "daemon.sock: No such file", "systemctl restart macvlan-egress.socket")
    assert found.ills() == {"daemon"}


def test_native_launcher_with_direct_mode_and_without_daemon(real: Patient) -> None:
    direct = real.bin_dir / "macvlan-egress-direct"
    (real.bin_dir / TYPE).rename(direct)
    (real.bin_dir / TYPE).touch()
    native(real, real.run_dir / "daemon.sock", direct)
    found = look(real)
    found.shows("daemon", "warning", "daemon.sock: No such file")
    assert found.ills() == {"daemon"}
    direct.unlink()
    look(real).shows("executable", "error", "for when the daemon is away")


def test_native_launcher_of_another_build(patient: Patient) -> None:
    native(patient, patient.run_dir / "daemon.sock")
    with (patient.bin_dir / TYPE).open("ab") as file:
        file.write(b"more")
    look(patient).shows("executable-current", "warning", "another one", "--native")


def test_daemon_that_answers_is_well(patient: Patient) -> None:
    path = patient.run_dir / "daemon.sock"
    native(patient, path)
    with (
        serving(path, frames.answer(0, VERSION_ANSWER, "")),
        serving(path.parent / "admin.sock", metrics(__version__)),
    ):
        assert look(patient).ills() == set()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "hangs up"),
        (b"SSH-2.0-OpenSSH_9.2 and so on", "another protocol"),
        (frames.answer(1, "", ""), "exit status 1"),
    ],
    ids=["silent", "stranger", "failing"],
)
def test_daemon_that_answers_wrongly(patient: Patient, answer: bytes, words: str) -> None:
    path = patient.run_dir / "daemon.sock"
    native(patient, path)
    with serving(path, answer):
        look(patient).shows("daemon", "error", words)


def test_daemon_of_another_version(patient: Patient) -> None:
    path = patient.run_dir / "daemon.sock"
    native(patient, path)
    with (
        serving(path, frames.answer(0, VERSION_ANSWER, "")),
        serving(path.parent / "admin.sock", metrics("0.0.1")),
    ):
        look(patient).shows("daemon-current", "warning", "0.0.1", "systemctl restart macvlan-egress")
