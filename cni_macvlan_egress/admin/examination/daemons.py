"""The daemon behind the native launcher: asked as a launcher asks it, for its version of CNI, which touches nothing."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator

from ... import __version__
from ...daemon import frames
from .finding import Finding, bad, good

_SECONDS = 5.0
_BUILD = re.compile(rb'macvlan_egress_build_info\{version="([^"]*)"\}')
_ANSWER_MAX = 4 << 20


def examine_daemon(path: str, *, has_direct: bool) -> Iterator[Finding]:
    """Whether it answers, and is of this version.

    Args:
        path: its socket.
        has_direct: calls are served without it as well, if more slowly.
    """
    problem = _problem(path)
    if problem:
        yield bad("daemon", f"{path}: {problem}", severity=None if has_direct else "error")
        return
    yield good("daemon", f"it answers at {path}")
    version = _version(os.path.join(os.path.dirname(path), "admin.sock"))
    if version == __version__:
        yield good("daemon-current", f"it is version {version}")
    elif version:
        yield bad("daemon-current", f"the daemon is {version}, this command is {__version__}")


def _problem(path: str) -> str:
    environment = b"CNI_COMMAND=VERSION\0"
    request = frames.HEAD.pack(frames.MAGIC, frames.VERSION, 0, len(environment), 0) + environment
    try:
        answer = _ask(path, request)
    except OSError as error:
        return error.strerror or str(error)
    if len(answer) < frames.HEAD.size:
        return "it hangs up without an answer"
    magic, version, status, _, _ = frames.HEAD.unpack_from(answer)
    if magic != frames.MAGIC or version != frames.VERSION:
        return f"it speaks another protocol (version {version} instead of {frames.VERSION})"
    return f"exit status {status}" if status else ""


def _version(admin_socket: str) -> str:
    """What its metrics say; empty if nobody tells."""
    try:
        answer = _ask(admin_socket, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    except OSError:  # another --admin-socket, or none: what counts is that it answers calls
        return ""
    match = _BUILD.search(answer)
    return match[1].decode(errors="replace") if match else ""


def _ask(path: str, request: bytes) -> bytes:
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_SECONDS)
        sock.connect(path)
        sock.sendall(request)
        while len(answer) < _ANSWER_MAX and (part := sock.recv(1 << 16)):
            answer += part
    return answer
