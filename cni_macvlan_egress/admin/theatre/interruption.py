"""Ctrl-C and friends, acted upon where the play can stop: between two acts on the kernel, never in one."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """The user, or the system, wants an end.

    Attributes:
        status: the exit status by which a shell reports the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.status = 128 + number


class Interruption:
    """Notes signals for as long as it is entered, the clean-up included."""

    def __init__(self) -> None:
        self._number = 0
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def check(self) -> None:
        """Stop here if a signal came.

        Raises:
            Interrupted: one came.
        """
        if self._number:
            raise Interrupted(self._number)

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = number
