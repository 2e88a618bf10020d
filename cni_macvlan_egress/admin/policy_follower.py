"""`macvlan-egress policy sync --follow`: stays, and syncs whenever documents, names or the table change."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from ..attach.following import Follower
from ..attach.policing import Report
from ..model.configuration import Configuration
from ..protocol.errors import CniError


def follow(configuration: Configuration, tell: Callable[[Report], object]) -> None:
    """Sync now and whenever something changes, until SIGTERM or SIGINT."""
    ended = threading.Event()
    told: tuple[str, ...] | None = None

    def hear(report: Report) -> None:
        nonlocal told
        if report.changes or report.problems != told:
            tell(report)
        told = report.problems

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()  # and no more: the thread that is interrupted may hold the follower's lock

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    Follower(configuration, hear, _complain, lambda: not ended.is_set()).run()


def _complain(error: CniError) -> None:
    sys.stderr.write(f"macvlan-egress policy: {error}\n")
