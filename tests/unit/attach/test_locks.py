"""Locks between processes: one at a time, and never held by the dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cni_macvlan_egress.attach import locks
from cni_macvlan_egress.protocol.errors import IO_FAILURE, TRY_AGAIN_LATER

from ..refusals import refused

KEY = "c1@eth0"
HOLDER = """
import sys
from cni_macvlan_egress.attach import locks

with locks.attachment(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    return f"{tmp_path}/run"


def attempt(run_dir: str, key: str = KEY) -> None:
    with locks.attachment(run_dir, key, wait_seconds=0):
        pass


def test_second_of_the_same_attachment_is_told_to_try_later(run_dir: str) -> None:
    with locks.attachment(run_dir, KEY), refused(TRY_AGAIN_LATER, KEY, "try again later"):
        attempt(run_dir)
    attempt(run_dir)


def test_lock_is_free_after_an_error(run_dir: str) -> None:
    with pytest.raises(ZeroDivisionError), locks.attachment(run_dir, KEY):
        _ = 1 / 0
    attempt(run_dir)


def test_lock_of_another_process_counts_until_that_is_killed(run_dir: str) -> None:
    arguments = [sys.executable, "-c", HOLDER, run_dir, KEY]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with refused(TRY_AGAIN_LATER, KEY):
            attempt(run_dir)
        holder.kill()
        holder.wait()
        attempt(run_dir)


def test_most_attachments_do_not_wait_for_each_other(run_dir: str) -> None:
    keys = [f"c{number}@eth0" for number in range(40)]
    with locks.attachment(run_dir, KEY):
        free = 0
        for key in keys:
            try:
                attempt(run_dir, key)
            except Exception:  # noqa: S112
                continue
            free += 1
    assert free > len(keys) * 3 // 4


def test_register_and_attachment_can_be_locked_together(run_dir: str) -> None:
    with locks.attachment(run_dir, KEY), locks.addresses(run_dir):
        pass


def test_files_of_the_locks_are_a_fixed_few(run_dir: str) -> None:
    for number in range(500):
        attempt(run_dir, f"c{number}@eth0")
    assert len(list(Path(run_dir).iterdir())) <= 64


def test_link_laid_in_the_way_is_not_followed(run_dir: str, tmp_path: Path) -> None:
    attempt(run_dir)
    (lock,) = Path(run_dir).iterdir()
    lock.unlink()
    lock.symlink_to(tmp_path / "victim")
    with refused(IO_FAILURE, str(lock)):
        attempt(run_dir)
    assert not (tmp_path / "victim").exists()
