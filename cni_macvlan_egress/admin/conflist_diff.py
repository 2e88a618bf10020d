"""Changes as a unified diff; coloured on a terminal, and folded to its width."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TextIO

from .conflist_change import Change

_COLOURS = {"---": "1", "+++": "1", "@@": "36", "+": "32", "-": "31"}
_NO_NEWLINE = "\\ No newline at end of file"
_CONTINUED = "  "
_WIDTH_MIN = 20


class Page:
    """Where words and diffs are shown.

    Args:
        stream: colour and width are a terminal's only; NO_COLOR (https://no-color.org) and TERM=dumb are honoured.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        terminal = self._stream.isatty()
        self._width = max(_WIDTH_MIN, shutil.get_terminal_size().columns) if terminal else 0
        self._colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def say(self, text: str) -> None:
        """One paragraph."""
        text = printable(text)
        lines = textwrap.wrap(text, self._width, subsequent_indent=_CONTINUED) if self._width else [text]
        for line in lines or [""]:
            self._write(line)

    def show(self, changes: Iterable[Change]) -> None:
        """The diff of all changes."""
        for change in changes:
            for line in diff(change):
                self._line(line)

    def flush(self) -> None:
        """Let others read what has been said."""
        self._stream.flush()

    def _line(self, line: str) -> None:
        colour = next((code for mark, code in _COLOURS.items() if line.startswith(mark)), "")
        for part in self._folded(printable(line)):
            self._write(f"\033[{colour}m{part}\033[0m" if colour and self._colour else part)

    def _folded(self, line: str) -> Iterator[str]:
        if not self._width:
            yield line
            return
        line = line.expandtabs()
        yield line[: self._width]
        step = self._width - len(_CONTINUED)
        for start in range(self._width, len(line), step):
            yield _CONTINUED + line[start : start + step]

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")


def diff(change: Change) -> list[str]:
    """The lines of a change as `diff -u` writes them."""
    before, after = change.before or "", change.after or ""
    old = change.path if change.before is not None else os.devnull
    new = change.path if change.after is not None else os.devnull
    lines = []
    # Only \n ends a line: splitlines() would also break where JSON allows other separators inside strings.
    for line in difflib.unified_diff(_lines(before), _lines(after), old, new):
        ended = line.endswith("\n")
        lines.append(line.removesuffix("\n").removesuffix("\r"))
        if not ended:
            lines.append(_NO_NEWLINE)
    return lines


def printable(text: str) -> str:
    """A text without what a terminal could take for a command."""
    return "".join(one if one.isprintable() or one == "\t" else ascii(one)[1:-1] for one in text)


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
