"""`install --watch`: the entry is put back when the main CNI writes its file anew, and nobody is fought."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from policy.commands import Output

from cni_macvlan_egress.admin import conflist_events, conflist_file, conflist_watcher
from cni_macvlan_egress.admin.conflist_installation import Installation
from cni_macvlan_egress.admin.conflist_watcher import Event, follow
from cni_macvlan_egress.model.conflist_patience import Patience

from .installing import CHAIN, SECONDS, TYPE, Directory

LONE = '{"cniVersion": "0.4.0", "name": "pods", "type": "bridge"}\n'
ENTRY = {"type": TYPE, "allow": [{"namespaces": ["egress"]}]}
# A main CNI that cannot stand to see its file changed, as a process of its own: writes it in place.
STUBBORN = """
import sys, time
path, text = sys.argv[1:]
print("up", flush=True)
while True:
    with open(path) as file:
        changed = file.read() != text
    if changed:
        with open(path, "w") as file:
            file.write(text)
    time.sleep(0.005)
"""


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def installed(directory: Directory, name: str) -> bool:
    try:
        return directory.types(name)[-1] == TYPE
    except (FileNotFoundError, ValueError, KeyError):
        return False


# -- as a process


@contextmanager
def watching(directory: Directory, *options: str) -> Iterator[Output]:
    """`install --watch` while the block runs; it has to end well when it is asked to."""
    process = directory.start("install", "--watch", *options)
    assert process.stdout is not None
    output = Output(process.stdout)
    try:
        yield output
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        output.close()
    assert "Traceback" not in output.text
    assert output.text.endswith("stopped; the entry stays\n")


def test_entry_is_put_back_when_the_main_cni_writes_its_file_anew(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("10-a.conflist", CHAIN)
    with watching(directory, "--namespaces", "egress") as output:
        output.expect("installed", "10-a.conflist")
        directory.put("10-a.conflist", CHAIN.replace("pods", "new"))
        output.expect("restored", "10-a.conflist")
        assert json.loads(directory.text("10-a.conflist"))["name"] == "new"
        assert directory.types("10-a.conflist") == ["calico", TYPE]
    assert installed(directory, "10-a.conflist")
    directory.uninstall()
    assert directory.text("10-a.conflist") == CHAIN.replace("pods", "new")


def test_started_before_the_main_cni_it_waits(node_directory: Directory) -> None:
    directory = node_directory
    directory.cni.rmdir()
    with watching(directory, "--namespaces", "egress") as output:
        output.expect("waiting")
        directory.cni.mkdir()
        (directory.cni / "10-a.conflist").write_text(CHAIN[:20])  # and it takes its time to write it
        output.expect("failed", "not JSON")
        (directory.cni / "10-a.conflist").write_text(CHAIN)
        output.expect("installed")
        assert installed(directory, "10-a.conflist")


def test_entry_follows_a_main_cni_that_takes_another_file(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("20-a.conflist", CHAIN)
    with watching(directory, "--namespaces", "egress") as output:
        output.expect("installed", "20-a.conflist")
        directory.put("10-b.conf", LONE)
        output.expect("10-b+macvlan-egress.conflist", "20-a.conflist")
        assert directory.text("20-a.conflist") == CHAIN
        directory.put("10-b.conf", LONE.replace("bridge", "ptp"))
        output.expect("restored", "10-b+macvlan-egress.conflist")
        assert directory.types("10-b+macvlan-egress.conflist") == ["ptp", TYPE]
        (directory.cni / "10-b.conf").unlink()
        output.expect("restored", "20-a.conflist")
    assert directory.names() == ["20-a.conflist"]
    assert directory.entry("20-a.conflist")["allow"] == [{"namespaces": ["egress"]}]


def test_uninstall_is_not_undone(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("10-a.conflist", CHAIN)
    with watching(directory, "--namespaces", "egress") as output:
        output.expect("installed")
        directory.uninstall()
        output.expect("withdrawn")
        assert directory.text("10-a.conflist") == CHAIN
        directory.install("--namespaces", "again")
        output.expect("present")
        directory.put("10-a.conflist", CHAIN)
        output.expect("restored")
        assert directory.entry("10-a.conflist")["allow"] == [{"namespaces": ["again"]}]


def test_bad_options_end_it_at_once(node_directory: Directory) -> None:
    node_directory.put("10-a.conflist", CHAIN)
    status, output = node_directory.execute(
        "install", "--watch", "--namespaces", "egress", "--set", 'mod="x"'
    )
    assert status == 1
    assert "'mode'" in output


def test_it_does_nothing_while_nothing_happens(node_directory: Directory) -> None:
    directory = node_directory
    directory.put("10-a.conflist", CHAIN)
    process = directory.start("install", "--watch", "--namespaces", "egress")
    try:
        eventually(lambda: installed(directory, "10-a.conflist"))
        eventually(lambda: state_of(process.pid) == "S")
        time.sleep(0.2)  # its own write wakes it once more
        before = switches(process.pid)
        time.sleep(0.4)
        assert switches(process.pid) == before
    finally:
        process.kill()
        process.communicate()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def switches(pid: int) -> str:
    """How often a process has gone to sleep: a number that grows with each time it wakes."""
    lines = Path(f"/proc/{pid}/status").read_text().split("\n")
    return next(line for line in lines if line.startswith("voluntary_ctxt_switches"))


# -- in this process, as the daemon does it


class Watch:
    """follow() in a thread, and what it has told."""

    def __init__(self, directory: Directory, patience: Patience | None = None) -> None:
        self.events: list[Event] = []
        installation = Installation(str(directory.cni), None, str(directory.state))
        reader, self._writer = os.pipe()

        def run() -> None:
            try:
                follow(installation, lambda present: present or ENTRY, reader, self.events.append, patience)
            finally:
                os.close(reader)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def stop(self) -> None:
        """By closing the other end, as a process that dies does."""
        if self._thread.is_alive():
            os.close(self._writer)
            self._thread.join(SECONDS)
            assert not self._thread.is_alive()


@pytest.fixture
def watch(directory: Directory) -> Iterator[Callable[..., Watch]]:
    started: list[Watch] = []

    def start(patience: Patience | None = None) -> Watch:
        started.append(Watch(directory, patience))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@contextmanager
def stubborn(path: Path, text: str) -> Iterator[int]:
    """A main CNI that writes its file whenever it finds it changed."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(path), text], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "up\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_nobody_is_fought_and_who_writes_is_named(directory: Directory, watch: Callable[..., Watch]) -> None:
    path = directory.put("10-a.conflist", CHAIN)
    with stubborn(path, CHAIN) as pid:
        watched = watch(Patience(first=0.05, quiet=5.0))
        eventually(lambda: watched.kinds().count("contested") >= 3)
        contested = [event for event in watched.events if event.kind == "contested"]
        waits = [round(event.wait, 2) for event in contested[:3]]
        assert waits == [0.1, 0.2, 0.4]
        assert contested[0].path == str(path)
        for word in ("3 times in", f"process {pid} (python", "as root", "last at"):
            assert word in contested[0].text
    eventually(lambda: installed(directory, "10-a.conflist"))  # peace, when the other one has gone
    kinds = watched.kinds()
    assert kinds[:3] == ["installed", "restored", "restored"]
    assert kinds.count("restored") <= kinds.count("contested") + 2


def test_cilium_is_named_with_its_cure(directory: Directory, watch: Callable[..., Watch]) -> None:
    text = CHAIN.replace("calico", "cilium-cni")
    path = directory.put("05-cilium.conflist", text)
    with stubborn(path, text):
        watched = watch(Patience(first=0.02, quiet=5.0))
        eventually(lambda: "contested" in watched.kinds())
    assert "cni.exclusive=false" in watched.events[watched.kinds().index("contested")].text


def test_edited_entry_is_left_as_the_admin_wants_it(
    directory: Directory, watch: Callable[..., Watch]
) -> None:
    directory.put("10-a.conflist", CHAIN)
    watched = watch()
    eventually(lambda: installed(directory, "10-a.conflist"))
    edited = directory.text("10-a.conflist").replace('egress"]', 'other"]')
    directory.put("10-a.conflist", edited)
    directory.put("20-b.conflist", CHAIN)
    record = directory.state / "install/10-a.conflist.json"
    eventually(lambda: '"other"' in record.read_text())
    assert directory.text("10-a.conflist") == edited
    directory.put("10-a.conflist", CHAIN)
    eventually(lambda: installed(directory, "10-a.conflist"))
    assert directory.entry("10-a.conflist")["allow"] == [{"namespaces": ["other"]}]
    eventually(lambda: watched.kinds() == ["installed", "restored"])


def test_directory_that_is_made_anew_is_watched_again(
    directory: Directory, watch: Callable[..., Watch]
) -> None:
    path = directory.put("10-a.conflist", CHAIN)
    watched = watch()
    eventually(lambda: installed(directory, "10-a.conflist"))
    path.unlink()
    directory.cni.rmdir()
    eventually(lambda: "waiting" in watched.kinds())
    directory.cni.mkdir()
    directory.put("10-a.conflist", CHAIN)
    eventually(lambda: installed(directory, "10-a.conflist"))


def test_directory_that_comes_up_while_its_parent_is_looked_at_is_not_missed(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.cni.rmdir()
    is_directory, left = os.path.isdir, [1]

    def late(path: str) -> bool:
        found = is_directory(path)
        if left[0] and not found:
            left[0] -= 1
            directory.cni.mkdir()
        return found

    monkeypatch.setattr(os.path, "isdir", late)
    events = conflist_events.DirectoryEvents(str(directory.cni))
    monkeypatch.undo()
    try:
        directory.put("10-a.conflist", CHAIN)
        assert "10-a.conflist" in events.written()
    finally:
        events.close()


def test_without_inotify_it_looks_every_second(
    directory: Directory, watch: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_directory: str) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(conflist_watcher, "DirectoryEvents", refuse)
    monkeypatch.setattr(conflist_watcher, "Witness", Blind)
    monkeypatch.setattr(conflist_watcher, "_POLL_SECONDS", 0.02)
    directory.put("10-a.conflist", CHAIN)
    watched = watch()
    eventually(lambda: installed(directory, "10-a.conflist"))
    directory.put("10-a.conflist", CHAIN)
    eventually(lambda: "restored" in watched.kinds())
    assert "no inotify: Too many open files" in watched.events[0].text


class Blind(conflist_events.Witness):
    """What a process without CAP_SYS_ADMIN has: fanotify_init(2) fails."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.close()


def test_without_fanotify_owner_and_time_are_named(
    directory: Directory, watch: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflist_watcher, "Witness", Blind)
    path = directory.put("10-a.conflist", CHAIN)
    with stubborn(path, CHAIN):
        watched = watch(Patience(first=0.02, quiet=5.0))
        eventually(lambda: "contested" in watched.kinds())
    assert "by a program as root, last at" in watched.events[watched.kinds().index("contested")].text


def test_directory_that_cannot_be_written_is_told_once(
    directory: Directory, watch: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(temporary: str, _data: bytes, _like: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(conflist_watcher, "_RETRY_SECONDS", 0.05)
    directory.put("10-a.conflist", CHAIN)
    with monkeypatch.context() as immutable:
        immutable.setattr(conflist_file, "_write", refuse)
        watched = watch()
        eventually(lambda: watched.kinds() == ["failed"])
        time.sleep(0.3)
        assert watched.kinds() == ["failed"]
        assert "lsattr" in watched.events[0].text
    eventually(lambda: installed(directory, "10-a.conflist"))


# -- how long it waits


def test_waits_double_up_to_the_longest() -> None:
    patience = Patience(first=1.0, most=5.0, quiet=60.0)
    now, waits = 100.0, []
    for _ in range(6):
        due = patience.lost(now)
        waits.append(due - now)
        now = due + 0.1
    assert waits == pytest.approx([0.0, 1.0, 2.0, 4.0, 5.0, 5.0])
    assert patience.losses == 6
    assert patience.since == 100.0


def test_upgrades_now_and_then_are_no_fight() -> None:
    patience = Patience()
    for day in range(10):
        now = day * 86400.0
        assert patience.lost(now) == now
        assert not patience.contested
        assert patience.lost(now + 1) == now + 1 + patience.first  # a second write of the same upgrade
        assert not patience.contested
