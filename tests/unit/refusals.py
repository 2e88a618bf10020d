"""How a test says that something is refused, and with which words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cni_macvlan_egress.protocol.errors import CniError


@contextmanager
def refused(code: int, *words: str) -> Iterator[None]:
    """The block has to end with a CniError of a code, whose text holds all the words."""
    with pytest.raises(CniError) as caught:
        yield
    text = str(caught.value)
    assert caught.value.code == code, text
    for word in words:
        assert word in text, text
    assert "\n" not in caught.value.msg
