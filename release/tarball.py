"""A tar.gz that depends on nothing but names, contents and execute bits: the same tree makes the same bytes."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path


def write(path: Path, tree: Path, prefix: str, epoch: int) -> None:
    """Write it.

    Args:
        tree: what goes in.
        prefix: the one directory in the archive that everything is below.
        epoch: every file's time, in seconds.
    """
    with (
        open(path, "wb") as raw,
        # No name and a fixed time in the header, and a level, as the default may change.
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for member in [tree, *sorted(tree.rglob("*"))]:
            _add(archive, member, str(Path(prefix) / member.relative_to(tree)), epoch)


def unpack(path: Path, directory: Path) -> Path:
    """Unpack one that has a single directory at its top; returns that."""
    with tarfile.open(path) as archive:
        extract(archive, directory)
    (top,) = directory.iterdir()
    return top


def extract(archive: tarfile.TarFile, directory: Path) -> None:
    """Extract what we have packed, or what Debian has, refusing paths that lead out where Python can.

    Python has filters from 3.11.4 on, and from 3.14 on they are the default; Debian 12 has 3.11.2.
    """
    archive.extraction_filter = getattr(tarfile, "data_filter", None)
    archive.extractall(directory)  # noqa: S202 - where there are no filters, it is trusted


def _add(archive: tarfile.TarFile, member: Path, name: str, epoch: int) -> None:
    # Not gettarinfo(): files that setuptools has hard-linked are to be files.
    info = tarfile.TarInfo(name)
    info.mtime = epoch
    status = member.lstat()
    if member.is_symlink():
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(member.readlink()), 0o777
        archive.addfile(info)
    elif member.is_dir():
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
    else:
        info.size, info.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
        with open(member, "rb") as file:
            archive.addfile(info, file)
