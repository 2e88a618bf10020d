"""The machine's neighbour tables, kept full by a namespace that hears of new neighbours all the time.

The tables and their limits (gc_thresh1 to 3) are one for all namespaces. An entry that has changed within five seconds
is not given up for another (neigh_forced_gc() in net/core/neighbour.c), so that a LAN that is scanned crowds out all
others.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import Namespace

LIMIT = 64
_REFRESH_SECONDS = 1.0
_FULL_SECONDS = 60.0
_PREFIXES = {4: "10.99.0.", 6: "fd00:99::"}


@contextmanager
def crowded(stranger: Namespace) -> Iterator[None]:
    """Both tables are full, until the end; entries of others that are in use stay."""
    before = {path: path.read_text() for family in (4, 6) for path in _limits(family)}
    stop, full = threading.Event(), threading.Event()
    thread = threading.Thread(target=_crowd, args=(stranger, stop, full), daemon=True)
    try:
        for path in before:
            path.write_text(str(LIMIT))
        thread.start()
        assert full.wait(_FULL_SECONDS), "the tables do not fill"
        yield
    finally:
        stop.set()
        thread.join()
        for path, limit in before.items():
            path.write_text(limit)
        stranger.ip("-4 neighbour flush dev eth0", "-6 neighbour flush dev eth0")


def refuses(namespace: Namespace, address: str) -> bool:
    """Whether there is no room for an entry."""
    done = _batch(namespace, [_entry(address, 0)])
    return "No buffer space available" in done.stderr


def _crowd(stranger: Namespace, stop: threading.Event, full: threading.Event) -> None:
    turn = 0
    while not stop.wait(_REFRESH_SECONDS if turn else 0):
        turn += 1
        # Another address each time: an entry that is told what it knows has not changed.
        done = [
            _batch(stranger, [_entry(f"{prefix}{number}", turn) for number in range(1, 2 * LIMIT)])
            for prefix in _PREFIXES.values()
        ]
        if all("No buffer space available" in one.stderr for one in done):
            full.set()


def _entry(address: str, turn: int) -> str:
    return f"neighbour replace {address} lladdr 02:00:00:00:00:{turn % 250:02x} nud reachable dev eth0"


def _batch(namespace: Namespace, commands: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "-n", namespace.name, "-force", "-batch", "-"],
        input="\n".join(commands) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )


def _limits(family: int) -> list[Path]:
    directory = Path(f"/proc/sys/net/ipv{family}/neigh/default")
    return [directory / f"gc_thresh{number}" for number in (1, 2, 3)]
