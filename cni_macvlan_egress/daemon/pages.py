"""The daemon's pages over HTTP: metrics and health.

The supervisor forks, so it has no threads; connections are served from its loop, a request each, and no client keeps it
waiting: what is slow is closed.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

Page = tuple[int, str, str]
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}
_REQUEST_MAX = 8192
_SECONDS = 5.0
_CONNECTIONS_MAX = 64


@dataclass
class _Connection:
    sock: socket.socket
    deadline: float
    request: bytes = b""
    answer: bytes = b""


class Pages:
    """Serves pages on any number of sockets.

    Args:
        selector: of the loop; its keys' data are called when they are ready.
        page: gives status, content type and body of a path.
    """

    def __init__(self, selector: selectors.BaseSelector, page: Callable[[str], Page]) -> None:
        self._selector = selector
        self._page = page
        self._open: dict[int, _Connection] = {}

    def serve(self, listener: socket.socket) -> None:
        """Take connections from a listening socket, which is closed with the rest."""
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def expire(self) -> None:
        """Close what is too slow."""
        now = time.monotonic()
        for one in [one for one in self._open.values() if one.deadline <= now]:
            self._close(one)

    @property
    def busy(self) -> bool:
        """Whether there is something that could expire."""
        return bool(self._open)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        if len(self._open) >= _CONNECTIONS_MAX:
            sock.close()
            return
        sock.setblocking(False)
        one = _Connection(sock, time.monotonic() + _SECONDS)
        self._open[sock.fileno()] = one
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._read(one))

    def _read(self, one: _Connection) -> None:
        try:
            part = one.sock.recv(_REQUEST_MAX)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        one.request += part
        if not part or len(one.request) > _REQUEST_MAX:
            self._close(one)
        elif b"\r\n\r\n" in one.request or b"\n\n" in one.request:
            one.answer = self._respond(one.request)
            self._selector.modify(one.sock, selectors.EVENT_WRITE, lambda: self._write(one))

    def _write(self, one: _Connection) -> None:
        try:
            one.answer = one.answer[one.sock.send(one.answer) :]
        except BlockingIOError:
            return
        except OSError:
            one.answer = b""
        if not one.answer:
            self._close(one)

    def _respond(self, request: bytes) -> bytes:
        words = request.split(b"\n", 1)[0].decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/"):
            status, kind, body = 400, "text/plain", "this is no HTTP request\n"
        elif words[0] not in ("GET", "HEAD"):
            status, kind, body = 405, "text/plain", "only GET and HEAD are served\n"
        else:
            status, kind, body = self._page(words[1].partition("?")[0])
        content = body.encode()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + (b"" if words[:1] == ["HEAD"] else content)

    def _close(self, one: _Connection) -> None:
        del self._open[one.sock.fileno()]
        with suppress(KeyError):
            self._selector.unregister(one.sock)
        one.sock.close()
