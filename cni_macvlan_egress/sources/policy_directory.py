"""Egress policies from files: those of a directory on the node, which may be a mounted ConfigMap.

What cannot be understood closes the namespaces that it names. Light: for most pods an ADD asks nothing but whether
the directory is still as it was when somebody last read it, and that is a few calls of stat(2).
"""

from __future__ import annotations

import posix

from ..protocol.errors import IO_FAILURE, TRY_AGAIN_LATER, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..model.policy import Policy

    _Found = list[tuple[str, str]] | None

SUFFIXES = (".yaml", ".yml", ".json")

_ABSENT = "absent"
# A ConfigMap's links lead nowhere for a moment while the kubelet changes them.
_TRIES = 6
_PAUSE_SECONDS = 0.02
_DIRECTORY, _KIND = 0o040000, 0o170000  # S_IFDIR and S_IFMT of inode(7)


class DirectoryReading:
    """What documents say.

    Attributes:
        policies: by namespace; broken ones close theirs.
        problems: what an admin should look at and no policy tells, a sentence each.
        fingerprint: of the directory as it was read; empty for files that were named one by one.
    """

    __slots__ = ("fingerprint", "policies", "problems")

    def __init__(self, policies: dict[str, Policy], problems: list[str], fingerprint: str) -> None:
        self.policies = policies
        self.problems = problems
        self.fingerprint = fingerprint


def fingerprint(directory: str) -> str:
    """One line that changes whenever a file which read() reads does; links are followed.

    Raises:
        CniError: IO_FAILURE if the directory is there and cannot be read.
    """
    return _line(_scan(directory))


def read(directory: str) -> DirectoryReading:
    """All documents of a directory as they stood together at one time; a missing directory has none.

    Raises:
        CniError: IO_FAILURE if the directory or a file cannot be read, so that nobody knows what it says;
            TRY_AGAIN_LATER if files keep changing.
    """
    error = CniError(TRY_AGAIN_LATER, f"{_printable(directory)}: the files keep changing while they are read")
    for number in range(_TRIES):
        if number:
            import time

            time.sleep(_PAUSE_SECONDS)
        before = _scan(directory)
        try:
            reading = _read_files(_paths(directory, before), _line(before))
        except CniError as failure:
            error = failure
        else:
            if _scan(directory) == before:
                return reading
    raise error


def read_paths(paths: Iterable[str]) -> DirectoryReading:
    """The documents of files, whatever their names end with, and of directories.

    Raises:
        CniError: IO_FAILURE if one is missing or cannot be read.
    """
    files: list[str] = []
    for path in paths:
        try:
            is_directory = posix.stat(path).st_mode & _KIND == _DIRECTORY
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None
        files += _paths(path, _scan(path)) if is_directory else [path]
    return _read_files(files, "")


# -- the directory ----------------------------------------------------------------------------------------------


def _scan(directory: str) -> _Found:
    """The files that count, by name, with what would change with their content; None if there is no directory."""
    found = []
    try:
        with posix.scandir(directory) as entries:
            for entry in entries:
                if _counts(entry.name):
                    found.append((entry.name, _state(f"{directory}/{entry.name}")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(directory, error) from None
    return sorted(found)


def _line(found: _Found) -> str:
    """A scan as a fingerprint."""
    if found is None:
        return _ABSENT
    return " ".join(f"{name!a}:{state}" for name, state in found)


def _paths(directory: str, found: _Found) -> list[str]:
    return [f"{directory}/{name}" for name, _ in found or ()]


def _counts(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".")


def _state(path: str) -> str:
    try:
        status = posix.stat(path)
    except OSError as error:  # a link that leads nowhere, or a file that has just gone
        return f"errno{error.errno}"
    # A file may be given its old time back (cp -p, touch -r), but never the time of its change.
    return f"{status.st_dev}.{status.st_ino}.{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}"


# -- the files --------------------------------------------------------------------------------------------------


def _read_files(paths: Iterable[str], fingerprint: str) -> DirectoryReading:
    from ..model.policy_documents import gather

    found: list[Policy] = []
    problems: list[str] = []
    for path in paths:
        policies, troubles = _of_file(path)
        found += policies
        problems += troubles
    return DirectoryReading(gather(found), problems, fingerprint)


def _of_file(path: str) -> tuple[list[Policy], list[str]]:
    """The policies in a file, and what is wrong with it."""
    from ..model.policy import Policy
    from ..model.policy_documents import namespaces_named, policy

    name = _printable(path)
    data = _content(path)
    if data is None:
        return [], [f"{name}: not a file; remove it from the directory"]
    found: list[Policy] = []
    problems: list[str] = []
    try:
        for document, origin in _documents(data, name):
            try:
                found.append(policy(document, origin))
            except CniError as error:
                problems.append(error.msg)
    except ValueError as error:
        found, problems = [], [f"{name}: {error}"]
    if problems:
        # Half a file, a document of nobody: whoever is named in it is meant by it.
        text = data.replace(b"\0", b"").decode("utf-8", "replace")  # UTF-16 is readable without its zeros
        for namespace in sorted(namespaces_named(text) - {one.namespace for one in found}):
            reason = f"the file names this namespace and cannot be understood: {problems[0]}"
            found.append(Policy(namespace, name, broken=reason))
    return found, problems


def _documents(data: bytes, name: str) -> Iterator[tuple[object, str]]:
    """The documents of a file, and what to call each.

    Raises:
        ValueError: it cannot be understood, with the reason.
    """
    from ..model.policy_documents import items
    from .documents import from_json, from_yaml
    from .regular_file import BYTES_MAX

    if len(data) > BYTES_MAX:
        raise ValueError(
            f"larger than {BYTES_MAX >> 20} MiB; write the policies of a namespace into one file"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8; save it as UTF-8") from None
    found = from_json(text) if name.endswith(".json") else from_yaml(text)
    for number, document in enumerate(found, 1):
        yield from items(document, name if len(found) == 1 else f"{name}, document {number}")


def _content(path: str) -> bytes | None:
    """At most one byte more than a file may have; None if it is no file."""
    from .regular_file import NotRegularError, content

    try:
        return content(path)
    except NotRegularError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: OSError | ValueError) -> CniError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return CniError(
        IO_FAILURE,
        f"cannot read the egress policies in {_printable(path)}: {reason}; mend or remove it",
    )


def _printable(path: str) -> str:
    """A path as titles and sentences show it."""
    return path if path.isprintable() else ascii(path)
