"""Chooses the inputs to keep in the repository: few and small ones that together reach nearly all that is reached."""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from .examiner import Examiner
from .target import Target

# More does not make the replay find more, only slower.
FILES_MAX, BYTES_MAX = 40, 3072
_HASHED = re.compile(r"[0-9a-f]{16}")
Arc = tuple[str, int, int]


def keep(target: Target, further: list[Path]) -> tuple[int, int]:
    """Choose among the corpus and further directories; returns how many inputs there were, and are kept.

    Inputs with a name of their own stay; those that are named by their hash may go.
    """
    named = [path for path in target.corpus() if not _HASHED.fullmatch(path.name)]
    others = [path for path in target.corpus() if _HASHED.fullmatch(path.name)]
    others += [path for directory in further for path in sorted(directory.iterdir())]
    contents = {path.read_bytes() for path in others if path.stat().st_size <= BYTES_MAX}
    examiner = Examiner(target)
    have: set[Arc] = set()
    for path in named:
        have |= _reached(examiner, target, path.read_bytes())
    reached = {data: _reached(examiner, target, data) for data in sorted(contents)}
    chosen = _cover(reached, have, FILES_MAX - len(named))
    for path in target.corpus():
        if _HASHED.fullmatch(path.name):
            path.unlink()
    for data in chosen:
        (target.directory / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return len(named) + len(contents), len(named) + len(chosen)


def _cover(reached: dict[bytes, set[Arc]], have: set[Arc], most: int) -> list[bytes]:
    """Those that add the most, one after the other; of equals the shortest."""
    chosen: list[bytes] = []
    left = dict(reached)
    while left and len(chosen) < most:
        best = min(left, key=lambda data: (-len(left[data] - have), len(data), data))
        if not left[best] - have:
            break
        have |= left.pop(best)
        chosen.append(best)
    return chosen


def _reached(examiner: Examiner, target: Target, data: bytes) -> set[Arc]:
    """The ways from line to line that an input takes; none of one that breaks a property."""
    places = ("/cni_macvlan_egress/", *(f"/{name}/" for name in target.packages))
    found: set[Arc] = set()
    try:
        with _traced(found, places):
            examiner.examine(data)
    except Exception:
        return set()
    return found


@contextmanager
def _traced(found: set[Arc], places: tuple[str, ...]) -> Iterator[None]:
    def enter(frame: FrameType, _event: str, _argument: object) -> Any:
        path = frame.f_code.co_filename
        if not any(place in path for place in places):
            return None
        last = -frame.f_code.co_firstlineno

        def follow(frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal last
            if event == "line":
                found.add((path, last, frame.f_lineno))
                last = frame.f_lineno
            return follow

        return follow

    threading.settrace(enter)
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
