"""Whose turn it is to compute, in a process that serves several calls at once.

Python runs one thread at a time, and a thread gives way at every system call. Many that all want to go on spend more on
handing over than on their work, so only a few do at a time; whoever waits long (for the LAN, for the kernel's grace
periods, for another process) lets another one in meanwhile. A process that serves one call takes no turns.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Semaphore

_turns: ContextVar[Semaphore] = ContextVar("turns")


@contextmanager
def taken(turns: Semaphore) -> Iterator[None]:
    """Wait for a turn, and keep it but for the times of waiting()."""
    with turns:
        token = _turns.set(turns)
        try:
            yield
        finally:
            _turns.reset(token)


@contextmanager
def waiting() -> Iterator[None]:
    """Let another thread have the turn while this one waits for something that takes long."""
    turns = _turns.get(None)
    if turns is None:
        yield
        return
    turns.release()
    try:
        yield
    finally:
        turns.acquire()
