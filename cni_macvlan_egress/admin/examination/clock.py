"""The node's clock: is it kept right, and can it be right at all."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator

from .check import Check
from .finding import Finding, bad, good
from .node import Node

# linux/timex.h
_TIME_ERROR = 5
_STA_UNSYNC = 0x40
_DAY_SECONDS = 86400.0
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as it is read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def _synchronised(_node: Node) -> Iterator[Finding]:
    state, status, error_us = read_kernel_clock()
    seconds = error_us / 1_000_000
    if state == _TIME_ERROR or status & _STA_UNSYNC:
        yield bad(
            "clock-synchronised", f"adjtimex: state {state}, status {status:#x}, off by up to {seconds:g} s"
        )
    else:
        yield good("clock-synchronised", f"off by at most {seconds:g} s")


def _plausible(_node: Node) -> Iterator[Finding]:
    now, made = time.time(), _made()
    if now < made - _DAY_SECONDS:
        yield bad("clock-behind", f"it is {_date(now)}, and the program is of {_date(made)}")
    else:
        yield good("clock-behind", f"it is {_date(now)}")


CHECKS = (
    Check("the clock's synchronisation", _synchronised),
    Check("the clock's date", _plausible),
)


def read_kernel_clock() -> tuple[int, int, int]:
    """State and status of the kernel's clock, and its largest error in microseconds; nothing is set."""
    timex = _Timex(modes=0)
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.byref(timex))
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "adjtimex")
    return state, timex.status, timex.maxerror


def _made() -> float:
    """When this program was built or installed, seconds since the epoch."""
    with os.scandir(_PACKAGE) as entries:
        return max(entry.stat().st_mtime for entry in entries if entry.name.endswith(".py"))


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
