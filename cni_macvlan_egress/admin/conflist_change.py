"""A change of one file of a CNI directory, as data: shown by --dry-run, carried out otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from ..attach.paths import unfinished
from .conflist_file import delete, replace
from .conflist_record import Record, Records


@dataclass(frozen=True, slots=True)
class Change:
    """What a file is to become.

    Attributes:
        path: of the file itself, links followed.
        file: its name in the directory.
        before, after: its content; None: there is no such file.
        like: whose owner, mode and attributes a file gets that is made.
        record: what to remember afterwards; None: nothing.
        deed: what that means, a sentence for people.
    """

    path: str
    file: str
    before: str | None
    after: str | None
    like: str
    record: Record | None
    deed: str

    @property
    def touches_file(self) -> bool:
        """Whether more than the record changes."""
        return self.before != self.after

    def carry_out(self, records: Records) -> bool:
        """Do it; False if the file has been changed since it was read. The caller holds the directory's lock.

        Raises:
            CniError: IO_FAILURE.
        """
        # A record without its entry means that the entry is wanted; an entry without its record can be taken out
        # too. So the record comes first and goes last.
        if self.record is not None and records.load(self.file) != self.record:
            records.store(self.record)
        if self.touches_file and not self._write():
            return False
        if self.record is None:
            records.forget(self.file)
        return True

    def _write(self) -> bool:
        if self.after is not None:
            like = self.path if self.before is not None else self.like
            return replace(self.path, self.after, self.before, like)
        return self.before is None or delete(self.path, self.before)


def leftovers(directory: str, files: Iterable[str]) -> list[str]:
    """The files beside which a killed installer has left something."""
    paths = [path_in(directory, file) for file in files]
    return [path for path in paths if os.path.lexists(unfinished(path))]


def path_in(directory: str, file: str) -> str:
    """Where a file of a directory really is."""
    return os.path.realpath(os.path.join(directory, file))
