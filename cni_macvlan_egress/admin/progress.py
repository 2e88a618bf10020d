"""Says what is being looked at when it takes longer than a second, on a terminal."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType
from typing import Self

from ..model.complaints import printable

_SECONDS = 1.0
_CLEAR = "\r\033[K"
_WIDTH = 70


class Progress:
    """Shows one line on stderr, and wipes it away at the end.

    By a timer's signal and not by a thread, because checks fork.

    Args:
        subject: what is looked at first.
    """

    def __init__(self, subject: str = "") -> None:
        self._wanted = sys.stderr.isatty()
        self._now = subject
        self._shown = False
        self._before: signal._HANDLER = None

    def begin(self, subject: str) -> None:
        """Note what is looked at next."""
        self._now = subject
        if self._shown:
            self._show()

    def __enter__(self) -> Self:
        if self._wanted:
            self._before = signal.signal(signal.SIGALRM, self._rung)
            # libraries in C are not told that they have been interrupted
            signal.siginterrupt(signal.SIGALRM, False)
            signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wanted:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
        if self._shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()

    def _rung(self, _number: int, _frame: FrameType | None) -> None:
        self._shown = True
        self._show()

    def _show(self) -> None:
        sys.stderr.write(_CLEAR + f"looking at {printable(self._now)} …"[:_WIDTH])
        sys.stderr.flush()
