"""What has to change so that our entry is gone from a CNI directory, and what was there before is back."""

from __future__ import annotations

from ..model import conflist_names
from ..model.conflist_text import TYPE, Conflist, parse
from ..protocol.errors import CniError
from ..sources import conflists
from .conflist_change import Change, path_in
from .conflist_record import Record, Records, fingerprint


def removals(directory: str, records: Records, name: str | None) -> tuple[list[Change], list[str]]:
    """The changes for every file with our entry, or for one; and what was left alone, a sentence each.

    Raises:
        CniError: IO_FAILURE; for a file that was named, also what is wrong with it.
    """
    changes, left = [], []
    files = [name, conflist_names.derived(name)] if name else [*conflists.names(directory), *records.files()]
    for file in dict.fromkeys(files):
        try:
            change = removal(directory, records, file)
        except CniError as error:
            if name or records.load(file):
                raise
            left.append(f"{file} is left alone: {error.msg}")  # nobody has installed anything there
            continue
        if change is not None:
            changes.append(change)
    return changes, left


def removal(directory: str, records: Records, file: str) -> Change | None:
    """The change for one file, None if there is nothing of ours.

    Raises:
        CniError: the file cannot be read or understood, or would have nothing left in it.
    """
    record = records.load(file)
    found = conflists.read(directory, file)
    if found is None:
        if record is None:
            return None
        path = path_in(directory, file)
        return Change(path, file, None, None, path, None, "the file is gone already; its record is removed")
    change = _as_recorded(found, record) if record else None
    if change is not None:
        return change
    conflist = _understood(found)
    if conflist.entry is None:
        if record is None:
            return None
        return _change(found, found.text, "our entry is gone already; its record is removed")
    if _is_made_from_source(directory, conflist, file):
        return _change(found, None, "removed: it was made by install; the file it was made from is as it was")
    after = conflist.without_entry(enable_check=bool(record and record.disable_check))
    return _change(found, after, f"the entry of {TYPE} is taken out, all else stays as it is")


def _as_recorded(found: conflists.Configuration, record: Record) -> Change | None:
    """The way back if nobody else has changed the file."""
    if fingerprint(found.text) != record.written:
        return None
    if record.former is None:
        return _change(found, None, "removed: it was made by install; the file it was made from is as it was")
    return _change(found, record.former, "restored: it is what it was before, byte for byte")


def _is_made_from_source(directory: str, conflist: Conflist, file: str) -> bool:
    """Whether a list holds nothing but a lone configuration beside it, and our entry."""
    entry = conflist.entry
    for name in conflist_names.sources(file) if entry is not None else ():
        source = conflists.read(directory, name)
        if source is None or entry is None:
            continue
        made = parse(source.text, listed=False).as_list(entry, disable_check=conflist.disables_check)
        if made == conflist.text:
            return True
    return False


def _understood(found: conflists.Configuration) -> Conflist:
    try:
        return parse(found.text, listed=conflist_names.is_list(found.name))
    except CniError as error:
        raise CniError(error.code, f"{found.path}: {error.msg}") from None


def _change(found: conflists.Configuration, after: str | None, deed: str) -> Change:
    return Change(found.path, found.name, found.text, after, found.path, None, deed)
