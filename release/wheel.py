"""sdist and wheel, by setuptools as the lock names it; the wheel is built from the sdist, which proves that whole."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from . import source, tarball, wheels

# setup.py takes the native launchers from there instead of building one.
PREBUILT = "MACVLAN_EGRESS_LAUNCHERS"
_SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
_WHEEL = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def launchers(directory: Path, *, own_compiler: bool, offered: Path | None) -> Path:
    """Build the native launchers; returns their directory.

    Args:
        own_compiler: for this machine only, with its C compiler; else for all, with the compiler that is locked.
    """
    builder = [sys.executable, str(source.ROOT / "launcher" / "build.py"), "--output", str(directory)]
    if own_compiler:
        _run(builder)
    else:
        (compiler,) = wheels.gather(wheels.COMPILER, offered)
        _run([*builder, "--all"], PYTHONPATH=str(_unpacked(compiler)))
    return directory


def sdist(output: Path, work: Path, epoch: int, offered: Path | None) -> Path:
    """Build the sdist; returns its path."""
    tree, raw = source.copy(work / "checkout"), work / "raw"
    _build(_SDIST, tree, raw, epoch, offered)
    (packed,) = raw.iterdir()
    top = tarball.unpack(packed, work / "sdist")
    path = output / packed.name
    tarball.write(path, top, top.name, epoch)
    return path


def wheel(output: Path, packed: Path, natives: Path, work: Path, epoch: int, offered: Path | None) -> Path:
    """Build the wheel from the sdist; returns its path."""
    tree, raw = tarball.unpack(packed, work / "wheel-source"), work / "wheel"
    _build(_WHEEL, tree, raw, epoch, offered, **{PREBUILT: str(natives)})
    (built,) = raw.iterdir()
    path = output / built.name
    built.rename(path)
    return path


def _build(
    program: str, tree: Path, output: Path, epoch: int, offered: Path | None, **variables: str
) -> None:
    output.mkdir()
    backend = os.pathsep.join(str(_unpacked(one)) for one in wheels.gather(wheels.BUILD, offered))
    command = [sys.executable, "-c", program, str(output)]
    fixed = {"PYTHONPATH": backend, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
    _run(command, tree, **fixed, **variables)


def _unpacked(wheel: Path) -> Path:
    """A wheel's content in the cache, for programs that run out of it."""
    directory = wheel.with_suffix("")
    with wheels.locked(wheel.with_suffix(".lock")):
        if not directory.is_dir():
            new = directory.with_suffix(".new")
            with zipfile.ZipFile(wheel) as content:
                for member in content.infolist():
                    path = content.extract(member, new)
                    if member.external_attr >> 16 & 0o100:  # zipfile forgets what may be executed
                        Path(path).chmod(0o755)
            new.rename(directory)
    return directory


def _run(command: list[str], directory: Path | None = None, **variables: str) -> None:
    environment = {
        "PATH": os.defpath,
        "HOME": str(Path.home()),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        **variables,
    }
    done = subprocess.run(
        command, cwd=directory, env=environment, umask=0o022, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
