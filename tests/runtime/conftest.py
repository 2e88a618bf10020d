"""Fixtures of the runtime tests: real container runtimes on the lab's node."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import shipped
from lab import Lab

if TYPE_CHECKING:
    from containerd import Containerd
    from podman import Podman


@pytest.fixture
def containerd(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Containerd]:
    """A containerd on the lab's node; its network is the file of conf/ that a test names, or that after bridge."""
    _need(containerd="containerd", runc="runc", busybox="busybox-static", iptables="iptables")
    from containerd import Containerd

    daemon = Containerd(lab, getattr(request, "param", shipped.BRIDGE))
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture
def podman(lab: Lab) -> Iterator[Podman]:
    """A podman on the lab's node, no network defined yet."""
    _need(podman="podman", conmon="conmon", runc="runc", busybox="busybox-static")
    from podman import Podman

    engine = Podman(lab)
    try:
        yield engine
    finally:
        engine.close()


def _need(**packages: str) -> None:
    """Skip the test unless each program is there; its Debian package is named."""
    for program, package in packages.items():
        if not shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            pytest.skip(f"needs {program}: install the Debian package {package}")
