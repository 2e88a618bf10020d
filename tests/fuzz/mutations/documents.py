"""Changes to what a JSON text says: to its values, keys and shape, in words that the reader knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any

from . import octets, words

Maker = Callable[[Random], object]
_NUMBERS: tuple[object, ...] = (
    0, 1, -1, 2, 15, 16, 67, 68, 1500, 65535, 65536, 2**31, 2**32, 2**63, 2**64, 10**18, 10**30, 0.5, 1e308, -0.0,
    5e-324,
)  # fmt: skip
_PLAIN: tuple[object, ...] = (None, True, False, "", [], {}, [None], {"": None}, "\ud800", "\udcff", "\0")


@dataclass(frozen=True)
class Vocabulary:
    """What the documents of one kind are made of.

    Attributes:
        keys: names that mean something somewhere.
        values: things that mean something somewhere.
        makers: by key, what makes a likely value for it.
    """

    keys: Sequence[str]
    values: Sequence[object] = ()
    makers: Mapping[str, Maker] = field(default_factory=dict)

    def value(self, key: object, random: Random) -> object:
        """One that may stand under a key."""
        if key in self.makers and random.random() < 0.7:
            return self.makers[str(key)](random)
        return deepcopy(random.choice(random.choice((self.values or _PLAIN, _PLAIN, _NUMBERS))))


def choice(*values: object) -> Maker:
    """A maker that takes one of some values; one that is a maker itself makes it."""

    def make(random: Random) -> object:
        found = random.choice(values)
        return found(random) if callable(found) else deepcopy(found)

    return make


def listed(maker: Maker, most: int = 3) -> Maker:
    """A maker of lists."""
    return lambda random: [maker(random) for _ in range(random.randint(0, most))]


def changed_text(text: str, random: Random, vocabulary: Vocabulary, times: int = 3) -> str:
    """A JSON text that says something else; now and then one that is no JSON any more."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return _garbled(text, random)
    for _ in range(random.randint(1, times)):
        document = changed(document, random, vocabulary)
    try:
        made = json.dumps(document, ensure_ascii=random.random() < 0.5, indent=random.choice((None, None, 1)))
    except RecursionError:
        return text
    return _garbled(made, random) if random.random() < 0.06 else made


def changed_file(data: bytes, random: Random, vocabulary: Vocabulary, dictionary: Sequence[str]) -> bytes:
    """A file that is read as YAML: if it is JSON it says something else, if not it has other words or lines."""
    text = data.decode("utf-8", "replace")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return words.changed(text, random, dictionary).encode("utf-8", "replace")
    return changed_text(text, random, vocabulary).encode("utf-8", "surrogatepass")


def changed(document: Any, random: Random, vocabulary: Vocabulary) -> Any:
    """The document with one change; it may be changed in place."""
    slots = list(_slots(document))
    if not slots or random.random() < 0.01:
        return vocabulary.value(None, random)
    holder, key = random.choice(slots)
    old = holder[key]
    match random.randrange(10):
        case 0 | 1 | 2:
            holder[key] = vocabulary.value(key, random)
        case 3:
            del holder[key]
        case 4 | 5:
            _grow(old if isinstance(old, dict | list) else holder, random, vocabulary)
        case 6:
            other, place = random.choice(slots)
            holder[key] = deepcopy(other[place])
        case 7:
            holder[key] = random.choice(([old], {random.choice(vocabulary.keys): old}, [old, deepcopy(old)]))
        case _:
            holder[key] = _touched(old, key, random, vocabulary)
    return document


def _slots(document: Any) -> Any:
    """Every place in a document where a value stands."""
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            for key in holder if isinstance(holder, dict) else range(len(holder)):
                yield holder, key
                waiting.append(holder[key])


def _grow(holder: Any, random: Random, vocabulary: Vocabulary) -> None:
    if isinstance(holder, dict):
        key = random.choice(vocabulary.keys)
        if random.random() < 0.1:
            key = words.spoilt(key, random)
        holder[key] = vocabulary.value(key, random)
    elif holder and random.random() < 0.7:
        holder += [deepcopy(random.choice(holder)) for _ in range(random.choice((1, 1, 2, 40)))]
    else:
        holder.append(vocabulary.value(None, random))


def _touched(value: Any, key: object, random: Random, vocabulary: Vocabulary) -> object:
    """Nearly the same value."""
    if isinstance(value, str):
        dictionary = [one for one in (*vocabulary.values, *vocabulary.keys) if isinstance(one, str)]
        return words.changed(value, random, dictionary)
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return random.choice(
            (value + 1, -value, value * 2, str(value), float(value) if abs(value) < 2**60 else 0.5)
        )
    return vocabulary.value(key, random)


def _garbled(text: str, random: Random) -> str:
    match random.randrange(6):
        case 0:
            return text.replace(":", random.choice((": NaN,", ": -Infinity ,", ":1" + "0" * 400 + ",")), 1)
        case 1:
            return text.replace("{", '{"a": 1, "a": 2, ', 1)
        case 2:
            depth = random.choice((50, 500, 3000))
            return text.replace(":", ":" + random.choice(("[", '{"":')) * depth, 1)
        case 3:
            return text + random.choice(("", " ", "x", "{}", "\0", "\ufeff"))
        case 4:
            return text.replace("1", "9" * random.choice((19, 4301)), 1)
        case _:
            return octets.changed(text.encode("utf-8", "surrogatepass"), random).decode("utf-8", "replace")
