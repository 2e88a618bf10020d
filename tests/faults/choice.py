"""Which system calls are hit: all, or a few."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

First = TypeVar("First")
Second = TypeVar("Second")


@dataclass(frozen=True)
class Choice:
    """What the command line asks for.

    Attributes:
        every_call: hit all system calls.
        every_way: each with every error, and with every way out after a kill; else these take turns.
        seed: which ones, if not all.
    """

    every_call: bool
    every_way: bool
    seed: int

    def pairs(self, points: Sequence[First], ways: Sequence[Second], few: int) -> list[tuple[First, Second]]:
        """System calls with what is done to them; spread evenly if they are a few."""
        chance = random.Random(self.seed)
        if self.every_call and self.every_way:
            return list(product(points, ways))
        count = len(points) if self.every_call else min(few, len(points))
        start, turn = chance.random(), chance.randrange(len(ways))
        chosen = [points[int((number + start) * len(points) / count)] for number in range(count)]
        return [(point, ways[(number + turn) % len(ways)]) for number, point in enumerate(chosen)]
