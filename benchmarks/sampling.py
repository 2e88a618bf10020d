"""Samples taken in turns, and what is said about them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .process import Sample


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that is measured once a turn.

    Attributes:
        name: its row; contenders of one name share a row.
        take: does it once.
    """

    name: str
    take: Callable[[], Sample]


@dataclass(slots=True)
class Series:
    """All the samples of one row."""

    samples: list[Sample] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of the time by the clock, in milliseconds."""
        return statistics.median(sample.wall for sample in self.samples)

    @property
    def p99(self) -> float:
        """The time that 99 of 100 samples do not exceed (nearest rank; the longest if there are fewer)."""
        walls = sorted(sample.wall for sample in self.samples)
        return walls[math.ceil(0.99 * len(walls)) - 1]

    @property
    def cpu(self) -> float:
        """The median of the processor time, in milliseconds."""
        return statistics.median(sample.cpu for sample in self.samples)


def interleave(contenders: Sequence[Contender], rounds: int, check: Callable[[], None]) -> dict[str, Series]:
    """Take a sample of each in turn, round after round; a first round warms caches up and does not count.

    Args:
        check: called between samples; raises to stop.
    """
    found = {contender.name: Series() for contender in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            check()
            sample = contender.take()
            if number:
                found[contender.name].samples.append(sample)
    return found
