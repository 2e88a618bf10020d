"""The module `os` with a fault in it: the call of a given number fails as the kernel would let it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

_CALLS = (
    "open",
    "fdopen",
    "fchmod",
    "fsync",
    "rename",
    "replace",
    "unlink",
    "symlink",
    "readlink",
    "makedirs",
    "close",
)


class FaultyOs:
    """Stands in for `os` and counts every call that touches the file system, writes to a file included.

    Args:
        fails: numbers of the calls that fail, or names of functions of which every call fails.
        error: what a failing call raises.
    """

    def __init__(self, fails: set[int | str], error: BaseException) -> None:
        self.calls: list[str] = []
        self._fails = fails
        self._error = error

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        return self._counted(name, found) if name in _CALLS else found

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) - 1 in self._fails or name in self._fails:
                raise self._error
            result = function(*arguments, **more)
            return self._with_faulty_writes(result) if name == "fdopen" else result

        return call

    def _with_faulty_writes(self, file: Any) -> Any:
        for name in ("write", "flush"):
            setattr(file, name, self._counted(name, getattr(file, name)))
        return file
