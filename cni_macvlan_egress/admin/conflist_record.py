"""What an installation remembers of each file: what was in it before, and what was put in.

It may hold what the main CNI has written, secrets included, so only root may read it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from ..attach.files import make_directory, remove, write_atomically
from ..protocol.errors import IO_FAILURE, CniError

_SCHEMA = 1
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Record:
    """An installation into one file.

    Attributes:
        file: the name of the file that was written.
        source: the lone .conf or .json that it was made from; None if our entry went into the file itself.
        former: the file's content without us; None if there was no such file.
        written: what was written, as fingerprint() tells it.
        entry: our entry.
        disable_check: whether runtimes were told not to run CHECK by us.
        named: whether the admin chose the file.
    """

    file: str
    source: str | None
    former: str | None
    written: str
    entry: dict[str, Any]
    disable_check: bool
    named: bool


def fingerprint(text: str) -> str:
    """A line that is the same for the same text only."""
    return hashlib.sha256(text.encode()).hexdigest()


class Records:
    """The records of a node.

    Args:
        state_dir: the plugin's own.
        say: hears of a record that cannot be used.
    """

    def __init__(self, state_dir: str, say: Callable[[str], object]) -> None:
        self.directory = f"{state_dir.rstrip('/')}/install"
        self._say = say

    def files(self) -> list[str]:
        """The names of the files with a record.

        Raises:
            CniError: IO_FAILURE.
        """
        try:
            found = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot read {self.directory}: {error.strerror}") from None
        return sorted(
            name.removesuffix(_SUFFIX)
            for name in found
            if name.endswith(_SUFFIX) and not name.startswith(".")
        )

    def load(self, file: str) -> Record | None:
        """The record of a file; one that cannot be understood is moved aside, and nothing is known of the file.

        Raises:
            CniError: IO_FAILURE.
        """
        path = self._path(file)
        try:
            with open(path, encoding="utf-8") as stream:
                values = json.load(stream)
            return _understood(values, file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot read {path}: {error.strerror}") from None
        except (ValueError, RecursionError):  # not JSON, not UTF-8, not ours, or of a later version
            with suppress(FileNotFoundError):  # another installer has moved it
                os.replace(path, f"{path}.unusable")
            self._say(f"{path} cannot be understood and is kept as {path}.unusable")
            return None

    def store(self, record: Record) -> None:
        """Write a record, so that it survives a power cut.

        Raises:
            CniError: IO_FAILURE.
        """
        make_directory(self.directory)
        text = json.dumps({"schema": _SCHEMA, **asdict(record)}, indent=2)
        write_atomically(self._path(record.file), text + "\n")

    def forget(self, file: str) -> None:
        """Remove a record.

        Raises:
            CniError: IO_FAILURE.
        """
        if os.path.lexists(self._path(file)):
            remove(self._path(file))

    def _path(self, file: str) -> str:
        return f"{self.directory}/{file}{_SUFFIX}"


def _understood(values: object, file: str) -> Record:
    if not isinstance(values, dict) or values.pop("schema", None) != _SCHEMA or values.get("file") != file:
        raise ValueError("not a record of this version")
    kinds: dict[str, tuple[type, ...]] = {
        "file": (str,),
        "source": (str, type(None)),
        "former": (str, type(None)),
        "written": (str,),
        "entry": (dict,),
        "disable_check": (bool,),
        "named": (bool,),
    }
    if values.keys() != kinds.keys() or not all(isinstance(values[key], kinds[key]) for key in kinds):
        raise ValueError("not a record of this version")
    return Record(**values)
