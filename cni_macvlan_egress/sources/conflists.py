"""The CNI configurations of a node, found as containerd, CRI-O and libcni find them (model/conflist_names.py)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..model import conflist_names
from ..protocol.errors import DECODING_FAILURE, IO_FAILURE, CniError
from .regular_file import BYTES_MAX, content

DIRECTORY = "/etc/cni/net.d"


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
    if len(data) > BYTES_MAX:
        raise CniError(
            DECODING_FAILURE, f"{path} is larger than {BYTES_MAX >> 20} MiB: no CNI configuration is"
        )
    try:
        return Configuration(name, path, data.decode())
    except UnicodeDecodeError as error:
        raise CniError(DECODING_FAILURE, f"{path}: byte {error.start + 1} is not UTF-8") from None
