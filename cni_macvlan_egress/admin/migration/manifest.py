"""Kubernetes objects as plain data: read from a file or stdin, looked into with care, written as YAML."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from ...protocol.errors import DECODING_FAILURE, IO_FAILURE, CniError
from ...sources.documents import UnreadableError, from_json, from_yaml

Object = dict[str, Any]

STDIN = "-"
_OCTAL = re.compile(r"0o?[0-7]{1,4}")
# The two fields of a pod that are customarily written in octal.
_FILE_MODES = ("defaultMode", "mode")


def read(path: str) -> list[Object]:
    """The objects of a file or of stdin ("-"), those of a List one by one.

    Raises:
        CniError: IO_FAILURE, DECODING_FAILURE.
    """
    text = _text(path)
    try:
        documents = _parsed(text)
    except UnreadableError as error:
        raise CniError(DECODING_FAILURE, f"{_called(path)}: {error}") from None
    return [_with_file_modes(found) for document in documents for found in _objects(document, path)]


def write(documents: Iterable[Object]) -> str:
    """YAML of several documents: keys in the order they are in, texts of several lines as such."""
    return "---\n".join(
        yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True) for one in documents
    )


def section(parent: Object, key: str) -> Object:
    """An object's object, empty if there is none.

    Raises:
        CniError: DECODING_FAILURE if it is something else.
    """
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CniError(DECODING_FAILURE, f"{key}: an object is expected")
    return value


def sections(parent: Object, key: str) -> list[Object]:
    """An object's list of objects, empty if there is none.

    Raises:
        CniError: DECODING_FAILURE if it is something else.
    """
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise CniError(DECODING_FAILURE, f"{key}: a list of objects is expected")
    return value


def words(parent: Object, key: str) -> list[str]:
    """An object's list of strings, empty if there is none.

    Raises:
        CniError: DECODING_FAILURE if it is something else.
    """
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise CniError(DECODING_FAILURE, f"{key}: a list of strings is expected")
    return value


def strings(parent: Object, key: str) -> dict[str, str]:
    """An object's map of strings, empty if there is none.

    Raises:
        CniError: DECODING_FAILURE if it is something else.
    """
    found = section(parent, key)
    for name, value in found.items():
        if not isinstance(value, str):
            raise CniError(
                DECODING_FAILURE, f'{key}: {name}: a string is expected; put it into quotes, like "1"'
            )
    return found


def word(parent: Object, key: str) -> str:
    """An object's string, empty if there is none.

    Raises:
        CniError: DECODING_FAILURE if it is something else.
    """
    value = parent.get(key)
    if value is not None and not isinstance(value, str):
        raise CniError(DECODING_FAILURE, f"{key}: a string is expected")
    return value or ""


def title(document: Object) -> str:
    """Kind, namespace and name, as an admin would say them."""
    metadata = document.get("metadata")
    given = metadata if isinstance(metadata, dict) else {}
    name = str(given.get("name") or given.get("generateName") or "?")
    namespace = given.get("namespace")
    return f"{document.get('kind')} {namespace}/{name}" if namespace else f"{document.get('kind')} {name}"


def without(given: Object, *keys: str) -> Object:
    """The same object less some keys."""
    return {key: value for key, value in given.items() if key not in keys}


def _text(path: str) -> str:
    try:
        if path == STDIN:
            return sys.stdin.read()
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise CniError(IO_FAILURE, f"cannot read {_called(path)}: {error}") from None


def _parsed(text: str) -> list[object]:
    # YAML holds nearly all of JSON, but for tabs, which are fit to indent only the latter.
    if text.lstrip().startswith("{"):
        try:
            return from_json(text)
        except UnreadableError:
            return from_yaml(text)
    return from_yaml(text)


def _objects(document: object, path: str) -> Iterator[Object]:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise CniError(DECODING_FAILURE, f"{_called(path)}: no Kubernetes object: there is no 'kind' in it")
    if document["kind"].endswith("List") and "items" in document:
        for item in sections(document, "items"):
            # `kubectl get egressrouters -o json` may leave out what the list's own kind says.
            implied = {
                "kind": document["kind"].removesuffix("List"),
                "apiVersion": document.get("apiVersion"),
            }
            yield from _objects(item if "kind" in item or not implied["kind"] else {**implied, **item}, path)
        return
    yield document


def _with_file_modes(value: Any) -> Any:  # noqa: ANN401
    """The same with modes such as 0644 as numbers: JSON, which is what the API server gets, has no octal ones."""
    if isinstance(value, list):
        return [_with_file_modes(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: int(one.replace("o", ""), 8)
        if key in _FILE_MODES and isinstance(one, str) and _OCTAL.fullmatch(one)
        else _with_file_modes(one)
        for key, one in value.items()
    }


def _called(path: str) -> str:
    return "stdin" if path == STDIN else path


class _Dumper(yaml.SafeDumper):
    """Writes lists indented below their key, and no anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002
        return True


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else '"' if text in ("true", "false") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _as_block)
