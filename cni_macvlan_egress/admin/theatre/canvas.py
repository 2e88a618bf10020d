"""Characters on squared paper, with a colour each."""

from __future__ import annotations

from itertools import groupby

from .report import Report


class Canvas:
    """Grows downwards as it is drawn upon; what is drawn later covers what was there."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._rows: list[list[tuple[str, str]]] = []

    def put(self, row: int, column: int, text: str, style: str = "") -> None:
        """Write text from a place to the right; what passes the edge is cut."""
        while len(self._rows) <= row:
            self._rows.append([(" ", "")] * self._width)
        for offset, character in enumerate(text[: self._width - column]):
            self._rows[row][column + offset] = (character, style)

    def column(self, rows: range, column: int, character: str, style: str = "") -> None:
        """A vertical line."""
        for row in rows:
            self.put(row, column, character, style)

    def box(self, rows: range, columns: range, title: str) -> None:
        """A frame with a title in its upper edge; the ranges are those of the frame itself."""
        top, bottom, left, right = rows.start, rows.stop - 1, columns.start, columns.stop - 1
        edge = "─" * (right - left - 1)
        self.put(top, left, f"┌{edge}┐")
        self.put(top, left + 2, f" {title} ", "bold")
        self.column(range(top + 1, bottom), left, "│")
        self.column(range(top + 1, bottom), right, "│")
        self.put(bottom, left, f"└{edge}┘")

    def lines(self, report: Report) -> list[str]:
        """The paper from top to bottom."""
        return [
            "".join(
                report.paint("".join(character for character, _ in group), *([style] if style else []))
                for style, group in groupby(row, key=lambda cell: cell[1])
            ).rstrip()
            for row in self._rows
        ]
