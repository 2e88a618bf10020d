"""Everything that a storm needs, made and taken away again: direct with the executable, warm with a daemon."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.running import Daemon, Warm, eventually, make_launcher
from hypothesis import HealthCheck, settings
from lab import Lab
from lab.needed import DEBIAN_PLUGINS, made_bin_dir

from .lifecycle import Lifecycle, Scene
from .stage import Caller, Stage
from .storm import Storm
from .weather import Weather, kill, small_disk

_PODS_A_MEGABYTE = 20
# Calls take as long as they take, and a failure is not kept: its seed is printed.
PATIENT = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))


@contextmanager
def made_lab(directory: Path) -> Iterator[Lab]:
    """A lab of its own, for the command."""
    (directory / "bin").mkdir()

    def make(name: str) -> str:
        path = directory / name
        path.mkdir()
        return str(path)

    lab = Lab(made_bin_dir(directory / "bin"), make)
    try:
        yield lab
    finally:
        lab.close()


@contextmanager
def direct_storm(lab: Lab, pods: int) -> Iterator[Storm]:
    """A storm of processes that do the work themselves."""
    stage = Stage(lab, pods, f"{lab.bin_dir}/macvlan-egress")
    with small_disk(lab.node.state_dir, _megabytes(pods)):
        yield Storm(stage, Weather(lab))


@contextmanager
def warm_storm(lab: Lab, pods: int, directory: Path) -> Iterator[Storm]:
    """A storm of launchers that call a daemon.

    Args:
        directory: for its socket and the launcher.
    """
    program = make_launcher(directory / "launcher", str(directory / "daemon" / "daemon.sock"), deadline=80)
    stage = Stage(lab, pods, program)
    with small_disk(lab.node.state_dir, _megabytes(pods)):
        daemon = Daemon(lab.node, directory / "daemon", "--announce-every", "0")
        try:
            daemon.start()

            def kill_worker() -> None:
                victim = daemon.workers()[0]
                kill(victim)
                eventually(lambda: victim not in daemon.workers() and daemon.settled(), "no new worker", 60)

            def resident() -> list[int]:
                return [*daemon.processes(), daemon.caretaker()]

            def is_idle() -> bool:
                return daemon.metric("calls_in_progress") == 0

            yield Storm(stage, Weather(lab, kill_worker), resident, is_idle)
        finally:
            daemon.close()


@contextmanager
def lifecycle(lab: Lab, directory: Path) -> Iterator[Callable[[], Lifecycle]]:
    """What makes the machine that tries the model: warm, but for the calls that are killed."""
    program = make_launcher(directory / "launcher", str(directory / "daemon" / "daemon.sock"), deadline=80)
    daemon = Daemon(lab.node, directory / "daemon", "--announce-every", "0")
    try:
        daemon.start()
        warm = Warm(lab.node, program)
        scene = Scene(lab.node, warm.send, Caller(lab.node, f"{lab.bin_dir}/macvlan-egress"))
        yield lambda: Lifecycle(scene)
    finally:
        daemon.close()


def _megabytes(pods: int) -> int:
    return 1 + -(-pods // _PODS_A_MEGABYTE)


def is_possible() -> str:
    """Why no storm can be made here; empty if it can."""
    if os.geteuid() != 0:
        return "needs root: it makes network namespaces"
    if not DEBIAN_PLUGINS.is_dir():
        return f"needs the package containernetworking-plugins: {DEBIAN_PLUGINS} is missing"
    return ""
