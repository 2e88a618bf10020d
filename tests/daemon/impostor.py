"""Something that listens where a daemon should, and does as a test tells it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HEAD = struct.Struct("=4sHHII")
Conduct = Callable[[socket.socket], None]


def frame(
    stdout: bytes, stderr: bytes = b"", *, status: int = 0, version: int = 1, magic: bytes = b"MVEG"
) -> bytes:
    """An answer."""
    return HEAD.pack(magic, version, status, len(stdout), len(stderr)) + stdout + stderr


def request(environment: dict[str, str], stdin: bytes, *, version: int = 1) -> bytes:
    """What a launcher sends."""
    block = b"".join(f"{name}={value}\0".encode() for name, value in environment.items())
    return HEAD.pack(b"MVEG", version, 0, len(block), len(stdin)) + block + stdin


def take(connection: socket.socket) -> tuple[bytes, bytes]:
    """Read a whole request: its environment and its stdin."""
    _, _, _, first, second = HEAD.unpack(_exactly(connection, HEAD.size))
    return _exactly(connection, first), _exactly(connection, second)


def answering(data: bytes) -> Conduct:
    """Read the request and send some bytes."""

    def conduct(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(data)

    return conduct


@contextmanager
def impostor(path: str, *conducts: Conduct, backlog: int = 16) -> Iterator[list[Exception]]:
    """Treat the first callers in these ways, one after the other; gives what went wrong on this side."""
    errors: list[Exception] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(backlog)

    def serve() -> None:
        for conduct in conducts:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    conduct(connection)
                except OSError as error:
                    errors.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield errors
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data
