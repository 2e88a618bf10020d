"""Settings below /proc/sys, of the namespace of the calling thread."""

from __future__ import annotations

import os

from ..protocol.errors import KERNEL_REFUSED, CniError

_ROOT = "/proc/sys/"


def read(key: str) -> str | None:
    """The value of a setting, None where the kernel has no such key."""
    try:
        fd = os.open(_ROOT + key, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def write(key: str, value: str) -> None:
    """Set a value.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    try:
        fd = os.open(_ROOT + key, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise CniError(
            KERNEL_REFUSED, f"cannot set sysctl {key.replace('/', '.')} to {value}: {error.strerror}"
        ) from None


def restore(key: str, value: str) -> None:
    """Put a value back; a setting that is gone with its interface is no error.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    if read(key) is not None:
        write(key, value)


def has_ipv6() -> bool:
    """Whether the kernel of this namespace speaks IPv6 at all."""
    return os.path.exists(_ROOT + "net/ipv6/conf")
