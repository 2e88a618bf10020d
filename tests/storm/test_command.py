"""`bin/storm`: prints a schedule, and makes a long run as short as one likes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from lab.needed import REPOSITORY

from .arena import is_possible


def storm(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "storm", *words],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/tests"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _possible() -> None:
    if reason := is_possible():
        pytest.skip(reason)


def test_schedule_of_a_seed_is_always_the_same() -> None:
    words = ("warm", "--seed", "3", "--round", "2", "--pods", "30", "--plan")
    text = storm(*words)
    assert text.startswith("seed 3, round 2, theme ")
    assert text == storm(*words)


def test_long_run_ends_as_it_began() -> None:
    rows = [line.split("|")[1:-1] for line in storm("--long-run", "direct", "--cycles", "8").splitlines()]
    cells = {row[0].strip(): row for row in rows if row and row[0].strip().isdigit()}
    assert list(cells) == ["0", "4", "8"]
    for row in cells.values():
        assert row[4].strip() == "0", "a process is left"
        assert row[6].strip() == "as at first"
    assert cells["0"][5] == cells["8"][5], "files are left"


def test_wrong_word_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "storm", "cold"],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/tests"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "cold" in done.stderr
