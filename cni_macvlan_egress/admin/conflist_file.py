"""Replaces somebody else's file: whole or not at all, with its owner, mode and labels, and only if it is still the one
that was read.

The unfinished file has a name that no runtime reads (attach/paths.py), and always the same one: what a killed
installer leaves is overwritten or swept by the next.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..attach import paths
from ..attach.files import remove, sync_directory
from ..protocol.errors import IO_FAILURE, TRY_AGAIN_LATER, CniError
from ..sources.regular_file import content

_LOCK_FILE = ".macvlan-egress.lock"
_LOCK_WAIT_SECONDS = 20.0
_LOCK_POLL_SECONDS = 0.02
_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2  # renameat2(2)
# What a file system or kernel answers that does not know the flag, or the attribute.
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_EXCHANGES_MAX = 10


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """Be the only installer that works on a directory, also among several nodes that share it.

    Raises:
        CniError: TRY_AGAIN_LATER if another one keeps it; IO_FAILURE.
    """
    fd = _lock_descriptor(directory)
    try:
        deadline = time.monotonic() + _LOCK_WAIT_SECONDS
        while not _try_lock(fd, directory):
            if time.monotonic() >= deadline:
                raise CniError(
                    TRY_AGAIN_LATER,
                    f"another installer has been working on {directory} for {_LOCK_WAIT_SECONDS:.0f} s; try again",
                )
            time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


def replace(path: str, text: str, expected: str | None, like: str) -> bool:
    """Give a file a new content; False if it has been changed since it was read.

    Args:
        path: of the file itself, not of a link to it.
        expected: its content as it was read, None if it was not there.
        like: the file whose owner, mode and extended attributes it gets.

    Raises:
        CniError: IO_FAILURE.
    """
    temporary = paths.unfinished(path)
    try:
        try:
            _write(temporary, text.encode(), like)
            done = _put(temporary, path, text.encode(), None if expected is None else expected.encode())
        finally:
            sweep(path)
        _sync(os.path.dirname(path))
    except FileNotFoundError:  # the file or its model has just been removed
        return False
    except OSError as error:
        raise unwritable(path, error) from None
    return done


def delete(path: str, expected: str) -> bool:
    """Remove a file; False if it has been changed since it was read.

    Raises:
        CniError: IO_FAILURE.
    """
    temporary = paths.unfinished(path)
    try:
        if content(path) != expected.encode():
            return False
        # Out of the runtime's sight first: what is looked at once more is nobody's any longer.
        os.rename(path, temporary)
        if content(temporary) != expected.encode():
            _rename(temporary, path, _NOREPLACE)
            return False
        os.unlink(temporary)
        _sync(os.path.dirname(path))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unwritable(path, error) from None
    return True


def sweep(path: str) -> None:
    """Remove what a killed installer has left beside a file.

    Raises:
        CniError: IO_FAILURE.
    """
    if os.path.lexists(paths.unfinished(path)):
        remove(paths.unfinished(path))


def unwritable(path: str, error: OSError) -> CniError:
    """What to tell of a file that cannot be written, with the cure if it is known."""
    cure = {
        errno.EROFS: "; it is mounted read-only: mount it writable",
        errno.EBUSY: "; the file is a mount point of its own: mount its directory instead",
        errno.EACCES: "; run it as root",
        errno.EPERM: "; run it as root, and see that the file is not immutable (lsattr)",
    }.get(error.errno or 0, "")
    return CniError(IO_FAILURE, f"cannot write {path}: {error.strerror}{cure}")


def _write(temporary: str, data: bytes, like: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        _dress(file.fileno(), like)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _dress(fd: int, like: str) -> None:
    """Owner before mode, as a change of the owner may take bits of the mode; the SELinux label is an attribute."""
    model, own = os.stat(like), os.fstat(fd)
    if (model.st_uid, model.st_gid) != (own.st_uid, own.st_gid):
        os.fchown(fd, model.st_uid, model.st_gid)
    os.fchmod(fd, model.st_mode & 0o7777)
    try:
        attributes = os.listxattr(like)
    except OSError as error:
        if error.errno in _NOT_SUPPORTED:  # a file system without any
            return
        raise
    for attribute in attributes:
        value = os.getxattr(like, attribute)
        if attribute not in os.listxattr(fd) or os.getxattr(fd, attribute) != value:
            os.setxattr(fd, attribute, value)


def _put(temporary: str, path: str, data: bytes, expected: bytes | None) -> bool:
    if expected is None:
        try:
            _rename(temporary, path, _NOREPLACE)
        except FileExistsError:
            return False
        return True
    try:
        _rename(temporary, path, _EXCHANGE)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        return _put_without_exchange(temporary, path, expected)
    held = content(temporary)
    if held == expected:
        return True
    # Somebody was quicker. What was theirs goes back, also if they are at it once more.
    for _ in range(_EXCHANGES_MAX):
        if held == data:
            break
        _rename(temporary, path, _EXCHANGE)
        held = content(temporary)
    return False


def _put_without_exchange(temporary: str, path: str, expected: bytes) -> bool:
    """For file systems that cannot swap two names (NFS): between look and rename there is a moment."""
    if content(path) != expected:
        return False
    os.rename(temporary, path)
    return True


def _rename(source: str, target: str, flag: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    done = library.renameat2(
        _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flag)
    )
    if done == 0:
        return
    number = ctypes.get_errno()
    if flag == _NOREPLACE and number in _NOT_SUPPORTED:
        os.link(source, target)  # fails if the target is there
        os.unlink(source)
        return
    raise OSError(number, os.strerror(number))


def _sync(directory: str) -> None:
    try:
        sync_directory(directory)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:  # some network file systems cannot; the file itself is written
            raise


def _lock_descriptor(directory: str) -> int:
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot open the directory {directory}: {error.strerror}") from None


def _try_lock(fd: int, directory: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != errno.EBADF:
            raise CniError(IO_FAILURE, f"cannot lock the directory {directory}: {error.strerror}") from None
        _turn_into_lock_file(fd, directory)  # NFS locks only what is open for writing
        return _try_lock(fd, directory)
    return True


def _turn_into_lock_file(fd: int, directory: str) -> None:
    path = os.path.join(directory, _LOCK_FILE)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        os.dup2(file, fd, inheritable=False)
    finally:
        os.close(file)
