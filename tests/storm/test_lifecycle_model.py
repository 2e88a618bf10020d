"""Any order of calls and mishaps: the plugin answers what the model of an attachment's life says."""

from __future__ import annotations

from pathlib import Path

from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from lab import Lab

from . import arena
from .conftest import needs_a_launcher

# The same examples in every run, and no search for a shorter one that fails: `bin/storm --model` does both.
CI = settings(
    arena.PATIENT, max_examples=12, stateful_step_count=20, derandomize=True, phases=[Phase.generate]
)


def test_lifecycle_is_as_the_model_says(lab: Lab, tmp_path: Path) -> None:
    needs_a_launcher()
    with arena.lifecycle(lab, tmp_path) as machine:
        run_state_machine_as_test(machine, settings=CI)
