"""What the demo expects and finds: printed as it goes, kept for the end and for --json."""

from __future__ import annotations

import io
import os
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

WIDTH = 79
_FOUND_COLUMN = 52
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True)
class Step:
    """One expectation and what became of it."""

    scene: str
    what: str
    expected: str
    found: str
    passed: bool


class CutShort(Exception):
    """A step failed without which the rest makes no sense."""


class Report:
    """Collects the steps; prints them unless it is quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self.steps: list[Step] = []
        self._quiet = quiet
        self._scene = ""
        if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without such characters shows others
            sys.stdout.reconfigure(errors="replace")
        self._colour = not quiet and sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    @property
    def failures(self) -> int:
        """How many steps failed."""
        return sum(not step.passed for step in self.steps)

    def scene(self, title: str) -> None:
        """Begin a scene."""
        self._scene = title
        self.show("", self.paint(f"── {title} {'─' * (WIDTH - len(title) - 4)}", "bold"))

    def expect(self, what: str, expected: object, found: object, *, passed: bool | None = None) -> bool:
        """Note and print what was found; it passes if it equals what was expected, or as the caller says."""
        verdict = str(expected) == str(found) if passed is None else passed
        step = Step(self._scene, what, str(expected), str(found), verdict)
        self.steps.append(step)
        mark = self.paint("✓", "green") if verdict else self.paint("✗", "red")
        if len(step.found) <= WIDTH - _FOUND_COLUMN:
            self.show(f"  {mark} {what:<{_FOUND_COLUMN - 4}}{step.found}")
        else:
            self.show(f"  {mark} {what}", *_indented(step.found))
        if not verdict:
            self.show(*(self.paint(line, "red") for line in _indented(f"expected: {step.expected}")))
        return verdict

    def require(self, what: str, expected: object, found: object) -> None:
        """Like expect(), and end the play if it fails.

        Raises:
            CutShort: it failed.
        """
        if not self.expect(what, expected, found):
            raise CutShort

    def say(self, text: str) -> None:
        """A paragraph."""
        self.show(*(f"  {line}" for line in textwrap.wrap(text, WIDTH - 2)))

    def show(self, *lines: str) -> None:
        """Lines as they are, at once."""
        if not self._quiet:
            for line in lines:
                print(line)
            sys.stdout.flush()

    def paint(self, text: str, *styles: str) -> str:
        """Colour for a terminal; the text itself elsewhere."""
        if not self._colour or not styles:
            return text
        return f"\033[{';'.join(_CODES[style] for style in styles)}m{text}\033[0m"

    def document(self, packets: Iterable[Any]) -> dict[str, Any]:
        """The whole for a machine."""
        return {
            "passed": self.failures == 0,
            "steps": [asdict(step) for step in self.steps],
            "packets": [asdict(packet) for packet in packets],
        }


def _indented(text: str) -> list[str]:
    return [f"      {line}" for line in textwrap.wrap(text, WIDTH - 6)]
