"""The error codes: one row in the table for each, and one exception that carries them."""

from __future__ import annotations

import pytest

from cni_macvlan_egress.protocol import errors
from cni_macvlan_egress.protocol.errors import TABLE, CniError

CODES = {name: value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
# SPEC.md 1.1.0, "Error", and types.ErrInvalidNetNS of the reference library
FROM_THE_SPECIFICATION = {1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51}


def test_every_code_has_one_row_and_every_row_a_code() -> None:
    assert CODES
    assert sorted(CODES.values()) == sorted(TABLE)


@pytest.mark.parametrize("code", TABLE)
def test_code_is_the_specifications_or_one_left_to_plugins(code: int) -> None:
    assert code in FROM_THE_SPECIFICATION or 100 <= code <= 199


@pytest.mark.parametrize(("code", "row"), TABLE.items())
def test_row_says_name_cause_and_cure_in_sentences(code: int, row: tuple[str, str, str]) -> None:
    name, cause, cure = row
    assert name
    assert not name.endswith(".")
    for text in (cause, cure):
        assert text.endswith(".")
        assert "\n" not in text


def test_names_are_told_apart() -> None:
    assert len({name for name, _, _ in TABLE.values()}) == len(TABLE)


@pytest.mark.parametrize(("details", "text"), [("", "what"), ("more", "what (more)")])
def test_exception_carries_code_message_and_details(details: str, text: str) -> None:
    error = CniError(errors.DRIFT, "what", details)
    assert (error.code, error.msg, error.details, str(error)) == (errors.DRIFT, "what", details, text)
