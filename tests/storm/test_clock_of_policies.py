"""The wall clock is set back while policies are followed: the table is looked at as often as before."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest
from lab import Node, within

from cni_macvlan_egress.attach import following
from cni_macvlan_egress.model.configuration import Configuration

DAY = 86400
LOOKS = 3


def test_table_is_looked_at_when_the_clock_has_been_set_back(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_VERIFY_SECONDS", 0.2)
    monkeypatch.setattr(following, "_POLL_SECONDS", 0.05)
    directory = tmp_path / "policies"
    directory.mkdir()
    conf = node.configuration(policy={"directory": str(directory)}, clusterNetworks=["10.244.0.0/16"])
    days, now = itertools.count(), time.time
    looked, enough, over = 0, threading.Event(), threading.Event()

    def tell(_: object) -> None:
        nonlocal looked
        looked += 1
        if looked == LOOKS:
            enough.set()

    def goes_on() -> bool:
        back = next(days) * DAY
        monkeypatch.setattr(time, "time", lambda: now() - back)
        return not over.is_set()

    follower = following.Follower(
        Configuration.of(conf), tell, lambda error: pytest.fail(str(error)), goes_on
    )
    thread = threading.Thread(target=lambda: within(node.path, follower.run), daemon=True)
    thread.start()
    try:
        assert enough.wait(30), f"looked {looked} times"
    finally:
        over.set()
        follower.wake()
        thread.join(30)
