"""How a JSON text is laid out, and how a value is written so that it looks like the rest of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .conflist_json import Part, members

_WIDTH = 90
_TAB_WIDTH = 4


@dataclass(frozen=True, slots=True)
class Style:
    """A layout.

    Attributes:
        newline: what ends a line; empty: everything stands in one.
        unit: one step of indentation.
        colon, comma: what stands between key and value, and between parts in one line.
    """

    newline: str
    unit: str
    colon: str
    comma: str

    def render(self, value: Any, indentation: str, *, spread: bool = False) -> str:  # noqa: ANN401
        """A value as text; lines but the first are indented.

        Args:
            spread: one part a line, even if all would fit one line.
        """
        inline = json.dumps(value, separators=(self.comma, self.colon))
        room = _WIDTH - len(indentation.expandtabs(_TAB_WIDTH))
        if not self.newline or not isinstance(value, dict | list) or not value:
            return inline
        if not spread and len(inline) <= room:
            return inline
        inner = indentation + self.unit
        if isinstance(value, dict):
            brackets = "{}"
            parts = [json.dumps(key) + self.colon + self.render(one, inner) for key, one in value.items()]
        else:
            brackets = "[]"
            parts = [self.render(one, inner) for one in value]
        lines = f",{self.newline}{inner}".join(parts)
        return f"{brackets[0]}{self.newline}{inner}{lines}{self.newline}{indentation}{brackets[1]}"


def style_of(text: str, beside: Part) -> Style:
    """The layout of a text, and foremost of the object that something is to stand beside."""
    newline = "" if "\n" not in text.strip() else "\r\n" if "\r\n" in text else "\n"
    parts = members(text, beside)
    colon = _colon(text, parts)
    return Style(newline, _unit(text, beside, parts), colon, ", " if colon != ":" else ",")


def indentation_of(text: str, part: Part) -> str:
    """The white space before the line on which an object ends, or, if it has only one line, begins."""
    last = text[line_start(text, part.end) : part.end - 1]
    return last if not last.strip() else _leading(text[line_start(text, part.start) :])


def line_start(text: str, position: int) -> int:
    """Where the line of a position begins."""
    return text.rfind("\n", 0, position) + 1


def _unit(text: str, beside: Part, parts: list[Part]) -> str:
    base = indentation_of(text, beside)
    for part in parts:
        inner = text[line_start(text, part.key_start) : part.key_start]
        if not inner.strip() and inner.startswith(base) and len(inner) > len(base):
            return inner[len(base) :]
    lines = text.split("\n")
    return next((white for line in lines if line.strip() and (white := _leading(line))), "  ")


def _colon(text: str, parts: list[Part]) -> str:
    for part in parts:
        key_end = text.rindex('"', part.key_start, part.start) + 1
        between = text[key_end : part.start]
        if "\n" not in between:
            return between
    return ": "


def _leading(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]
