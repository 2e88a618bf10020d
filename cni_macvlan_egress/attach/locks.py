"""Locks between processes: held by the kernel for as long as the holder lives, so that a killed call frees its own.

The files are a fixed few and stay: a lock file that comes and goes can be held twice.
"""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from .. import caller
from ..protocol.errors import IO_FAILURE, TRY_AGAIN_LATER, CniError
from ..turns import waiting
from .files import make_directory

_BUCKETS = 64
_FIRST_POLL_SECONDS, _POLL_SECONDS = 0.0005, 0.008
# Longer than a strict conflict detection takes, shorter than a runtime waits.
WAIT_SECONDS = 20.0


@contextmanager
def attachment(run_dir: str, key: str, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Be the only one that works on an attachment.

    Raises:
        CniError: TRY_AGAIN_LATER if another call keeps it.
    """
    bucket = zlib.crc32(os.fsencode(key)) % _BUCKETS
    with _held(
        run_dir, f"attachment-{bucket:02}.lock", f"another call for {key} is still running", wait_seconds
    ):
        yield


@contextmanager
def addresses(run_dir: str) -> Iterator[None]:
    """Be the only one that looks at or changes who holds which address."""
    with _held(run_dir, "addresses.lock", "the register of addresses is busy", WAIT_SECONDS):
        yield


@contextmanager
def policy(run_dir: str) -> Iterator[None]:
    """Be the only one that changes what of the policies is in force."""
    with _held(run_dir, "policy.lock", "the node's policies are being changed", WAIT_SECONDS):
        yield


@contextmanager
def names(run_dir: str) -> Iterator[None]:
    """Be the only one that writes down what names resolved to."""
    with _held(run_dir, "names.lock", "the answers for names are being written", WAIT_SECONDS):
        yield


@contextmanager
def index(run_dir: str) -> Iterator[None]:
    """Be the only one that writes down which namespaces have a policy."""
    with _held(run_dir, "index.lock", "the index of policies is being written", WAIT_SECONDS):
        yield


@contextmanager
def _held(run_dir: str, name: str, busy: str, wait_seconds: float) -> Iterator[None]:
    make_directory(run_dir)
    path = f"{run_dir}/{name}"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot open the lock {path}: {error.strerror}") from None
    try:
        deadline = time.monotonic() + wait_seconds
        pause = _FIRST_POLL_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise CniError(
                        TRY_AGAIN_LATER, f"{busy} (waited {wait_seconds:.0f} s); try again later"
                    ) from None
                with waiting():
                    time.sleep(pause)
                if caller.gone():
                    raise CniError(TRY_AGAIN_LATER, f"{busy}, and the caller has gone") from None
                pause = min(2 * pause, _POLL_SECONDS)
            except OSError as error:
                raise CniError(IO_FAILURE, f"cannot take the lock {path}: {error.strerror}") from None
        yield
    finally:
        os.close(fd)
