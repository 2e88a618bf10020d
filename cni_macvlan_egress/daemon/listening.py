"""The daemon's sockets: made beside their place and moved there, so that a new daemon takes over from an old one."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..attach.files import make_directory
from ..protocol.errors import IO_FAILURE, CniError

_MODE_MASK = 0o177  # 0600


class UnixListener:
    """A listening Unix socket at a path that only root may connect to.

    Args:
        queue: how many callers may wait for a worker (listen(2)).

    Raises:
        CniError: IO_FAILURE if it cannot be made.
    """

    def __init__(self, path: str, queue: int) -> None:
        self.path = path
        make_directory(os.path.dirname(path) or ".")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        temporary = f"{path}.{os.getpid()}"
        try:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            mask = os.umask(_MODE_MASK)
            try:
                self.socket.bind(temporary)
            finally:
                os.umask(mask)
            self.socket.listen(queue)
            with _alone(path):
                # In the place of an old daemon's, which goes on with what it has accepted.
                os.rename(temporary, path)
                self._identity = _identity(path)
        except OSError as error:
            self.socket.close()
            with suppress(OSError):
                os.unlink(temporary)
            raise CniError(IO_FAILURE, f"cannot listen at {path}: {error.strerror or error}") from None

    def leave(self) -> None:
        """Take the path away, unless another daemon has it by now."""
        with suppress(OSError), _alone(self.path):
            if _identity(self.path) == self._identity:
                os.unlink(self.path)


def tcp(address: str) -> socket.socket:
    """Listen at ADDRESS:PORT or [ADDRESS]:PORT.

    Raises:
        CniError: IO_FAILURE.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal():
        raise CniError(IO_FAILURE, f"{address!r} is not of the form ADDRESS:PORT, such as 127.0.0.1:9455")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family)
    except (OSError, OverflowError) as error:
        raise CniError(IO_FAILURE, f"cannot listen at {address}: {error}") from None


def _identity(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_ctime_ns


@contextmanager
def _alone(path: str) -> Iterator[None]:
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
