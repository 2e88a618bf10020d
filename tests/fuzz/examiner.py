"""Hands inputs to a target, within limits and under the eyes of the witness."""

from __future__ import annotations

from . import enclosure, limits
from .target import Target
from .witness import Witness


class Examiner:
    """Takes this process to where inputs are looked at; for good, so that it is to be a process of its own."""

    def __init__(self, target: Target, cpu_seconds: float = limits.CPU_SECONDS) -> None:
        self._target = target
        self._cpu_seconds = cpu_seconds
        enclosure.enter()
        self._witness = Witness()
        limits.settle()

    def examine(self, data: bytes) -> None:
        """Look at one input.

        Raises:
            BaseException: whatever it led to, which is a finding.
        """
        with limits.within_limits(len(data), self._cpu_seconds), self._witness.watching() as seen:
            self._target.examine(data, self._witness.seen)
        if not self._target.writes:
            assert not seen, seen
        elif any(line.startswith("inside") for line in seen):
            enclosure.tidy()
