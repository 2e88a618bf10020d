"""Turns a validation error into one sentence that names key, value and rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

_RULES = {
    "string_type": "a string is expected",
    "int_type": "a whole number is expected",
    "int_parsing": "a whole number is expected",
    "bool_type": "true or false is expected",
    "list_type": "a list is expected",
    "tuple_type": "a list is expected",
    "dict_type": "an object is expected",
    "model_type": "an object is expected",
    "model_attributes_type": "an object is expected",
    "missing": "this key is required",
    "extra_forbidden": "this key is not known here",
}
_SHOWN_CHARACTERS = 80


def sentence(error: ValidationError) -> str:
    """The first thing that is wrong: `key: value: rule`."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    rule = violated(first)
    if first["type"] == "missing":
        return f"{where}: {rule}"
    shown = show(first["input"])
    if not where:
        return rule
    return rule if rule.startswith(f"{where}:") else f"{where}: {shown}: {rule}"


def violated(fault: Mapping[str, Any]) -> str:
    """The rule that one of pydantic's errors is about."""
    return _RULES.get(fault["type"], str(fault["msg"]).removeprefix("Value error, "))


def printable(text: str) -> str:
    """A text of any origin as a terminal may have it: what it would obey is escaped."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def show(value: object) -> str:
    """A value as an error message shows it: quoted, shortened, no control characters."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
