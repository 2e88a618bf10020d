"""What is written into a native launcher, and where."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from cni_macvlan_egress.admin import command_line, launcher
from cni_macvlan_egress.protocol.errors import CniError

MARK = b"MVEGRESS-CONFIG\0"
BLANK = b"head" + MARK + bytes(108 + 1024 + 4) + b"tail"


def test_settings_stand_behind_the_mark() -> None:
    made = launcher.with_settings(BLANK, "/run/a.sock", "/opt/direct", 1.5)
    assert len(made) == len(BLANK)
    head, mark, rest = made.partition(MARK)
    assert (head, mark, rest[-4:]) == (b"head", MARK, b"tail")
    socket, direct, deadline = struct.unpack("=108s1024sI", rest[:-4])
    assert (socket.rstrip(b"\0"), direct.rstrip(b"\0"), deadline) == (b"/run/a.sock", b"/opt/direct", 1500)


@pytest.mark.parametrize(
    ("socket", "direct", "word"),
    [
        ("relative", "", "--socket"), ("", "", "--socket"), ("/" + "s" * 107, "", "107 bytes"),
        ("/" + "é" * 54, "", "107 bytes"), ("/s", "relative", "--direct"), ("/s", "/" + "d" * 1023, "1023 bytes"),
        ("/a\0b", "", "--socket"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(socket: str, direct: str, word: str) -> None:
    with pytest.raises(CniError, match=word):
        launcher.with_settings(BLANK, socket, direct, 1)


def test_longest_settings_fit_and_end_in_nul() -> None:
    made = launcher.with_settings(BLANK, "/" + "s" * 106, "/" + "d" * 1022, 3600)
    _, _, rest = made.partition(MARK)
    assert rest[107] == rest[108 + 1023] == 0


@pytest.mark.parametrize("damaged", [b"", b"\x7fELF", MARK, BLANK + MARK, BLANK[:600]])
def test_what_is_no_launcher_is_refused(damaged: bytes) -> None:
    with pytest.raises(CniError, match="native launcher"):
        launcher.with_settings(damaged, "/s", "", 1)


def write(directory: Path, *options: str) -> int:
    return command_line.main(["launcher", "--native", "--write", str(directory), *options])


@pytest.fixture
def _built() -> None:
    try:
        launcher.native(os.uname().machine)
    except CniError as error:
        pytest.skip(error.msg)


@pytest.mark.usefixtures("_built")
def test_launcher_and_direct_mode_are_written_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "macvlan-egress").write_text("an old one")
    assert write(tmp_path) == 0
    native, direct = tmp_path / "macvlan-egress", tmp_path / "macvlan-egress-direct"
    assert capsys.readouterr().out.split() == [str(direct), str(native)]
    assert sorted(tmp_path.iterdir()) == [native, direct]
    assert {path.stat().st_mode & 0o7777 for path in (native, direct)} == {0o755}
    assert str(direct).encode() + b"\0" in native.read_bytes()
    done = subprocess.run([direct], env={"CNI_COMMAND": "VERSION"}, capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.usefixtures("_built")
def test_direct_mode_may_be_elsewhere_or_nowhere(tmp_path: Path) -> None:
    assert write(tmp_path, "--direct", "/opt/other") == 0
    assert b"/opt/other\0" in (tmp_path / "macvlan-egress").read_bytes()
    assert write(tmp_path, "--no-direct", "--socket", "/run/x.sock") == 0
    content = (tmp_path / "macvlan-egress").read_bytes()
    assert b"/run/x.sock\0" in content
    assert b"macvlan-egress-direct" not in content
    assert [path.name for path in tmp_path.iterdir()] == ["macvlan-egress"]


def test_impossible_wishes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["launcher", "--native"]) == 1
    assert write(tmp_path, "--machine", "s390x") == 1
    assert "no native launcher for s390x" in capsys.readouterr().err
    assert write(tmp_path / "missing") == 1
    for options in (["--direct", "/a", "--no-direct"], ["--deadline", "0"], ["--deadline", "soon"]):
        with pytest.raises(SystemExit):
            write(tmp_path, *options)
    assert list(tmp_path.iterdir()) == []


def test_build_without_a_compiler_says_so(tmp_path: Path) -> None:
    builder = Path(launcher.__file__).parents[2] / "launcher" / "build.py"
    done = subprocess.run(
        [sys.executable, "-S", str(builder), "--output", str(tmp_path)],
        env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no compiler" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_same_compiler_makes_the_same_bytes(tmp_path: Path) -> None:
    builder = Path(launcher.__file__).parents[2] / "launcher" / "build.py"
    made = []
    for name in ("one", "two"):
        done = subprocess.run(
            [sys.executable, str(builder), "--output", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"needs a C compiler: {done.stderr}")
        made.append(Path(done.stdout.strip()).read_bytes())
    assert made[0] == made[1]
    assert made[0].count(MARK) == 1
