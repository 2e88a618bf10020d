"""Others at work on the same files: second installers, the main CNI, power cuts, file systems that cannot do all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_macvlan_egress.admin import conflist_file
from cni_macvlan_egress.model import conflist_names

from .installing import CHAIN, SECONDS, TYPE, Directory, normalised

LONE = '{"cniVersion": "0.4.0", "name": "pods", "type": "bridge"}\n'


# -- installers


def test_installers_at_the_same_time_make_one_entry(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("10-a.conflist", CHAIN)
    processes = [directory.start("install", "--namespaces", f"team-{number}") for number in range(6)]
    for process in processes:
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output
    assert directory.types("10-a.conflist") == ["calico", TYPE]
    assert directory.names() == ["10-a.conflist"]
    directory.uninstall()
    assert directory.text("10-a.conflist") == CHAIN


def test_install_and_uninstall_at_the_same_time_end_in_one_or_the_other(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("10-b.conf", LONE)
    words = [("install", "--namespaces", "egress"), ("uninstall",)] * 3
    for process in [directory.start(*one) for one in words]:
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output
    records = [path.name for path in (directory.state / "install").iterdir()]
    made = "10-b+macvlan-egress.conflist"
    assert directory.names() in ([made, "10-b.conf"], ["10-b.conf"])
    assert records == ([f"{made}.json"] if made in directory.names() else [])


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has opened a file."""
    descriptors = Path(f"/proc/{pid}/fd")
    try:
        return str(path) in {os.readlink(descriptors / name) for name in os.listdir(descriptors)}
    except FileNotFoundError:  # one was closed while we looked
        return False


def test_installer_waits_for_the_other_one(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("10-a.conflist", CHAIN)
    fd = os.open(directory.cni, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        process = directory.start("install", "--namespaces", "egress")
        while not has_open(process.pid, directory.cni):
            assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        assert directory.text("10-a.conflist") == CHAIN
    finally:
        os.close(fd)
    assert process.wait(SECONDS) == 0
    process.communicate()
    assert directory.types("10-a.conflist") == ["calico", TYPE]


# -- power cuts


def killed(directory: Directory, call: str, number: int, *words: str) -> None:
    """Run a command that is killed just before its n-th system call of a kind is carried out."""
    trace = directory.state.parent / "trace"
    inject = ("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")
    status, output = directory.execute(*words, wrapper=("strace", "-f", "-qq", "-o", str(trace), *inject))
    assert status in (-signal.SIGKILL, 128 + signal.SIGKILL), output
    assert f"{call}(" in trace.read_text()


def what_runtimes_read(directory: Directory) -> list[str]:
    return sorted(filter(conflist_names.counts, directory.names()), key=conflist_names.order)


def test_power_cut_between_write_and_rename_leaves_nothing_that_runtimes_read(
    node_directory: Directory,
) -> None:
    directory = node_directory
    directory.put("10-a.conflist", CHAIN)
    killed(directory, "renameat2", 1, "install", "--namespaces", "egress")
    assert directory.text("10-a.conflist") == CHAIN
    assert directory.names() == [".10-a.conflist.tmp", "10-a.conflist"]
    assert json.loads(directory.text(".10-a.conflist.tmp"))["plugins"][1]["type"] == TYPE  # it was written
    assert what_runtimes_read(directory) == ["10-a.conflist"]
    directory.install()
    assert directory.names() == ["10-a.conflist"]
    assert directory.entry("10-a.conflist")["allow"] == [{"namespaces": ["egress"]}]
    directory.uninstall()
    assert directory.text("10-a.conflist") == CHAIN


def test_power_cut_after_the_rename_leaves_the_new_file(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("10-a.conflist", CHAIN)
    killed(directory, "unlink", 1, "install", "--namespaces", "egress")
    assert directory.types("10-a.conflist") == ["calico", TYPE]
    assert what_runtimes_read(directory) == ["10-a.conflist"]
    assert directory.text(".10-a.conflist.tmp") == CHAIN
    directory.install()  # nothing to do but to clear away
    assert directory.names() == ["10-a.conflist"]
    directory.uninstall()
    assert directory.text("10-a.conflist") == CHAIN


def test_power_cut_while_a_list_is_made_leaves_the_lone_configuration(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("10-b.conf", LONE)
    killed(directory, "renameat2", 1, "install", "--namespaces", "egress")
    assert what_runtimes_read(directory) == ["10-b.conf"]
    assert len(directory.names()) == 2
    directory.uninstall()
    assert directory.names() == ["10-b.conf"]


def test_power_cut_in_uninstall_is_made_good_by_the_next(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    killed(directory, "renameat2", 1, "uninstall")
    assert directory.types("10-a.conflist") == ["calico", TYPE]
    directory.uninstall()
    assert directory.names() == ["10-a.conflist"]
    assert directory.text("10-a.conflist") == CHAIN


# -- the main CNI


def meanwhile(monkeypatch: pytest.MonkeyPatch, deed: Callable[[], object], times: int = 1) -> None:
    """Do something just before the installer gives a file its name."""
    rename, left = conflist_file._rename, [times]

    def interrupted(source: str, target: str, flag: int) -> None:
        if left[0]:
            left[0] -= 1
            deed()
        rename(source, target, flag)

    monkeypatch.setattr(conflist_file, "_rename", interrupted)


def test_main_cni_that_writes_at_the_last_moment_loses_nothing(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.put("10-a.conflist", CHAIN)
    newer = CHAIN.replace("pods", "newer")
    meanwhile(monkeypatch, lambda: directory.put("10-a.conflist", newer))
    directory.install("--namespaces", "egress")
    assert json.loads(directory.text("10-a.conflist"))["name"] == "newer"
    assert directory.types("10-a.conflist") == ["calico", TYPE]
    directory.uninstall()
    assert directory.text("10-a.conflist") == newer
    assert directory.names() == ["10-a.conflist"]


def test_main_cni_that_writes_all_the_time_is_not_fought(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.put("10-a.conflist", CHAIN)
    names = (f"n{number}" for number in range(1000))
    meanwhile(
        monkeypatch,
        lambda: directory.put("10-a.conflist", CHAIN.replace("pods", next(names))),
        times=1000,
    )
    assert directory.run("install", "--namespaces", "egress") == 1
    assert "keeps changing" in capsys.readouterr().err
    assert TYPE not in directory.text("10-a.conflist")
    assert directory.names() == ["10-a.conflist"]


def test_list_that_appears_at_the_last_moment_is_looked_at_again(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.put("10-b.conf", LONE)
    made = "10-b+macvlan-egress.conflist"
    meanwhile(monkeypatch, lambda: directory.put(made, "{}"))
    directory.install("--namespaces", "egress")
    assert directory.types(made) == ["bridge", TYPE]


def test_list_that_is_written_while_it_is_removed_is_not_lost(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.put("10-b.conf", LONE)
    directory.install("--namespaces", "egress")
    made = "10-b+macvlan-egress.conflist"
    extended = directory.text(made).replace('"plugins": [', '"plugins": [\n    {"type": "first"},')
    rename, left = os.rename, [1]

    def interrupted(source: str, target: str) -> None:
        if left[0] and source.endswith(made):
            left[0] -= 1
            directory.put(made, extended)
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    directory.uninstall()
    assert directory.types(made) == ["first", "bridge"]
    assert directory.names() == [made, "10-b.conf"]


def test_configuration_that_vanishes_at_the_last_moment_is_told(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory.put("10-a.conflist", CHAIN)
    meanwhile(monkeypatch, path.unlink)
    assert directory.run("install", "--namespaces", "egress") == 1
    assert "no CNI configuration yet" in normalised(capsys.readouterr().err)
    assert directory.names() == []


# -- file systems


def test_file_system_that_cannot_swap_names_is_served(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str, flag: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    directory.put("10-a.conflist", CHAIN)
    monkeypatch.setattr(conflist_file, "_rename", refuse)
    directory.install("--namespaces", "egress")
    assert directory.types("10-a.conflist") == ["calico", TYPE]
    assert directory.names() == ["10-a.conflist"]
    directory.uninstall()
    assert directory.text("10-a.conflist") == CHAIN


def test_directory_that_cannot_be_locked_is_locked_by_a_file(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def as_on_nfs(fd: int, operation: int) -> None:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(fd, operation)

    monkeypatch.setattr(conflist_file.fcntl, "flock", as_on_nfs)
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    assert directory.types("10-a.conflist") == ["calico", TYPE]
    assert what_runtimes_read(directory) == ["10-a.conflist"]


def mounted(directory: Directory, source: Path, flags: str, *words: str) -> tuple[int, str]:
    """Run a command where something is mounted over itself, in a mount namespace of its own."""
    mount = f'mount --bind "{source}" "{source}" && mount -o remount,bind,{flags} "{source}"'
    return directory.execute(*words, wrapper=("unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "-"))


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_read_only_mount_is_told_with_the_cure(node_directory: Directory, command: str) -> None:
    directory = node_directory
    directory.put("10-a.conflist", CHAIN)
    if command == "uninstall":
        directory.install("--namespaces", "egress")
    before = directory.text("10-a.conflist")
    options = ["--namespaces", "egress"] if command == "install" else []
    status, output = mounted(directory, directory.cni, "ro", command, *options)
    assert status == 1
    assert "mounted read-only: mount it writable" in normalised(output)
    assert directory.text("10-a.conflist") == before


def test_read_only_mount_does_not_matter_if_there_is_nothing_to_do(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    status, output = mounted(directory, directory.cni, "ro", "install")
    assert status == 0
    assert "up to date" in output


def test_mounted_file_is_told_with_the_cure(node_directory: Directory) -> None:
    directory = node_directory
    path = directory.put("10-a.conflist", CHAIN)
    status, output = mounted(directory, path, "rw", "install", "--namespaces", "egress")
    assert status == 1
    assert "mount its directory instead" in normalised(output)
    assert directory.names() == ["10-a.conflist"]
    assert directory.text("10-a.conflist") == CHAIN


def test_full_disk_leaves_the_file_as_it_is(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def full(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("net.d/.10-a.conflist.tmp"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(fd)

    directory.put("10-a.conflist", CHAIN)
    monkeypatch.setattr(os, "fsync", full)
    assert directory.run("install", "--namespaces", "egress") == 1
    assert directory.text("10-a.conflist") == CHAIN
    assert directory.names() == ["10-a.conflist"]


def test_label_that_cannot_be_kept_is_an_error(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory.put("10-a.conflist", CHAIN)
    os.setxattr(path, "security.selinux", b"label\0")

    def refuse(*_arguments: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "setxattr", refuse)
    assert directory.run("install", "--namespaces", "egress") == 1
    assert directory.text("10-a.conflist") == CHAIN
    assert os.getxattr(path, "security.selinux") == b"label\0"
