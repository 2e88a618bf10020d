"""Small storms: after each round all is as the model says; `bin/storm` makes large ones (docs/storm.md)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .schedule import Theme, plan
from .storm import Storm

SEED = 8
# Each theme comes direct or warm: direct where an own process a call makes the difference, warm where calls are cheap.
DIRECT: tuple[Theme, ...] = ("kills", "clock", "read-only")
WARM: tuple[Theme, ...] = (
    "vanishing",
    "master-down",
    "master-gone",
    "master-renamed",
    "disk-full",
    "workers",
)


@pytest.mark.parametrize(
    ("way", "themes", "pods", "steps"), [("direct", DIRECT, 10, 6), ("warm", WARM, 24, 12)]
)
def test_storm_leaves_every_pod_as_the_model_says(
    make_storm: Callable[[str, int], Storm], way: str, themes: tuple[Theme, ...], pods: int, steps: int
) -> None:
    storm = make_storm(way, pods)
    for number in range(len(themes)):
        outcome = storm.run(plan(SEED, number, themes, pods=pods, workers=4, steps=steps))
        assert not outcome.faults, outcome.text()
