"""JSON on stdin and stdout, compared with Python's own json."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cni_macvlan_egress.protocol import wire
from cni_macvlan_egress.protocol.errors import DECODING_FAILURE, CniError

from .. import json_values
from ..refusals import refused


def reference(text: str) -> dict[str, Any] | None:
    """What json.loads makes of a text that has to be one object, of what RFC 8259 can say."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(name)

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse(digits)

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=finite)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def decoded(text: str) -> dict[str, Any] | None:
    try:
        return wire.decode(text).values
    except CniError as error:
        assert error.code == DECODING_FAILURE
        assert "stdin" in error.msg
        return None


def same(found: object, expected: object) -> bool:
    """Equal in kinds (1, 1.0 and true differ) and in the order of keys too."""
    return json.dumps(found) == json.dumps(expected)


@st.composite
def spelled(draw: st.DrawFn, value: object) -> str:
    """A JSON value's text, in any spelling of white space and escapes."""
    space = draw(st.sampled_from(["", " ", "\n\t", "\r\n  "]))
    ascii_only = draw(st.booleans())
    try:
        text = json.dumps(
            value,
            ensure_ascii=ascii_only,
            separators=(f",{space}", f"{space}:"),
            indent=draw(st.sampled_from([None, 2])),
        )
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value)
    return text


@st.composite
def pairs_with_texts(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    """The text of an object, and the texts of its keys' values, keys perhaps more than once."""
    keys = draw(st.lists(json_values.any_text, max_size=4))
    texts = [draw(spelled(draw(json_values.values))) for _ in keys]
    space = st.text(" \t\r\n", max_size=2)
    items = [
        f"{draw(space)}{json.dumps(key)}{draw(space)}:{draw(space)}{text}{draw(space)}"
        for key, text in zip(keys, texts, strict=True)
    ]
    whole = f"{draw(space)}{{{draw(space) if not items else ''}{','.join(items)}}}{draw(space)}"
    return whole, list(zip(keys, texts, strict=True))


@given(pairs_with_texts())
def test_every_object_is_decoded_to_the_same_values(made: tuple[str, list[tuple[str, str]]]) -> None:
    text, _ = made
    expected = reference(text)
    assert expected is not None
    assert same(decoded(text), expected)


@given(pairs_with_texts())
def test_raw_is_the_text_of_a_value_as_it_came(made: tuple[str, list[tuple[str, str]]]) -> None:
    text, pairs = made
    document = wire.decode(text)
    for key, raw in dict(pairs).items():  # of a key that comes twice the last one counts
        assert document.raw(key) == raw
    assert set(document.values) == set(dict(pairs))


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The text of an object after an accident or two."""
    text, _ = draw(pairs_with_texts())
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 2))
        put = draw(
            st.sampled_from(
                ["", "{", "}", "[", "]", ",", ":", '"', "\\", " ", "1", "-", ".", "e", "\0", "\ufeff"]
            )
        )
        text = text[:place] + put + text[place + length :]
    return text


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(damaged() | st.text(st.sampled_from('{}[]:,"\\ 01-.eEtrufalsn\n'), max_size=14))
def test_any_text_is_accepted_or_refused_as_by_json(text: str) -> None:
    assert same(decoded(text), reference(text))


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "}", "[]", "null", '"x"', "1", "{}{}", "{},", "{} x", "\ufeff{}", '{"a"}', '{"a":}', '{"a":1,}',
        '{,"a":1}', '{"a":1 "b":2}', '{"a":1,,"b":2}', '{"a"::1}', "{a:1}", "{'a':1}", '{1:1}', '{"a":01}',
        '{"a":1.}', '{"a":.5}', '{"a":+1}', '{"a":0x1}', '{"a":tru}', '{"a":"\t"}', '{"a":"\\x"}', '{"a":"\\u12"}',
        '{"a":[1,]}', '{"a":{"b":1,}}', '{"a":[}', '{"a":1}\0', '{"a":1}]', '{"a":1', '{"a":"x', '{"a', '{"a":1\u00a0}',
        '{"a":NaN}', '{"a":Infinity}', '{"a":[-Infinity]}', '{"a":{"b":NaN}}', "// c\n{}", '{"a":1}/**/',
    ],
)  # fmt: skip
def test_text_that_is_no_object_is_refused(text: str) -> None:
    with refused(DECODING_FAILURE, "stdin is not the JSON object that CNI prescribes"):
        wire.decode(text)


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', ""), ('{"a":[', ""), ('{"a":', "}"), ("[", "]")])
def test_depth_without_end_is_refused(opening: str, closing: str) -> None:
    text = '{"a":' + opening * 100_000 + "1" + closing * 100_000 + "}"
    with refused(DECODING_FAILURE, "stdin", "deep"):
        wire.decode(text)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "[1e400]"])
def test_number_that_nothing_can_hold_is_refused(number: str) -> None:
    # Else it would be read as infinity, which JSON has no word for when the result is written.
    with refused(DECODING_FAILURE, "stdin"):
        wire.decode(f'{{"prevResult": {number}}}')


@given(json_values.objects)
@example({"a": "\ud800", "b": 10**400, "c": -0.0, "d": 1e-320})
def test_what_is_encoded_is_decoded_to_the_same(value: dict[str, Any]) -> None:
    text = wire.encode(value)
    assert text.isascii()
    assert same(wire.decode(text).values, value)
    assert same(wire.decode(wire.encode(value, indent=2)).values, value)


@given(pairs_with_texts())
def test_whatever_is_decoded_can_be_encoded(made: tuple[str, list[tuple[str, str]]]) -> None:
    values = wire.decode(made[0]).values
    assert same(json.loads(wire.encode(values)), values)


# -- the file descriptors


class Pipe:
    """A stdin that gives what it has in chunks, or a stdout that takes no more than it likes."""

    def __init__(self, data: bytes = b"", chunk: int = 7) -> None:
        self.data = data
        self._chunk = chunk

    def read(self, fd: int, _: int) -> bytes:
        assert fd == 0
        taken, self.data = self.data[: self._chunk], self.data[self._chunk :]
        return taken

    def write(self, fd: int, data: bytes) -> int:
        assert fd == 1
        self.data += data[: self._chunk]
        return min(len(data), self._chunk)


def test_stdin_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"name": "é" * 30, "prevResult": {"x": ["日本"]}}, ensure_ascii=False)
    monkeypatch.setattr(wire.posix, "read", Pipe(text.encode(), chunk=3).read)
    document = wire.read_stdin()
    assert document.text == text
    assert document.raw("prevResult") == '{"x": ["日本"]}'


@pytest.mark.parametrize(
    "data", [b"\xff", b'{"a": "\xff"}', b'{"a": "\xc3"}', b'{"a": "\xed\xa0\x80"}', "{}".encode("utf-16")]
)
def test_stdin_that_is_not_utf8_is_refused(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(wire.posix, "read", Pipe(data).read)
    with refused(DECODING_FAILURE, "stdin is not UTF-8"):
        wire.read_stdin()


@pytest.mark.parametrize("surplus", [0, 1])
def test_stdin_has_a_largest_size(monkeypatch: pytest.MonkeyPatch, surplus: int) -> None:
    frame = len('{"a":""}')
    text = '{"a":"%s"}' % ("x" * (wire.MAX_STDIN_BYTES - frame + surplus))
    monkeypatch.setattr(wire.posix, "read", Pipe(text.encode(), chunk=1 << 20).read)
    if surplus:
        with refused(DECODING_FAILURE, "stdin is larger than 8 MiB"):
            wire.read_stdin()
    else:
        assert wire.read_stdin().text == text


def test_endless_stdin_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    def zeros(_: int, size: int) -> bytes:
        nonlocal read
        read += size
        assert read < 2 * wire.MAX_STDIN_BYTES
        return bytes(size)

    monkeypatch.setattr(wire.posix, "read", zeros)
    with refused(DECODING_FAILURE, "stdin is larger"):
        wire.read_stdin()


def test_answer_is_written_whole_even_if_stdout_takes_little_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = Pipe(chunk=5)
    monkeypatch.setattr(wire.posix, "write", pipe.write)
    wire.write_stdout("é" * 40 + "\n")
    assert pipe.data.decode() == "é" * 40 + "\n"


def test_value_of_a_key_that_is_not_there_is_asked_in_vain() -> None:
    with pytest.raises(KeyError):
        wire.decode('{"a": 1}').raw("b")


def test_nothing_is_read_from_where_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.posix, "read", lambda *_: b"")
    with refused(DECODING_FAILURE, "stdin", "ends too early"):
        wire.read_stdin()
