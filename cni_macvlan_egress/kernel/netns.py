"""Network namespaces: opened, told apart, and entered without ever moving the caller.

setns() acts on one thread. Work inside a namespace is done in a thread of its own that ends there, so that no
namespace can leak into the thread that asked.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from ..protocol.errors import INVALID_NETNS, KERNEL_REFUSED, CniError

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_OWN = "/proc/thread-self/ns/net"

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one namespace from another whatever path leads to it."""

    device: int
    inode: int


class Sandbox:
    """An open network namespace of a pod.

    Args:
        path: CNI_NETNS.
        allow_own: whether it may be the caller's own namespace (CNI_NETNS_OVERRIDE).

    Raises:
        CniError: INVALID_NETNS if the path does not exist, is no network namespace or is the caller's own.
    """

    def __init__(self, path: str, *, allow_own: bool = False) -> None:
        self.path = path
        try:
            # Not blocking: a FIFO under this name would keep an open() for ever.
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CniError(INVALID_NETNS, f"cannot open the network namespace {path!r}: {reason}") from None
        try:
            self.identity = self._identify()
            if self.identity == own_identity() and not allow_own:
                raise CniError(
                    INVALID_NETNS,
                    f"CNI_NETNS {path!r} is the plugin's own network namespace; give the pod's "
                    "(or set CNI_NETNS_OVERRIDE=1)",
                )
        except BaseException:
            os.close(self.fd)
            raise

    def _identify(self) -> Identity:
        try:
            kind = fcntl.ioctl(self.fd, _NS_GET_NSTYPE)
        except OSError:
            kind = 0
        if kind != _CLONE_NEWNET:
            raise CniError(INVALID_NETNS, f"{self.path!r} is not a network namespace")
        status = os.fstat(self.fd)
        return Identity(status.st_dev, status.st_ino)

    def run(self, work: Callable[[], Value]) -> Value:
        """Do something inside the namespace and return its result; the caller stays where it is."""
        worker = _Worker(self.fd, work)
        worker.start()
        worker.join()
        return worker.outcome()

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def own_identity() -> Identity:
    """The namespace of the calling thread."""
    status = os.stat(_OWN)
    return Identity(status.st_dev, status.st_ino)


def find(path: str, identity: Identity) -> Sandbox | None:
    """The namespace that a record speaks of, if it still exists under that path."""
    try:
        sandbox = Sandbox(path, allow_own=True)
    except CniError:
        return None
    if sandbox.identity != identity:
        sandbox.close()
        return None
    return sandbox


def in_new_namespace(work: Callable[[], Value]) -> Value:
    """Do something in an empty namespace that goes away with the thread that is in it."""
    worker = _Worker(None, work)
    worker.start()
    worker.join()
    return worker.outcome()


class _Worker(threading.Thread, Generic[Value]):
    """Enters the namespace of a file descriptor, or makes one of its own if there is none, and works there."""

    def __init__(self, fd: int | None, work: Callable[[], Value]) -> None:
        super().__init__(daemon=True)
        self._fd = fd
        self._work = work
        self._result: list[Value] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._enter()
            self._result.append(self._work())
        except BaseException as error:
            self._error = error

    def _enter(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if self._fd is None:
            what, status = "make a network namespace", libc.unshare(_CLONE_NEWNET)
        else:
            what, status = "enter the pod's network namespace", libc.setns(self._fd, _CLONE_NEWNET)
        if status != 0:
            number = ctypes.get_errno()
            hint = "; the plugin must run as root (CAP_SYS_ADMIN)" if number == errno.EPERM else ""
            raise CniError(KERNEL_REFUSED, f"cannot {what}: {os.strerror(number)}{hint}")

    def outcome(self) -> Value:
        if self._error is not None:
            raise self._error
        return self._result[0]
