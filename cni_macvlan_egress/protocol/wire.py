"""JSON on stdin and stdout.

Uses CPython's C scanner without the json package around it, which would cost an exec more than all else it
does (8 ms); json itself is imported only where something has to be encoded.
"""

from __future__ import annotations

import posix

from .errors import DECODING_FAILURE, IO_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# etcd refuses objects over 1.5 MiB, so that a pod's annotations and a chain's result stay well below this.
MAX_STDIN_BYTES = 8 * 1024 * 1024
_WHITE_SPACE = " \t\n\r"
_INFINITE = float("inf")


class Document:
    """The object on stdin, with the text it came in.

    Attributes:
        values: the decoded top-level keys.
        text: the whole text.
    """

    __slots__ = ("_spans", "text", "values")

    def __init__(self, text: str, values: dict[str, Any], spans: dict[str, tuple[int, int]]) -> None:
        self.text = text
        self.values = values
        self._spans = spans

    def raw(self, key: str) -> str:
        """The text of one top-level value, exactly as it came in."""
        start, end = self._spans[key]
        return self.text[start:end]


def read_stdin() -> Document:
    """Read and decode stdin.

    Raises:
        CniError: DECODING_FAILURE if it is too large, not UTF-8 or not one JSON object; IO_FAILURE.
    """
    chunks = []
    size = 0
    try:
        while chunk := posix.read(0, 1 << 16):
            size += len(chunk)
            if size > MAX_STDIN_BYTES:
                raise CniError(DECODING_FAILURE, f"stdin is larger than {MAX_STDIN_BYTES >> 20} MiB")
            chunks.append(chunk)
    except OSError as error:  # it is closed, or a directory
        raise CniError(IO_FAILURE, f"stdin cannot be read: {error.strerror}") from None
    return decode_bytes(b"".join(chunks))


def decode_bytes(data: bytes) -> Document:
    """Decode one JSON object in UTF-8.

    Raises:
        CniError: DECODING_FAILURE if it is too large, not UTF-8 or not one JSON object.
    """
    if len(data) > MAX_STDIN_BYTES:
        raise CniError(DECODING_FAILURE, f"stdin is larger than {MAX_STDIN_BYTES >> 20} MiB")
    try:
        return decode(data.decode())
    except UnicodeDecodeError as error:
        raise CniError(DECODING_FAILURE, f"stdin is not UTF-8: {error}") from None


def decode(text: str) -> Document:
    """Decode one JSON object, remembering where each top-level value stands in the text.

    Raises:
        CniError: DECODING_FAILURE.
    """
    try:
        return _scan_object(text)
    except (ValueError, StopIteration, IndexError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it ends too early or a value is missing"
        raise CniError(
            DECODING_FAILURE, f"stdin is not the JSON object that CNI prescribes: {reason}"
        ) from None
    except RecursionError:
        raise CniError(DECODING_FAILURE, "stdin is not usable: JSON nested too deeply") from None


def encode(value: object, *, indent: int | None = None) -> str:
    """Encode a result or an error."""
    import json

    return json.dumps(value, indent=indent, allow_nan=False)


def write_stdout(text: str) -> None:
    """Write one answer.

    Raises:
        OSError: the runtime no longer listens, or has given a file that takes no more.
    """
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[posix.write(1, data) :]


def _scan_object(text: str) -> Document:
    scan = _scanner()
    position = _skip(text, 0)
    if text[position] != "{":
        raise ValueError("it does not start with '{'")
    values: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    position = _skip(text, position + 1)
    while text[position] != "}":
        if text[position] != '"':
            raise ValueError(f"a key in double quotes is expected at character {position}")
        key, position = scan(text, position)
        position = _skip(text, position)
        if text[position] != ":":
            raise ValueError(f"':' is expected at character {position}")
        start = _skip(text, position + 1)
        values[key], position = scan(text, start)
        spans[key] = (start, position)
        position = _skip(text, position)
        if text[position] == ",":
            position = _skip(text, position + 1)
            if text[position] == "}":
                raise ValueError(f"a key is expected at character {position}")
        elif text[position] != "}":
            raise ValueError(f"',' or '}}' is expected at character {position}")
    if _skip(text, position + 1) != len(text):
        raise ValueError(f"something follows the object at character {position + 1}")
    return Document(text, values, spans)


def _skip(text: str, position: int) -> int:
    end = len(text)
    while position < end and text[position] in _WHITE_SPACE:
        position += 1
    return position


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (_INFINITE, -_INFINITE):
        raise ValueError(f"{digits[:40]} is more than a number can be")
    return number


class _Settings:
    """What the C scanner wants to know; the names are those of json.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_finite)
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    try:
        from _json import make_scanner
    except ImportError:  # an interpreter without the C accelerator
        from json.decoder import JSONDecoder

        return JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).scan_once  # type: ignore[no-any-return, attr-defined]
    scan: Callable[[str, int], tuple[Any, int]] = make_scanner(_Settings)  # type: ignore[arg-type]
    return scan
