"""Hears from the kernel that some interface of the opener's namespace has changed (rtnetlink(7), RTNLGRP_LINK).

What has changed is not read from the message: one that is lost, or overtaken, would be believed. Whoever hears looks.
"""

from __future__ import annotations

import errno
import os
import socket
from types import TracebackType
from typing import Self

from ..protocol.errors import KERNEL_REFUSED, CniError

_RTMGRP_LINK = 1  # linux/rtnetlink.h
_BUFFER = 1 << 15
_PARTS = 1024


class LinkEvents:
    """A socket that becomes readable; it keeps its namespace for as long as it is open.

    Raises:
        CniError: KERNEL_REFUSED.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, 0)
            self._socket.bind((0, _RTMGRP_LINK))
        except OSError as error:
            number = error.errno or errno.EIO
            raise CniError(KERNEL_REFUSED, f"cannot listen to rtnetlink: {os.strerror(number)}") from None

    def fileno(self) -> int:
        """For select(2)."""
        return self._socket.fileno()

    def take(self) -> bool:
        """Whether anything has happened since the last call; all of it is taken."""
        heard = False
        for _ in range(_PARTS):  # a storm must not keep anybody here
            try:
                self._socket.recv(_BUFFER)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # then some were lost, and that is news too
                    raise
            heard = True
        return heard

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
