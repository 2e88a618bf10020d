"""The documents of a YAML or JSON text as plain data, bounded in depth and without what makes a small text large.

Not yaml.safe_load: it expands aliases, so that a kilobyte may become a gigabyte; takes the last of two equal keys; and
makes dates, octal numbers and booleans of strings such as 2001-01-01, 010 and no, which Kubernetes would not. Here a
plain scalar is null, true, false or a decimal number as YAML 1.2 and JSON write them, and a string otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

DEPTH_MAX = 64
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnreadableError(ValueError):
    """A text is not what its file's name says, or more than is accepted; the message names the line."""


def from_yaml(text: str) -> list[object]:
    """Every document of a stream, empty ones left out.

    Raises:
        UnreadableError: no YAML, or with aliases, anchors, tags, equal keys or more than DEPTH_MAX levels.
    """
    try:
        return list(_stream(yaml.parse(text, Loader=_LOADER)))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UnreadableError(f"{line}not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UnreadableError(f"not YAML: {' '.join(str(error).split())}") from None


def from_json(text: str) -> list[object]:
    """The one document of a text, none if it is empty.

    Raises:
        UnreadableError: no JSON, or with equal keys, numbers of more than 18 digits or too many levels.
    """
    if not text.strip():
        return []
    try:
        return [
            json.loads(
                text, object_pairs_hook=_object, parse_int=_whole_number, parse_constant=_no_such_number
            )
        ]
    except json.JSONDecodeError as error:
        raise UnreadableError(f"line {error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise UnreadableError("not JSON that is accepted: too many levels") from None


def _stream(events: Iterator[Any]) -> Iterator[object]:
    for event in events:
        if not isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent | yaml.DocumentEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                continue
            found = _node(event, events, 0)
            if found is not None:
                yield found


def _node(event: yaml.Event, events: Iterator[Any], depth: int) -> object:
    """What begins with an event."""
    line = _line(event)
    if getattr(event, "anchor", None) is not None:
        raise UnreadableError(f"line {line}: anchors (&) and aliases (*) are not accepted; write it out")
    if getattr(event, "tag", None) is not None:
        raise UnreadableError(f"line {line}: tags (!) are not accepted; leave it out")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event)
    if depth >= DEPTH_MAX:
        raise UnreadableError(f"line {line}: nested more than {DEPTH_MAX} deep")
    if isinstance(event, yaml.SequenceStartEvent):
        return _sequence(events, depth)
    return _mapping(events, depth)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _sequence(events: Iterator[Any], depth: int) -> list[object]:
    found = []
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        found.append(_node(event, events, depth + 1))
    return found


def _mapping(events: Iterator[Any], depth: int) -> dict[str, object]:
    found: dict[str, object] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
            raise UnreadableError(f"line {line}: a key is a string")
        key = event.value
        if key in found:
            raise UnreadableError(f"line {line}: the key {key[:80]!r} stands there twice")
        found[key] = _node(next(events), events, depth + 1)
    return found


def _scalar(event: yaml.ScalarEvent) -> object:
    text: str = event.value
    if event.style:  # quoted, or a block
        return text
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if _NUMBER.fullmatch(text) else text


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise UnreadableError(f"the key {twice[:80]!r} stands in one object twice")
    return found


def _whole_number(digits: str) -> int:
    if not _NUMBER.fullmatch(digits):
        raise UnreadableError(
            f"a number has at most 18 digits: {digits[:20]}…" if len(digits) > 18 else digits
        )
    return int(digits)


def _no_such_number(word: str) -> object:
    raise UnreadableError(f"not JSON: {word} is no number")
