"""What a benchmark found, as a table that reads the same on a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark's outcome.

    Attributes:
        headings: of the columns; the first column is text, the others are figures.
        rows: as many cells as there are headings.
        sentences: what follows from the table, one a line.
    """

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    sentences: Sequence[str] = ()

    def text(self) -> str:
        """Table and sentences."""
        widths = [max(map(len, column)) for column in zip(self.headings, *self.rows, strict=True)]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines = [
            _line(self.headings, widths),
            _line(rule, widths),
            *(_line(row, widths) for row in self.rows),
        ]
        if self.sentences:
            lines += ["", *(f"- {sentence}" for sentence in self.sentences)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Sections:
    """Several results, one below the other."""

    parts: tuple[tuple[str, Result], ...]

    def text(self) -> str:
        """Each with its title."""
        return "\n\n".join(f"**{title}**\n\n{result.text()}" for title, result in self.parts)


def milliseconds(value: float) -> str:
    """A time as the tables show it."""
    return f"{value:.1f}"


def ratio(value: float, base: float) -> str:
    """How many times the base a time is."""
    return f"{value / base:.2f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *figures = zip(cells, widths, strict=True)
    return (
        "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in figures)]) + " |"
    )
