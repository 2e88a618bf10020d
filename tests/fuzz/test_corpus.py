"""Every input that is kept, and some changes to each, break no property; what was found once does not come back."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .target import CORPUS, NAMES, load

REPOSITORY = Path(__file__).resolve().parents[2]
# So many changed inputs take about two seconds each; 0 for another choice every time.
MUTATIONS = {"policies": 500, "state": 300, "dns": 900, "api_policies": 1000, "api_watch": 700}
OTHERS = 1500
SEED = int(os.environ.get("MACVLAN_EGRESS_FUZZ_SEED", "1"))
ALARM_SECONDS = 300
FILES_MAX, BYTES_MAX = 600, 1 << 20

needs_a_witness = pytest.mark.skipif(
    os.geteuid() != 0 or platform.machine() != "x86_64", reason="needs root, and seccomp's numbers of x86-64"
)


def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
    """python -m fuzz, which takes its process to where inputs are looked at."""
    places = os.pathsep.join((str(REPOSITORY / "tests"), str(REPOSITORY)))
    return subprocess.run(
        [sys.executable, "-m", "fuzz", *words],
        env={**os.environ, "PYTHONPATH": places}, cwd=REPOSITORY, capture_output=True, text=True, check=False,
        timeout=ALARM_SECONDS,
    )  # fmt: skip


@needs_a_witness
@pytest.mark.parametrize("name", NAMES)
def test_no_input_breaks_a_property(name: str) -> None:
    done = fuzz("replay", name, "--mutations", str(MUTATIONS.get(name, OTHERS)), "--seed", str(SEED))
    assert done.returncode == 0, done.stderr
    inputs = int(re.search(r"(\d+) inputs", done.stdout)[1])  # type: ignore[index]
    assert inputs == len(load(name).corpus()) + MUTATIONS.get(name, OTHERS)


def test_corpus_is_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(NAMES)
    assert len(files) < FILES_MAX
    assert sum(path.stat().st_size for path in files) < BYTES_MAX


@pytest.mark.parametrize("name", NAMES)
def test_changes_are_the_same_for_the_same_seed(name: str) -> None:
    from random import Random

    target = load(name)
    data = target.corpus()[0].read_bytes()
    made = [target.mutated(data, Random(seed)) for seed in (*range(20), *range(20))]
    assert made[:20] == made[20:]
    assert len(set(made)) > 5
