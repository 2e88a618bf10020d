"""The lines of destinations, without an annotation around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from cni_macvlan_egress.model.destinations import DestinationError, parse

from ..mutations import words
from ..target import Target
from . import terms

_DICTIONARY = (
    *terms.ADDRESSES,
    *terms.NAMES,
    "tcp",
    "udp",
    "sctp",
    "443",
    "8000-8010",
    "65535",
    "#",
    ",",
    "-",
)


def examine(data: bytes, _seen: Callable[[], list[str]]) -> None:
    try:
        found = parse(data.decode("utf-8", "replace"))
    except DestinationError as error:
        assert str(error).isprintable(), ascii(str(error))
        assert len(str(error)) < 1000, "the error is a novel"
        return
    assert found
    again = parse("\n".join(map(str, found)))
    assert [replace(one, line=0) for one in again] == [replace(one, line=0) for one in found]
    for one in found:
        assert bool(one.addresses) != bool(one.name), one
        assert len({address.version for address in one.addresses}) <= 1, one


def mutate(data: bytes, random: Random) -> bytes:
    text = data.decode("utf-8", "replace")
    if random.random() < 0.3:
        lines = text.split("\n")
        lines.insert(random.randint(0, len(lines)), terms.destination(random))
        text = "\n".join(lines)
    else:
        text = words.changed(text, random, _DICTIONARY)
    return text.encode("utf-8", "replace")


TARGET = Target("destinations", examine, mutate, most_bytes=8192)
