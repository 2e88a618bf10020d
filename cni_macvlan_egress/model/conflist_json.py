"""Where things stand in a JSON text: one object or list opened at a time, with the place of each of its parts.

As strict as encoding/json of Go, which runtimes use: what they could not read is refused here too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NoReturn

_WHITE_SPACE = " \t\n\r"


@dataclass(frozen=True, slots=True)
class Part:
    """A value and where it stands.

    Attributes:
        key_start: where its key begins; of a list's item, where the value does.
        start, end: of the value in the text.
    """

    key: str
    key_start: int
    start: int
    end: int
    value: Any


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def whole(text: str) -> Part:
    """The one value of a text.

    Raises:
        ValueError: it is not JSON; the message says where.
    """
    start = _skip(text, 0)
    value, end = _value(text, start)
    if _skip(text, end) != len(text):
        raise ValueError(f"something follows the object at {_place(text, _skip(text, end))}")
    return Part("", start, start, end, value)


def members(text: str, of: Part) -> list[Part]:
    """The members of an object that has been read."""
    found = []
    position = _skip(text, of.start + 1)
    while text[position] != "}":
        key_start = position
        key, position = scanstring(text, position + 1, True)
        start = _skip(text, _skip(text, position) + 1)
        value, end = _value(text, start)
        found.append(Part(key, key_start, start, end, value))
        position = _next(text, end)
    return found


def items(text: str, of: Part) -> list[Part]:
    """The items of a list that has been read."""
    found = []
    position = _skip(text, of.start + 1)
    while text[position] != "]":
        value, end = _value(text, position)
        found.append(Part("", position, position, end, value))
        position = _next(text, end)
    return found


def _value(text: str, start: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _next(text: str, end: int) -> int:
    """From the end of a part to the next one, or to the closing bracket."""
    position = _skip(text, end)
    return _skip(text, position + 1) if text[position] == "," else position


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _WHITE_SPACE:
        position += 1
    return position


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"line {line}, column {column}"
