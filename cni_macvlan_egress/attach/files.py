"""Files that outlive the exec: written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress

from ..protocol.errors import IO_FAILURE, CniError
from . import paths

# Not blocking: a FIFO under this name would keep an open() for ever.
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def write_atomically(path: str, content: str | bytes, mode: int = 0o600) -> None:
    """Write a file so that readers and power cuts see the old one or the new one.

    Raises:
        CniError: IO_FAILURE.
    """
    _write(path, content.encode() if isinstance(content, str) else content, mode, durable=True)


def write_quickly(path: str, text: str, mode: int = 0o600) -> None:
    """The same for what does not outlive a boot: readers and kills see the old one or the new one.

    Raises:
        CniError: IO_FAILURE.
    """
    _write(path, text.encode(), mode, durable=False)


def _write(path: str, data: bytes, mode: int, *, durable: bool) -> None:
    directory = os.path.dirname(path) or "."
    temporary = paths.unfinished(path)
    try:
        fd = os.open(temporary, _FLAGS, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            _discard(temporary)
            raise
        if durable:
            sync_directory(directory)
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot write {path}: {error.strerror}") from None


def read(path: str) -> bytes:
    """All of a file.

    Raises:
        OSError: it cannot be read, or is a link or no file.
    """
    # Not blocking: a FIFO under this name would keep an open() for ever; it reads as empty.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        return file.read()


def make_directory(path: str) -> None:
    """Make a directory that only root may look into, with its parents.

    Raises:
        CniError: IO_FAILURE.
    """
    try:
        _make_with_parents(path)
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot make the directory {path}: {error.strerror}") from None


def _make_with_parents(path: str) -> None:
    # makedirs() would leave the parents' mode to the umask, which is the runtime's.
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        _make_with_parents(os.path.dirname(path))
        _make_with_parents(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def remove(path: str) -> None:
    """Remove a file that may be gone already.

    Raises:
        CniError: IO_FAILURE.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot remove {path}: {error.strerror}") from None


def sync_directory(path: str) -> None:
    """Make a rename or removal survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _discard(temporary: str) -> None:
    """Remove what could not be finished; if that fails too, the first error is the one to be told."""
    with suppress(OSError):
        os.unlink(temporary)
