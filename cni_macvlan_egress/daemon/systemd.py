"""What systemd and a service say to each other: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from ..protocol.errors import IO_FAILURE, CniError

_FIRST_FD = 3


def notify(state: str) -> None:
    """Tell the service manager, if there is one."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), address)


def listening_socket() -> socket.socket | None:
    """The socket that was opened for this process beforehand.

    Raises:
        CniError: IO_FAILURE if it is none that launchers can connect to.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS", "0") == "0":
        return None
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):  # not meant for children
        os.environ.pop(name, None)
    try:
        listener = socket.socket(fileno=_FIRST_FD)
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CniError(
            IO_FAILURE,
            f"file descriptor {_FIRST_FD} is not the socket that LISTEN_FDS promises: {error.strerror}",
        ) from None
    if (listener.family, listener.type) != (socket.AF_UNIX, socket.SOCK_STREAM) or not listening:
        raise CniError(
            IO_FAILURE,
            f"file descriptor {_FIRST_FD} is no listening Unix stream socket; correct ListenStream=",
        )
    listener.set_inheritable(False)
    return listener


def watchdog_seconds() -> float | None:
    """Within which time the service manager wants to hear something."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 if text.isdecimal() and int(text) else None
