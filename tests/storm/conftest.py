"""A storm on the test's own lab, direct or warm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from daemon.running import MACHINE
from lab import Lab

from cni_macvlan_egress.admin import launcher
from cni_macvlan_egress.protocol.errors import CniError

from . import arena
from .storm import Storm


@pytest.fixture
def make_storm(lab: Lab, tmp_path: Path) -> Iterator[Callable[[str, int], Storm]]:
    """Makes a storm `direct` or `warm` with a number of pods; it ends with the test."""
    with ExitStack() as stack:

        def make(way: str, pods: int) -> Storm:
            made: AbstractContextManager[Storm]
            if way == "direct":
                made = arena.direct_storm(lab, pods)
            else:
                needs_a_launcher()
                made = arena.warm_storm(lab, pods, tmp_path)
            return stack.enter_context(made)

        yield make


def needs_a_launcher() -> None:
    """Skip the test where no native launcher can be built."""
    try:
        launcher.native(MACHINE)
    except CniError as error:
        pytest.skip(f"needs a C compiler: {error.msg}")
