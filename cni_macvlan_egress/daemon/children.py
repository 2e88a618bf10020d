"""Forks the daemon's processes: each is named, ends with the supervisor, and does one thing."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from ..protocol.errors import KERNEL_REFUSED, CniError
from . import journal

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # prctl(2)


def fork(what: str, work: Callable[[], None]) -> int:
    """Have a child do some work and end; returns its PID.

    Args:
        what: its name in /proc/PID/comm, 15 characters at most.
    """
    own = os.getpid()
    # Until a child has said what SIGTERM means to it, it must end by it, and not do as its parent would.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        return pid
    status = os.EX_SOFTWARE
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        _prctl(_PR_SET_NAME, what.encode())
        _die_with(own)
        work()
        status = 0
    except BaseException:
        import traceback

        journal.tell("error", f"a {what} has failed", traceback=traceback.format_exc())
    finally:
        os._exit(status)


def send(pid: int, number: int) -> None:
    """Send a signal to a child that may have ended already."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _die_with(parent: int) -> None:
    """Get SIGTERM when the supervisor is gone, even if it was killed: nobody would look after this process."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)


def _prctl(option: int, argument: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise CniError(KERNEL_REFUSED, f"prctl: {os.strerror(ctypes.get_errno())}")
