"""Findings as a person reads them: wrapped to the terminal, coloured only there."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

from .catalogue import AREAS, KINDS
from .finding import RANK, Finding
from .kind import Severity

_COLOURS: dict[Severity, str] = {"ok": "32", "note": "36", "warning": "33", "error": "31"}
_BOLD, _DIM = "1", "2"
_WIDTH_MIN = 40
_MARK = max(map(len, RANK)) + 2
_LABEL = len("found  ")


class Page:
    """Writes to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        terminal = stream.isatty()
        dumb = os.environ.get("TERM") == "dumb"
        self._colour = terminal and not dumb and not os.environ.get("NO_COLOR")
        # What is read by another program stays one line a thing.
        self._width = max(shutil.get_terminal_size().columns, _WIDTH_MIN) if terminal else sys.maxsize

    def show(self, found: Sequence[Finding]) -> None:
        """Print all of it, by areas, and a last line that says how it stands."""
        lines = [*self._areas(found), *self._wrapped(verdict(found), "")]
        text = "\n".join(lines) + "\n"
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()

    def _areas(self, found: Sequence[Finding]) -> Iterator[str]:
        for area, title in AREAS.items():
            mine = [one for one in found if KINDS[one.id].area == area]
            if mine:
                yield self._paint(title, _BOLD)
                for one in mine:
                    yield from self._finding(one)
                yield ""

    def _finding(self, one: Finding) -> Iterator[str]:
        mark = self._paint(one.severity.ljust(_MARK), _COLOURS[one.severity])
        first, *rest = self._wrapped(f"{one.id}: {one.summary}", " " * (_MARK + 2))
        yield f"  {mark}{first.lstrip()}"
        yield from rest
        for label, text in (("found", one.evidence), ("cure", one.cure)):
            if text:
                first, *rest = self._wrapped(text, " " * (_MARK + 2 + _LABEL))
                yield " " * (_MARK + 2) + self._paint(label.ljust(_LABEL), _DIM) + first.lstrip()
                yield from rest

    def _wrapped(self, text: str, indent: str) -> list[str]:
        """Lines of the terminal's width; a word that is longer stays whole, so that it can be copied."""
        width = self._width if self._width < sys.maxsize else len(indent) + len(text) + 1
        return textwrap.wrap(
            text,
            width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text


def verdict(found: Sequence[Finding]) -> str:
    """How many of what there are."""
    counts = [(name, sum(one.severity == name for one in found)) for name in reversed(RANK)]
    parts = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts[:-1] if count]
    return ", ".join(parts) if parts else "All is well."
