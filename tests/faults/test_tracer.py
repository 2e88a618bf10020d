"""The tracer meets every system call that changes something, and hits the one that is aimed at."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from lab import Answer

from .aiming import Orders, Point, Run

PROGRAM = """
import os, subprocess, sys, threading
where = sys.argv[1]
os.mkdir(f"{where}/first")
thread = threading.Thread(target=lambda: os.mkdir(f"{where}/second"))
thread.start()
thread.join()
subprocess.run(["/bin/mkdir", f"{where}/third"])
try:
    os.rename(f"{where}/first", f"{where}/fourth")
except OSError as error:
    print(error.errno)
os.stat(where), open("/etc/hosts").read(), os.listdir(where)
"""


def run(directory: Path, point: Point | None = None, **deed: str) -> Run:
    scratch = directory / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    orders = Orders(directory)
    orders.give(point, **deed)
    argv = [*orders.wrapper, "/usr/bin/python3", "-IS", "-c", PROGRAM, str(scratch)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return orders.run(Answer(done.returncode, done.stdout, done.stderr))


def of_files(done: Run) -> list[Point]:
    return [one for one in done.points if one.name.split()[1] in ("mkdir", "rename")]


def made(directory: Path) -> list[str]:
    return sorted(os.listdir(directory / "scratch"))


def test_calls_of_all_threads_and_processes_are_met_in_order(tmp_path: Path) -> None:
    done = run(tmp_path)
    names = [one.name.replace("scratch/", "") for one in of_files(done)]
    assert names == [
        "python3: mkdir first", "python3: mkdir second", "mkdir: mkdir third", "python3: rename first fourth"
    ]  # fmt: skip
    assert not any("hosts" in one.name or "stat" in one.name for one in done.points)


@pytest.mark.parametrize("number", range(4))
def test_process_dies_before_the_call_is_carried_out(tmp_path: Path, number: int) -> None:
    point = of_files(run(tmp_path))[number]
    done = run(tmp_path, point, victim="all")
    assert done.hit
    assert done.answer.status != 0
    assert made(tmp_path) == sorted(["first", "second", "third"][:number])


def test_call_fails_and_is_not_carried_out(tmp_path: Path) -> None:
    point = of_files(run(tmp_path))[-1]
    done = run(tmp_path, point, error="ENOSPC")
    assert done.hit
    assert (done.answer.status, done.answer.stdout) == (0, "28\n")
    assert made(tmp_path) == ["first", "second", "third"]


def test_point_that_is_never_met_is_said_to_be_so(tmp_path: Path) -> None:
    assert not run(tmp_path, Point("python3: mkdir nowhere", 1), error="EIO").hit
