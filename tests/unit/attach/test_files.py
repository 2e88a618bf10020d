"""Files that outlive the exec: whatever call fails, there is the old file or the new one, and nothing else."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from cni_macvlan_egress.attach import files
from cni_macvlan_egress.protocol.errors import IO_FAILURE, CniError

from ..refusals import refused
from .faults import FaultyOs

OLD, NEW = "the old text", "the new text: é\n"


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def calls_of_a_write(directory: Path, mocker: MockerFixture) -> list[str]:
    """What write_atomically asks of the file system if all goes well."""
    quiet = FaultyOs(set(), full())
    mocker.patch.object(files, "os", quiet)
    files.write_atomically(f"{directory}/x", NEW)
    mocker.stopall()
    (directory / "x").unlink()
    return quiet.calls


@pytest.mark.parametrize("old", [OLD, None], ids=["old file", "no file"])
@pytest.mark.parametrize("error", [full(), KeyboardInterrupt()], ids=["disk full", "interrupted"])
def test_every_failing_call_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, mocker: MockerFixture, old: str | None, error: BaseException
) -> None:
    calls = calls_of_a_write(tmp_path, mocker)
    assert {"open", "write", "fsync", "rename"} <= set(calls)
    path = tmp_path / "record"
    for number, name in enumerate(calls):
        path.unlink(missing_ok=True)
        if old is not None:
            path.write_text(old)
        mocker.patch.object(files, "os", FaultyOs({number}, error))
        with pytest.raises((CniError, KeyboardInterrupt)) as caught:
            files.write_atomically(str(path), NEW)
        mocker.stopall()
        if isinstance(error, OSError):
            assert caught.type is CniError, name
            assert caught.value.code == IO_FAILURE  # type: ignore[attr-defined]
            assert str(path) in str(caught.value)
            assert os.strerror(errno.ENOSPC) in str(caught.value)
        names = [one.name for one in tmp_path.iterdir()]
        assert names in ([path.name], [] if old is None else [path.name]), name
        if names:
            assert path.read_text() in (NEW, old), name
        # Only what comes after the rename may fail and leave the new one.
        renamed = number > calls.index("rename")
        assert (path.read_text() if names else None) == (NEW if renamed else old), name


def test_file_reaches_the_disk_before_its_name_and_the_name_after_it(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    calls = calls_of_a_write(tmp_path, mocker)
    assert [name for name in calls if name in ("write", "fsync", "rename")] == [
        "write",
        "fsync",
        "rename",
        "fsync",
    ]
    assert calls.index("write") < calls.index("flush") < calls.index("fsync")


def test_write_that_cannot_even_be_undone_tells_the_first_reason(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    path = tmp_path / "record"
    path.write_text(OLD)
    mocker.patch.object(files, "os", FaultyOs({"rename"}, full()))
    mocker.patch("os.unlink", side_effect=PermissionError(errno.EPERM, os.strerror(errno.EPERM)))
    with refused(IO_FAILURE, str(path), os.strerror(errno.ENOSPC)):
        files.write_atomically(str(path), NEW)
    mocker.stopall()
    assert path.read_text() == OLD


@pytest.mark.parametrize("text", ["\ud800", "a\udcffb"])
def test_text_that_cannot_be_written_leaves_the_old_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record"
    path.write_text(OLD)
    with pytest.raises((CniError, UnicodeEncodeError)):
        files.write_atomically(str(path), text)
    assert [one.name for one in tmp_path.iterdir()] == ["record"]
    assert path.read_text() == OLD


@pytest.mark.parametrize("mode", [0o600, 0o755])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_mode_is_as_asked_for_whatever_the_umask(tmp_path: Path, mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.write_atomically(f"{tmp_path}/record", NEW, mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == mode


def test_rest_of_a_killed_write_is_overwritten(tmp_path: Path, mocker: MockerFixture) -> None:
    path = tmp_path / "record"
    mocker.patch.object(files, "os", FaultyOs({"rename", "unlink"}, full()))
    with refused(IO_FAILURE):
        files.write_atomically(str(path), "x" * 1000)
    mocker.stopall()
    (rest,) = tmp_path.iterdir()
    assert rest.name.startswith(".")
    files.write_atomically(str(path), NEW)
    assert [one.name for one in tmp_path.iterdir()] == ["record"]
    assert path.read_text() == NEW


def test_link_laid_in_the_way_is_not_followed(tmp_path: Path, mocker: MockerFixture) -> None:
    path, victim = tmp_path / "record", tmp_path / "victim"
    mocker.patch.object(files, "os", FaultyOs({"rename", "unlink"}, full()))
    with refused(IO_FAILURE):
        files.write_atomically(str(path), NEW)
    mocker.stopall()
    (rest,) = tmp_path.iterdir()
    rest.unlink()
    victim.write_text(OLD)
    rest.symlink_to(victim)
    with refused(IO_FAILURE, str(path)):
        files.write_atomically(str(path), NEW)
    assert victim.read_text() == OLD
    assert not path.exists()


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_directory_that_is_none_is_told_with_the_path(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").write_text("")
    with refused(IO_FAILURE, f"{tmp_path}/{parent}/record"):
        files.write_atomically(f"{tmp_path}/{parent}/record", NEW)


# -- directories and removal


def test_directory_is_made_with_its_parents_for_root_alone(tmp_path: Path) -> None:
    files.make_directory(f"{tmp_path}/a/b")
    files.make_directory(f"{tmp_path}/a/b")
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (f"{tmp_path}/file", f"{tmp_path}/file/b"):
        with refused(IO_FAILURE, path):
            files.make_directory(path)


def test_removal_of_what_is_gone_is_no_error_and_of_what_cannot_go_is_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("")
    files.remove(str(path))
    files.remove(str(path))
    assert not path.exists()
    path.mkdir()
    with refused(IO_FAILURE, str(path)):
        files.remove(str(path))
