"""A call that is killed at any system call that changes something: whatever way out of it, nothing is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .bench import Bench
from .choice import Choice
from .scenarios import SCENARIOS, Scenario

FEW = {"ADD": 6, "DEL": 3, "GC": 2}


@pytest.mark.parametrize("where", ["executable", "daemon"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_killed_call_leaves_nothing(
    make_bench: Callable[..., Bench], choice: Choice, scenario: Scenario, where: str
) -> None:
    bench = make_bench("killed", scenario, where)
    for verb, ways in scenario.ways_out.items():
        for point, way in choice.pairs(bench.points(verb), ways, FEW[verb]):
            bench.kill(verb, point, "all" if point.by_ipam else "process", way)
            if point.by_ipam and (way == ways[0] or not choice.every_way):
                bench.kill_ipam(verb, point)
    bench.check()
