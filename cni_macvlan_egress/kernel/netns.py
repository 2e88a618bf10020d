"""Network namespaces: opened, told apart, and entered so that whoever enters is back afterwards.

setns() acts on the calling thread. It is taken back however the work inside ends, and a process that cannot come back
ends at once: whatever it did next, it would do to the wrong namespace.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Self, TypeVar

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
        """Do something inside the namespace and return its result; the caller is back where it was.

        Raises:
            CniError: KERNEL_REFUSED if it cannot be entered, and what the work raises.
        """
        return _visit(
            lambda: _libc().setns(self.fd, _CLONE_NEWNET), "enter the pod's network namespace", work
        )

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
    """Do something in an empty namespace that goes away with what is open in it.

    Raises:
        CniError: KERNEL_REFUSED if it cannot be made, and what the work raises.
    """
    return _visit(lambda: _libc().unshare(_CLONE_NEWNET), "make a network namespace", work)


def _visit(enter: Callable[[], int], what: str, work: Callable[[], Value]) -> Value:
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if enter() != 0:
            number = ctypes.get_errno()
            hint = "; the plugin must run as root (CAP_SYS_ADMIN)" if number == errno.EPERM else ""
            raise CniError(KERNEL_REFUSED, f"cannot {what}: {os.strerror(number)}{hint}")
        try:
            return work()
        finally:
            if _libc().setns(home, _CLONE_NEWNET) != 0:
                os.kill(os.getpid(), signal.SIGKILL)
    finally:
        os.close(home)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
