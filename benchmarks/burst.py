"""Many processes at once, timed from the start of the first to the end of the last."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .process import Program, Sample


def at_once(programs: Sequence[Program], served: Callable[[], float] | None = None) -> Sample:
    """Start all, one as soon as the other, and wait for all.

    Args:
        served: processor time until now, in milliseconds, of whoever works for them in another process.

    Raises:
        BenchmarkError: one of them failed.
    """
    before = served() if served else 0.0
    began = time.perf_counter_ns()
    running = [program.start() for program in programs]
    samples = [one.finish()[0] for one in running]
    wall = (time.perf_counter_ns() - began) / 1e6
    return Sample(wall, sum(sample.cpu for sample in samples) + (served() - before if served else 0.0))
