"""All of a corpus, and some changes to each of its inputs: quick, and always the same for the same seed."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from random import Random

from .examiner import Examiner
from .target import Target


@dataclass(frozen=True)
class Played:
    """What came of it.

    Attributes:
        inputs: how many were looked at.
        seconds: of CPU time.
        megabytes: the process at its largest.
    """

    inputs: int
    seconds: float
    megabytes: int


class Finding(Exception):
    """An input that breaks a property.

    Attributes:
        data: the input.
    """

    def __init__(self, data: bytes, origin: str) -> None:
        super().__init__(f"{origin}: {data[:300]!r}")
        self.data = data


def play(target: Target, mutations: int, seed: int) -> Played:
    """Look at every input of the corpus, and at so many others.

    Raises:
        Finding: with the reason as its cause.
    """
    random = Random(f"{target.name} {seed}")
    kept = [(path.name, path.read_bytes()) for path in target.corpus()]
    examiner = Examiner(target)
    began = time.process_time()
    for name, data in kept:
        _examine(examiner, data, name)
    for number in range(mutations):
        name, data = random.choice(kept)
        for _ in range(random.choice((1, 1, 2, 4))):
            data = target.mutated(data, random)
        _examine(examiner, data, f"mutation {number} of {name} with seed {seed}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return Played(len(kept) + mutations, time.process_time() - began, peak)


def _examine(examiner: Examiner, data: bytes, origin: str) -> None:
    try:
        examiner.examine(data)
    except BaseException as error:
        raise Finding(data, origin) from error
