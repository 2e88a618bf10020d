"""What happens in a CNI directory, as the kernel tells it: inotify(7), and who did it by fanotify(7) where that may be.

A directory that is not there yet is waited for at the nearest one above it.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_WRITTEN = 0x8 | 0x80  # CLOSE_WRITE, MOVED_TO
_CHANGED = (
    _WRITTEN | 0x40 | 0x100 | 0x200 | 0x400 | 0x800
)  # MOVED_FROM, CREATE, DELETE, DELETE_SELF, MOVE_SELF
_ONLY_DIRECTORIES = 0x01000000
_EVENT = struct.Struct("iIII")
_READ_BYTES = 1 << 16

_FAN_INIT = 0x1 | 0x2 | 0x400 | 0x800  # CLOEXEC, NONBLOCK, REPORT_DIR_FID, REPORT_NAME
_FAN_ADD_DIRECTORY = 0x1 | 0x8  # MARK_ADD, MARK_ONLYDIR
_FAN_MASK = 0x8 | 0x80 | 0x08000000  # CLOSE_WRITE, MOVED_TO, EVENT_ON_CHILD
_FAN_METADATA = struct.Struct("=IBBHQii")
_FAN_INFO = struct.Struct("=BBH")
_FAN_FSID_BYTES = 8
_FAN_HANDLE = struct.Struct("=Ii")
_FAN_NAME_TYPES = (2, 10, 12)  # DFID_NAME, OLD_DFID_NAME, NEW_DFID_NAME
_AT_FDCWD = -100


@dataclass(frozen=True, slots=True)
class Process:
    """Who wrote a file.

    Attributes:
        name: empty if it was gone when we looked.
    """

    pid: int
    name: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})" if self.name else f"process {self.pid}, which has ended"


class DirectoryEvents:
    """Tells when something in a directory may have changed.

    Raises:
        OSError: the kernel has no inotify, or no more of it for this user.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._library = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._watch = -1
        self._armed: tuple[int, int] | None = None
        self.rearm()

    def fileno(self) -> int:
        """Readable when something has happened."""
        return self._fd

    def rearm(self) -> bool:
        """Watch the directory, or the nearest one above if it is not there; True if that is another one than before."""
        moved = False
        while True:  # until nothing has come up between the look and the watch
            path = os.path.abspath(self._directory)
            while not os.path.isdir(path):
                path = os.path.dirname(path)
            status = os.stat(path)
            if self._armed == (status.st_dev, status.st_ino):
                return moved
            if self._watch >= 0:
                self._library.inotify_rm_watch(
                    self._fd, self._watch
                )  # fails if it has gone with its directory
            mask = ctypes.c_uint32(_CHANGED | _ONLY_DIRECTORIES)
            self._watch = _checked(self._library.inotify_add_watch(self._fd, os.fsencode(path), mask))
            self._armed, moved = (status.st_dev, status.st_ino), True

    def written(self) -> list[str]:
        """The names of the files that have been written since the last call, once for each time."""
        found = []
        for data in _chunks(self._fd):
            position = 0
            while position < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, position)
                position += _EVENT.size
                if mask & _WRITTEN:
                    found.append(os.fsdecode(data[position : position + length].rstrip(b"\0")))
                position += length
        return found

    def close(self) -> None:
        """End it."""
        os.close(self._fd)


class Witness:
    """Knows which process wrote which file of a directory last, if the kernel tells us."""

    def __init__(self, directory: str) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._writers: dict[str, Process] = {}
        self._fd = self._library.fanotify_init(ctypes.c_uint(_FAN_INIT), ctypes.c_uint(os.O_RDONLY))
        self.rearm(directory)

    def rearm(self, directory: str) -> None:
        """Watch a directory, also if it has been made anew."""
        if self._fd >= 0:
            # Fails if the directory is not there yet, or without CAP_SYS_ADMIN: then nobody is named.
            self._library.fanotify_mark(
                self._fd,
                ctypes.c_uint(_FAN_ADD_DIRECTORY),
                ctypes.c_uint64(_FAN_MASK),
                _AT_FDCWD,
                os.fsencode(directory),
            )

    @property
    def descriptors(self) -> list[int]:
        """Readable when somebody has written; look at once, before the process ends."""
        return [self._fd] if self._fd >= 0 else []

    def look(self) -> None:
        """Take down who has written what."""
        for data in _chunks(self._fd) if self._fd >= 0 else ():
            position = 0
            while position + _FAN_METADATA.size <= len(data):
                length, _, _, size, _, _, pid = _FAN_METADATA.unpack_from(data, position)
                for name in _names_in(data[position + size : position + length]):
                    if pid not in (0, os.getpid()):
                        self._writers[name] = Process(pid, _command(pid))
                position += length

    def writer(self, name: str) -> Process | None:
        """Who has written a file last, None if nobody knows."""
        return self._writers.get(name)

    def close(self) -> None:
        """End it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _names_in(records: bytes) -> Iterator[str]:
    """The file names in an event's information records: header, file system, handle of the directory, name."""
    position = 0
    while position + _FAN_INFO.size <= len(records):
        kind, _, length = _FAN_INFO.unpack_from(records, position)
        if length < _FAN_INFO.size:
            return
        if kind in _FAN_NAME_TYPES:
            start = position + _FAN_INFO.size + _FAN_FSID_BYTES
            handle_bytes, _ = _FAN_HANDLE.unpack_from(records, start)
            name = records[start + _FAN_HANDLE.size + handle_bytes : position + length]
            yield os.fsdecode(name.partition(b"\0")[0])
        position += length


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:  # it has ended
        return ""


def _chunks(fd: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            return
        yield data


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
