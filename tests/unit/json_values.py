"""Strategies for JSON: what a runtime, an admin or somebody hostile may put on stdin."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

# A JSON string may hold what no UTF-8 text can: "\ud800" is an escape like any other.
_nasty = st.sampled_from('\ud800\udcff\0\n\x7f\u00a0\u2028\ufeff"\\/;=%')
any_text = st.text(st.characters(exclude_categories=()) | _nasty, max_size=12)
numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | any_text
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
objects: st.SearchStrategy[dict[str, Any]] = st.dictionaries(any_text, values, max_size=4)
