"""A call in which any system call that changes something fails: an error that says so, or success; never half of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .bench import ERRORS, Bench
from .choice import Choice
from .scenarios import SCENARIOS, Scenario

FEW = {"ADD": 10, "DEL": 4, "GC": 2}


@pytest.mark.parametrize("where", ["executable", "daemon"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_failing_system_call_leaves_nothing(
    make_bench: Callable[..., Bench], choice: Choice, scenario: Scenario, where: str
) -> None:
    bench = make_bench("failing", scenario, where)
    for verb in scenario.ways_out:
        for point, error in choice.pairs(bench.points(verb), ERRORS, FEW[verb]):
            bench.fail(verb, point, error)
    bench.check()
