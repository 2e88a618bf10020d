"""Sees every system call by which this process would change something, in the kernel and not by its own word.

A seccomp filter hands such calls to a process of its own before they are done. While an input is looked at, that
process notes each one, and refuses it unless it concerns a file below the one directory that inputs may lead into; at
all other times everything passes. x86-64 only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_INSIDE = "/run/fuzz/"
# System calls by number (asm/unistd_64.h); those with paths, with the arguments that hold them.
_OPEN, _OPENAT = 2, 257
_PATHS = {
    "open": (_OPEN, 0), "openat": (_OPENAT, 1), "creat": (85, 0), "mkdir": (83, 0), "mkdirat": (258, 1), "rmdir": (84,
    0),
    "unlink": (87, 0), "unlinkat": (263, 1), "rename": (82, 0, 1), "renameat": (264, 1, 3), "renameat2": (316, 1, 3),
    "link": (86, 1), "linkat": (265, 3), "symlink": (88, 1), "symlinkat": (266, 2), "truncate": (76, 0),
    "chmod": (90, 0), "fchmodat": (268, 1), "chown": (92, 0), "lchown": (94, 0), "fchownat": (260, 1),
    "mknod": (133, 0), "mknodat": (259, 1), "setxattr": (188, 0), "lsetxattr": (189, 0), "utimensat": (280, 1),
}  # fmt: skip
_OTHERS = {
    "socket": 41, "setns": 308, "unshare": 272, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
    "execve": 59, "execveat": 322, "kill": 62, "openat2": 437, "open_by_handle_at": 304, "bpf": 321, "init_module": 175,
    "finit_module": 313, "sethostname": 170, "settimeofday": 164, "clock_settime": 227, "reboot": 169, "ptrace": 101,
    "move_mount": 429, "fsopen": 430, "setrlimit": 160,
}  # fmt: skip
_NAMES = {number[0]: name for name, number in _PATHS.items()} | {one: name for name, one in _OTHERS.items()}
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# linux/seccomp.h, linux/bpf_common.h, linux/audit.h
_SYS_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 317, 1, 1 << 3, 1 << 5
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_LOAD, _EQUAL, _SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_X86_64 = 0xC000003E
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_PDEATHSIG = 1
_SIZE = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


class Witness:
    """The filter and the process behind it; both last as long as this process."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _SIZE)
        mine, its = socket.socketpair()
        if (pid := os.fork()) == 0:
            mine.close()
            _serve(its, self._shared)
        its.close()
        self.pid = pid
        listener = _install()
        socket.send_fds(mine, [b"x"], [listener])
        mine.recv(1)
        os.close(listener)
        mine.close()

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        """For the time of a block, refuse and note; the list is filled when it ends."""
        seen: list[str] = []
        self._shared[:5] = b"\1\0\0\0\0"
        try:
            yield seen
        finally:
            self._shared[0] = 0
            seen += self.seen()

    def seen(self) -> list[str]:
        """What has been noted since the block began."""
        (length,) = struct.unpack("=I", self._shared[1:5])
        return self._shared[5 : 5 + length].decode("utf-8", "backslashreplace").splitlines()


def _install() -> int:
    """Put the filter in place; returns the descriptor that tells of calls."""
    program: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _X86_64),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 0),
    ]
    for number, argument in ((_OPEN, 1), (_OPENAT, 2)):
        program += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, 16 + 8 * argument),
            (_SET, 0, 1, _CHANGING),
            (_RETURN, 0, 0, _NOTIFY),
            (_RETURN, 0, 0, _ALLOW),
        ]
    for number in sorted(_NAMES.keys() - {_OPEN, _OPENAT}):
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("=HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code)
    filter_ = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    # A signal must not make a call fail that is being answered; before Linux 5.19 it may.
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):
        listener = _libc.syscall(_SYS_SECCOMP, _SET_MODE_FILTER, flags, filter_)
        if listener >= 0:
            break
    else:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


def _serve(channel: socket.socket, shared: mmap.mmap) -> None:
    """Answer for every call that the filter hands over, until nobody is left who could make one."""
    status = 1
    try:
        _libc.prctl(_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        channel.send(b"x")
        channel.close()
        _answer_calls(descriptors[0], shared)
        status = 0
    finally:
        os._exit(status)


def _answer_calls(listener: int, shared: mmap.mmap) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        if poll.poll()[0][1] & select.POLLHUP:
            return
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # whoever called has gone
                continue
            raise
        one, pid, _, number, _, _, *arguments = _NOTIFICATION.unpack(buffer)
        passes = not shared[0] or _judge(shared, pid, number, arguments)
        response = (one, 0, 0, _CONTINUE) if passes else (one, 0, -errno.EPERM, 0)
        try:
            fcntl.ioctl(listener, _SEND, _RESPONSE.pack(*response))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


def _judge(shared: mmap.mmap, pid: int, number: int, arguments: list[int]) -> bool:
    """Whether a call may be done; it is noted in any case."""
    name = _NAMES[number]
    paths = [_text(pid, arguments[place]) for place in _PATHS[name][1:]] if name in _PATHS else []
    inside = bool(paths) and all(one.startswith(_INSIDE) and "/.." not in one for one in paths)
    words = [name, *map(ascii, paths)] if paths else [name, *map(str, arguments[:3])]
    if name in ("open", "openat"):
        flags = arguments[1 if name == "open" else 2]
        if flags & os.O_APPEND and not flags & os.O_TRUNC:
            words[0] = "log"
    line = (" ".join(("inside" if inside else "outside", *words)) + "\n").encode()
    (length,) = struct.unpack("=I", shared[1:5])
    if 5 + length + len(line) <= _SIZE:
        shared[5 + length : 5 + length + len(line)] = line
        shared[1:5] = struct.pack("=I", length + len(line))
    return inside


def _text(pid: int, address: int) -> str:
    """A string in another process' memory."""
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            found = os.pread(memory.fileno(), 4096 - address % 4096, address)
            if b"\0" not in found:
                found += os.pread(memory.fileno(), 4096, address + len(found))
    except OSError:
        return "?"
    return found.partition(b"\0")[0].decode("utf-8", "surrogateescape")
