"""Whether anybody still waits for a call's answer, where a call is served for another process."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_has_gone: ContextVar[Callable[[], bool]] = ContextVar("has_gone")


@contextmanager
def told_by(has_gone: Callable[[], bool]) -> Iterator[None]:
    """Serve a call whose caller may go before it is answered."""
    token = _has_gone.set(has_gone)
    try:
        yield
    finally:
        _has_gone.reset(token)


def gone() -> bool:
    """Whether the caller was killed meanwhile: its runtime may have sent DEL already, which must have the last word."""
    has_gone = _has_gone.get(None)
    return has_gone is not None and has_gone()
