"""The daemon's first process: owns the socket, keeps the workers running, and shows what they do.

It has one thread, because it forks: a worker must not inherit a lock that some other thread was holding.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .. import __version__
from ..model.keys import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR
from . import children, journal, listening, metrics, worker
from .caretaker import CaretakerSettings
from .caretaker_process import CaretakerProcess
from .counters import Counters
from .pages import Page, Pages
from .systemd import listening_socket, notify, watchdog_seconds

_TICK_SECONDS = 1.0
# A worker that dies at once is not started again and again without a pause.
_RESTART_SECONDS = 1.0
# Of a worker that is to end because of one call, for the others that it serves.
_GRACE_SECONDS = 10.0
_DRAIN_SECONDS = 5.0
_POLL_SECONDS = 0.002
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
        socket: where launchers call, unless systemd hands a socket over.
        workers: how many processes serve calls.
        queue: how many calls may wait for them.
        deadline: seconds after which a call is given up and its worker replaced.
        listen: ADDRESS:PORT of the pages; empty for none.
        admin_socket: the same as a Unix socket.
        care: what is done in the background; None for nothing.
    """

    socket: str
    workers: int
    queue: int = 1024
    deadline: float = 120.0
    listen: str = ""
    admin_socket: str = ""
    state_dir: str = DEFAULT_STATE_DIR
    run_dir: str = DEFAULT_RUN_DIR
    care: CaretakerSettings | None = None


@dataclass
class _Worker:
    slot: int
    born: float
    killed_at: float = 0.0  # when it is, if it has not ended by then; 0: it may go on


class Supervisor:
    """Forks workers and looks after them.

    Raises:
        CniError: IO_FAILURE if a socket cannot be made.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counters = Counters(settings.workers, worker.THREADS)
        self._caretaker = CaretakerProcess(settings.care, self._fork_caretaker) if settings.care else None
        self._metrics = metrics.Metrics(
            settings.state_dir, settings.run_dir, self._counters, caretaker=self._caretaker
        )
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = {}  # slots without a worker, and when they get one
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._pages = Pages(self._selector, self._page)
        self._own: list[listening.UnixListener] = []
        inherited = listening_socket()
        self._drained = inherited is None  # else the queue is systemd's, and the next daemon's
        self._listener = inherited or self._listen(settings.socket)
        self._address = inherited.getsockname() if inherited else settings.socket
        self._listener.setblocking(True)
        if settings.listen:
            self._pages.serve(listening.tcp(settings.listen))
        if settings.admin_socket:
            self._pages.serve(self._listen(settings.admin_socket))

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit status."""
        _preload()
        woken = self._hear_signals()
        for slot in range(self._settings.workers):
            self._start_worker(slot)
        journal.tell(
            "info",
            "the daemon serves calls",
            version=__version__,
            pid=os.getpid(),
            socket=self._address,
            workers=len(self._workers),
        )
        notify("READY=1")
        pause = (watchdog_seconds() or 0) / 3
        patted = time.monotonic()
        while not self._stopping:
            for key, _ in self._selector.select(min(_TICK_SECONDS, pause or _TICK_SECONDS)):
                key.data()
            self._look_after_workers()
            if self._caretaker:
                self._caretaker.look_after()
            self._pages.expire()
            if pause and self._workers and time.monotonic() - patted >= pause:
                notify("WATCHDOG=1")
                patted = time.monotonic()
        notify("STOPPING=1")
        journal.tell("info", "the daemon stops", pid=os.getpid(), calls=len(self._counters.ages()))
        self._end()
        woken.close()
        journal.tell("info", "the daemon has stopped", pid=os.getpid())
        return 0

    def _listen(self, path: str) -> socket.socket:
        listener = listening.UnixListener(path, self._settings.queue)
        self._own.append(listener)
        return listener.socket

    def _hear_signals(self) -> socket.socket:
        """Have every signal wake the loop at once; returns the end of a pair that must stay open."""
        out, into = socket.socketpair()
        for one in (out, into):
            one.setblocking(False)

        def empty() -> None:
            with suppress(BlockingIOError):
                out.recv(4096)

        self._selector.register(out, selectors.EVENT_READ, empty)
        signal.set_wakeup_fd(into.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, _nothing)
        return into

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    # -- workers

    def _start_worker(self, slot: int) -> None:
        def serve() -> None:
            self._forget_pages()
            worker.run(self._listener, self._counters.slots[slot])

        self._workers[children.fork("worker", serve)] = _Worker(slot, time.monotonic())

    def _fork_caretaker(self, work: Callable[[], None]) -> int:
        def take_care() -> None:
            self._listener.close()  # else callers would find it after the daemon has gone
            self._forget_pages()
            work()

        return children.fork("caretaker", take_care)

    def _forget_pages(self) -> None:
        """In a child: an inherited connection would not end when the supervisor closes it."""
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()

    def _look_after_workers(self) -> None:
        self._reap()
        now = time.monotonic()
        for pid, one in list(self._workers.items()):
            if one.killed_at:
                if one.killed_at <= now:
                    children.send(pid, signal.SIGKILL)
            elif max(self._counters.slots[one.slot].ages(), default=0.0) > self._settings.deadline:
                journal.tell("error", "a call does not end; its worker is replaced", worker=pid)
                self._metrics.overdue += 1
                one.killed_at = now + _GRACE_SECONDS
                children.send(pid, signal.SIGTERM)
        for slot in [slot for slot, due in self._due.items() if due <= now]:
            del self._due[slot]
            self._start_worker(slot)
        self._metrics.workers = len(self._workers)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            gone = self._workers.pop(pid, None)
            if gone is None:
                if self._caretaker:
                    self._caretaker.has_ended(pid, status)
                continue
            if not gone.killed_at:
                self._metrics.died += 1
                journal.tell(
                    "error", "a worker has ended", worker=pid, status=os.waitstatus_to_exitcode(status)
                )
            self._due[gone.slot] = max(time.monotonic(), gone.born + _RESTART_SECONDS)

    # -- the end

    def _end(self) -> None:
        for own in self._own:
            own.leave()
        if self._caretaker:
            self._caretaker.stop()
        if self._drained:
            self._drain()
        for pid in self._workers:
            children.send(pid, signal.SIGTERM)
        until = time.monotonic() + self._settings.deadline
        while self._workers:
            if time.monotonic() >= until:
                for pid in self._workers:
                    children.send(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid:
                    self._workers.pop(pid, None)
                    continue
            time.sleep(_POLL_SECONDS)
        if self._caretaker:
            self._caretaker.end()

    def _drain(self) -> None:
        """Nobody finds the socket any more; have the workers take those who did."""
        until = time.monotonic() + _DRAIN_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while self._workers and time.monotonic() < until and selector.select(0):
                time.sleep(_POLL_SECONDS)

    # -- pages

    def _page(self, path: str) -> Page:
        if path == "/metrics":
            return 200, metrics.CONTENT_TYPE, self._metrics.text()
        if path == "/healthz":
            if not self._workers:
                return 503, _TEXT, "no worker is running\n"
            idle = self._caretaker is not None and not self._caretaker.is_up
            return 200, _TEXT, "ok, but the caretaker is not running\n" if idle else "ok\n"
        return 404, _TEXT, "there are /metrics and /healthz\n"


def _nothing(_number: int, _frame: object) -> None:
    """SIGCHLD has only to wake the loop."""


def _preload() -> None:
    """Import before forking whatever a call may need, so that no worker pays for it and all share its memory."""
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    for name in _PRELOADED:
        importlib.import_module(name, __package__)
    with suppress(OSError):
        ctypes.CDLL("libnftables.so.1")
    gc.collect()
    gc.freeze()  # what is there now stays; looking at it again would copy its pages


_PRELOADED: Sequence[str] = (
    "..attach.verbs", "..attach.add", "..attach.delete", "..attach.check", "..attach.collect", "..attach.status",
    "..attach.policing", "..attach.ipam", "..passthrough", "..log", "..sources.kubernetes", "..sources.names",
    "..sources.policy_directory", "..model.policy_documents", "difflib", "json", "yaml", "select",
    ".caretaker_rounds", ".caretaker_names", ".caretaker_policies",
)  # fmt: skip
