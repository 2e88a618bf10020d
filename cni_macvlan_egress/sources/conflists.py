"""The CNI configurations of a node, found as containerd, CRI-O and libcni find them (model/conflist_names.py)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from ..model import conflist_names
from ..protocol.errors import DECODING_FAILURE, IO_FAILURE, CniError

DIRECTORY = "/etc/cni/net.d"
_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Configuration:
    """A file as it was read.

    Attributes:
        path: of the file itself, links followed.
    """

    name: str
    path: str
    text: str


def names(directory: str) -> list[str]:
    """The files that count, the first of which is the node's network; nothing if there is no directory.

    Raises:
        CniError: IO_FAILURE.
    """
    try:
        with os.scandir(directory) as entries:
            found = [
                entry.name
                for entry in entries
                if conflist_names.counts(entry.name) and not entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot read the directory {directory}: {error.strerror}") from None
    return sorted(found, key=conflist_names.order)


def read(directory: str, name: str) -> Configuration | None:
    """A file's content, None if it is not there.

    Raises:
        CniError: IO_FAILURE, DECODING_FAILURE.
    """
    path = os.path.realpath(os.path.join(directory, name))
    try:
        data = content(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot read {path}: {error.strerror}") from None
    if len(data) > _BYTES_MAX:
        raise CniError(
            DECODING_FAILURE, f"{path} is larger than {_BYTES_MAX >> 20} MiB: no CNI configuration is"
        )
    try:
        return Configuration(name, path, data.decode())
    except UnicodeDecodeError as error:
        raise CniError(DECODING_FAILURE, f"{path}: byte {error.start + 1} is not UTF-8") from None


def content(path: str) -> bytes:
    """The bytes of a file, at most one more than a configuration may have.

    Raises:
        OSError: also if it is not a file.
    """
    # Opening a pipe would wait for whoever writes to it.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "it is not a regular file")
        return file.read(_BYTES_MAX + 1)
