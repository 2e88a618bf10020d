"""What the doctor finds of the clock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab.needed import REPOSITORY

from cni_macvlan_egress.admin.examination import clock

from .patient import Patient

YEAR_SECONDS = 365 * 86400


def test_kernel_is_asked_and_told_nothing() -> None:
    state, status, error_us = clock.read_kernel_clock()
    assert 0 <= state <= 5
    assert status >= 0
    assert error_us >= 0
    unsynchronised = bool(status & 0x40)
    assert (state == 5) >= unsynchronised  # adjtimex(2): TIME_ERROR comes with STA_UNSYNC


@pytest.mark.parametrize(("state", "status"), [(5, 0x40), (5, 0), (0, 0x40)])
def test_clock_that_nobody_keeps(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, state: int, status: int
) -> None:
    """The machine's clock is everybody's, so that only the kernel's word for it is changed."""
    monkeypatch.setattr(clock, "read_kernel_clock", lambda: (state, status, 16_000_000))
    found = patient.look(clock)
    found.shows(
        "clock-synchronised", "warning", f"state {state}, status {status:#x}, off by up to 16 s", "set-ntp"
    )


def test_clock_that_is_kept_is_well(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "read_kernel_clock", lambda: (0, 0x2001, 1500))
    assert patient.look(clock).ills() == set()


def test_clock_that_is_behind_the_program(tmp_path: Path) -> None:
    package = shutil.copytree(
        REPOSITORY / "cni_macvlan_egress",
        tmp_path / "cni_macvlan_egress",
        ignore=shutil.ignore_patterns("native"),
    )
    then = time.time() + YEAR_SECONDS
    os.utime(package / "__init__.py", (then, then))
    done = subprocess.run(
        [sys.executable, "-m", "cni_macvlan_egress", "doctor", "clock", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    (found,) = [one for one in json.loads(done.stdout)["findings"] if one["id"] == "clock-behind"]
    assert found["severity"] == "error"
    assert done.returncode == 2
    assert f"the program is of {time.strftime('%Y-%m-%d', time.gmtime(then))}" in found["evidence"]
