"""A node with a daemon, and what calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Node

from cni_macvlan_egress.admin import launcher
from cni_macvlan_egress.protocol.errors import CniError

from .running import MACHINE, Daemon, Warm, make_launcher


@pytest.fixture(scope="session", autouse=True)
def _native_launcher() -> None:
    try:
        launcher.native(MACHINE)
    except CniError as error:
        pytest.skip(f"needs a C compiler: {error.msg}")


@pytest.fixture
def make_daemon(node: Node, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons that share one directory; they end with the test."""
    made: list[Daemon] = []

    def make(*options: str, wrapper: tuple[str, ...] = ()) -> Daemon:
        made.append(Daemon(node, tmp_path / "daemon", *options, wrapper=wrapper))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    return make_daemon().start()


@pytest.fixture
def warm(node: Node, tmp_path: Path) -> Warm:
    """The launcher of a host without direct mode."""
    return Warm(node, make_launcher(tmp_path / "launcher", str(tmp_path / "daemon" / "daemon.sock")))
