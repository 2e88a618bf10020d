"""A process of the daemon that serves calls, several at once, each in a thread of its own.

The threads wait in accept() themselves: the kernel wakes the one that has waited longest, of whichever worker, and no
call is handed from thread to thread. A thread enters a pod's namespace only by way of kernel.netns, which brings it
back or ends the process: no call finds itself in another one's namespace. Every thread checks that before each call,
and the process ends if it is not so.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from .. import caller, entry
from ..kernel.netns import Identity, own_identity
from ..protocol import wire
from ..protocol.errors import TRY_AGAIN_LATER
from ..protocol.versions import LATEST
from ..turns import taken
from . import frames, journal
from .counters import OTHER, SUCCESS, UNKNOWN, Slot

# As many as keep a processor busy: one computes while another one is in the kernel.
_TURNS = 2
# Most of an ADD's time is waiting: for the LAN to answer, for the kernel's grace periods.
THREADS = 24
# A request is at hand as soon as it is connected: whoever sends half of one is not waited for.
_REQUEST_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
# Workers start their threads one at a time, so that they take turns in the listener's queue.
_STAGGER_SECONDS = 0.001
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_SECONDS = 0.05
_SEND_TRIES = 20
_DRAIN_SECONDS = 1.0
_ROOT = 0
_M_ARENA_MAX = -8  # malloc.h


def run(listener: socket.socket, slot: Slot) -> None:
    """Serve calls until SIGTERM; those that have begun are finished.

    Args:
        listener: a blocking socket.
        slot: where calls are counted.
    """
    # Python keeps small objects itself; an arena a thread (mallopt(3)) would only keep what is free.
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(woken, True)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when to stop
    signal.signal(signal.SIGUSR1, _interrupt)
    # Whatever a call is waiting for, it goes on waiting when its thread has been woken.
    signal.siginterrupt(signal.SIGUSR1, False)
    signal.signal(signal.SIGTERM, _interrupt)
    slot.fresh()
    home = own_identity()
    turns = threading.Semaphore(_TURNS)
    threads = [
        threading.Thread(target=_serve_calls, args=(listener, home, turns, slot, number), daemon=True)
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
        time.sleep(_STAGGER_SECONDS)
    while os.read(woken, 1) != bytes((signal.SIGTERM,)):
        pass
    _stop_accepting(listener, threads)
    for thread in threads:
        thread.join()


def _interrupt(_number: int, _frame: object) -> None:
    """That there is a handler wakes a thread; the kernel has told the main thread the rest."""


def _stop_accepting(listener: socket.socket, threads: list[threading.Thread]) -> None:
    """Other workers, and perhaps systemd, go on with the listener: only this process loses it.

    What takes its number is no listener. Whoever waits in accept() is woken by a signal, and the kernel starts the call
    anew with the number's new owner.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        os.dup2(deaf.fileno(), listener.fileno(), inheritable=False)
    for thread in threads:
        with suppress(ProcessLookupError):
            if thread.ident is not None and thread.is_alive():
                signal.pthread_kill(thread.ident, signal.SIGUSR1)


def _serve_calls(
    listener: socket.socket, home: Identity, turns: threading.Semaphore, slot: Slot, number: int
) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                time.sleep(_PAUSE_SECONDS)
                continue
            if error.errno in (errno.EINVAL, errno.EBADF):
                return  # _stop_accepting
            continue  # the caller has gone again
        if own_identity() != home:
            journal.tell("error", "a thread of a worker is in a foreign network namespace", pid=os.getpid())
            os._exit(os.EX_SOFTWARE)
        began = slot.begin(number)
        try:
            with connection:
                _serve(connection, turns, partial(slot.end, number, began))
        except (OSError, frames.BadFrameError):
            pass  # whoever has gone, or speaks another language, needs no answer
        except Exception:
            import traceback

            journal.tell("error", "a call has failed in the daemon", traceback=traceback.format_exc())
        finally:
            slot.idle(number)


def _serve(connection: socket.socket, turns: threading.Semaphore, done: Callable[[str, int], None]) -> None:
    """Serve the call of a connection.

    Args:
        done: is told verb and code when it is, before the caller is; not if there was no call.
    """
    if _peer(connection) != _ROOT:
        return
    # Whatever may go wrong with it, before something has been done that the caller would not hear of.
    frames.set_timeout(connection, socket.SO_SNDTIMEO, _ANSWER_SECONDS)
    try:
        variables, stdin = frames.receive(connection, _REQUEST_SECONDS)
    except frames.OtherVersionError as error:
        done(OTHER, TRY_AGAIN_LATER)
        _send(connection, _refusal(error.version))
        _drain(connection)
        return
    with taken(turns), caller.told_by(partial(_has_gone, connection)):
        if caller.gone():
            return  # while it waited in the queue
        status, output, words = entry.respond(variables, lambda: wire.decode_bytes(stdin))
    done(variables.get("CNI_COMMAND", OTHER), _code(status, output))
    _send(connection, frames.answer(status, output, words))


def _send(connection: socket.socket, data: bytes) -> None:
    """Answer; a node that is short of memory for a moment must not keep the caller from hearing what was done."""
    rest, tries = memoryview(data), _SEND_TRIES
    while rest:
        try:
            rest = rest[connection.send(rest) :]
        except OSError as error:
            tries -= 1
            if not tries or error.errno not in _OUT_OF_RESOURCES:
                raise
            time.sleep(_PAUSE_SECONDS)


def _peer(connection: socket.socket) -> int:
    """The user who called; the socket's mode keeps others away already."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[1])


def _has_gone(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _refusal(version: int) -> bytes:
    message = (
        f"the launcher of macvlan-egress speaks version {version} of the daemon's protocol, the daemon version "
        f"{frames.VERSION}; write the launcher anew (macvlan-egress launcher --native) or restart the daemon"
    )
    body = wire.encode({"cniVersion": LATEST, "code": TRY_AGAIN_LATER, "msg": message})
    return frames.answer(1, f"{body}\n", f"macvlan-egress: {message}\n", version=version)


def _drain(connection: socket.socket) -> None:
    """Take what the other side still sends, so that it comes to hear the answer."""
    connection.shutdown(socket.SHUT_WR)
    frames.set_timeout(connection, socket.SO_RCVTIMEO, _DRAIN_SECONDS)
    left = frames.ENVIRONMENT_MAX + frames.STDIN_MAX
    while left > 0 and (part := connection.recv(1 << 16)):
        left -= len(part)


def _code(status: int, output: str) -> int:
    if status == 0:
        return SUCCESS
    with suppress(Exception):
        return int(wire.decode(output).values["code"])
    return UNKNOWN
