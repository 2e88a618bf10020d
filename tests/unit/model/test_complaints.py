"""How a value is shown in an error message."""

from __future__ import annotations

import pytest
from hypothesis import given

from cni_macvlan_egress.model.complaints import show

from .. import json_values


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("eth0", "'eth0'"),
        ("", "''"),
        ("é", "'é'"),
        ("a\nb", r"'a\nb'"),
        ("\ud800", r"'\ud800'"),
        ("\u202e", r"'\u202e'"),
        (5, "5"),
        (None, "None"),
        (["a"], "['a']"),
    ],
)
def test_value_is_quoted_without_control_characters(value: object, shown: str) -> None:
    assert show(value) == shown


def test_long_value_is_cut() -> None:
    assert show("x" * 1000) == "'" + "x" * 79 + "…"


@given(json_values.values)
def test_any_value_is_shown_on_one_short_printable_line(value: object) -> None:
    assert show(value).isprintable()
    assert len(show(value)) <= 81
