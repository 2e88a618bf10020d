"""A FIFO in place of a state file keeps nobody waiting: opening one waits for whoever writes to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_macvlan_egress.attach.policy_state import PolicyState
from cni_macvlan_egress.attach.roster import Roster
from cni_macvlan_egress.protocol.errors import CniError
from cni_macvlan_egress.sources import resolver

PATIENCE_SECONDS = 10


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """A blocked open() is interrupted, and the test fails."""

    def too_late(*_: object) -> None:
        pytest.fail("still waiting")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(PATIENCE_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def load_state(run_dir: str) -> None:
    assert PolicyState(run_dir).load() is None


def load_names(run_dir: str) -> None:
    assert resolver.load(PolicyState(run_dir).names_path) == {}


def load_compiled(run_dir: str) -> None:
    with pytest.raises(CniError, match="policy sync"):
        PolicyState(run_dir).load_compiled("shop")


def save_index(run_dir: str) -> None:
    PolicyState(run_dir).save_index("/policies.d", "1", ["shop"])
    assert Path(run_dir, "policy/index").read_text() == "/policies.d 1\nshop\n"


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("state.json", load_state),
        ("names.json", load_names),
        ("compiled/shop.json", load_compiled),
        ("index", save_index),
    ],
)
def test_policy_state_does_not_wait(tmp_path: Path, name: str, use: Callable[[str], None]) -> None:
    path = tmp_path / "policy" / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    use(str(tmp_path))


def test_roster_does_not_wait(tmp_path: Path) -> None:
    (tmp_path / "attachments").mkdir()
    os.mkfifo(tmp_path / "attachments/c1@eth0.json")
    roster = Roster(str(tmp_path))
    roster.scan()
    assert roster.attachments == {}
