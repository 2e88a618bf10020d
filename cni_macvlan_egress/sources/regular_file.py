"""The content of a file that somebody else may have put there: a regular one, and not too large."""

# posix, not os, here and in what the pass-through imports: os takes as long to import as all of it.
from __future__ import annotations

import posix

BYTES_MAX = 4 << 20
_REGULAR, _KIND = 0o100000, 0o170000  # S_IFREG and S_IFMT of inode(7)


class NotRegularError(OSError):
    """It is a directory, a device, a pipe or a socket."""


def content(path: str, most: int = BYTES_MAX) -> bytes:
    """The bytes of a file; one more than `most` if there are more.

    Raises:
        NotRegularError: it is no regular file.
        OSError: it cannot be read.
        ValueError: the path holds a NUL.
    """
    # Opening a pipe would wait for whoever writes to it, and a terminal would become ours.
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY)
    try:
        if posix.fstat(fd).st_mode & _KIND != _REGULAR:
            raise NotRegularError(0, "it is not a regular file")
        parts, left = [], most + 1
        while left and (part := posix.read(fd, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        posix.close(fd)
