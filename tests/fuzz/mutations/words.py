"""Changes to text that is made of words and lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

_PARTS = re.compile(r"[A-Za-z]+|[0-9]+|\s+|[^\sA-Za-z0-9]")
_ODD = (
    "\0", "\t", "\r", "\n", "\x1b[31m", "\x7f", "\x85", "\u00a0", "\u2028", "\u200b", "\u0661", "\uff11", "\ufeff",
    "é", "ß",
    "\U0001f600", "%s", "{}", "${x}", "`", '"', "'", "\\", ";", "#", "..", "/", "*", "@", "-", "--", ",", ":", "::",
)  # fmt: skip
_NUMBERS = (
    "0", "1", "-1", "00", "08", "32", "33", "128", "129", "255", "256", "65535", "65536", "99999", "4294967296",
    "18446744073709551616", "1e9", "0x10", "9" * 30,
)  # fmt: skip


def changed(text: str, random: Random, dictionary: Sequence[str]) -> str:
    """One change: to a word, or to a line."""
    if random.random() < 0.3:
        return _lines_changed(text, random, dictionary)
    parts = _PARTS.findall(text)
    if not parts:
        return random.choice(dictionary)
    place = random.randrange(len(parts))
    match random.randrange(7):
        case 0:
            del parts[place]
        case 1:
            parts.insert(place, parts[place])
        case 2:
            other = random.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
        case 3:
            parts[place] = random.choice(dictionary)
        case 4:
            parts.insert(place, random.choice(dictionary))
        case 5:
            parts[place] = number(random) if parts[place].isdigit() else spoilt(parts[place], random)
        case _:
            parts.insert(place, random.choice(_ODD))
    return "".join(parts)


def spoilt(text: str, random: Random) -> str:
    """A word with something odd about it."""
    place = random.randint(0, len(text))
    match random.randrange(6):
        case 0:
            return text[:place] + random.choice(_ODD) + text[place:]
        case 1:
            return text[:place] + text[place + 1 :]
        case 2:
            return text.swapcase()
        case 3:
            return text * random.choice((2, 3, 20, 100))
        case 4:
            return text[:place]
        case _:
            return text[::-1]


def number(random: Random) -> str:
    """One at the edge of something."""
    return random.choice(_NUMBERS)


def _lines_changed(text: str, random: Random, dictionary: Sequence[str]) -> str:
    lines = text.split("\n")
    place = random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            del lines[place]
        case 1:
            lines.insert(random.randint(0, len(lines)), lines[place])
        case 2:
            other = random.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        case 3:
            lines.insert(place, " ".join(random.choice(dictionary) for _ in range(random.randint(1, 4))))
        case _:
            lines[place] = random.choice((" ", "  ", "\t", "- ")) + lines[place]
    return "\n".join(lines)
