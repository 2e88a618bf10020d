"""Runs a program and counts its system calls that change something; kills it at one of them, or has that one fail.

    python3 -ISB tracer.py ORDERS PROGRAM [ARGUMENT ...]

strace aims at the n-th call of a thread, whatever it is about, and stops at every call twice. This one gives each call
a name (`Point`: what it is, and what it is about), and aims at the n-th of a name in all processes and threads. A
filter (seccomp(2)) lets the kernel pass on what cannot change anything: a short list, so that a call nobody has
thought of counts as a change.

ORDERS is a JSON file: `serial`, `report` (the file the report goes to), `only` (the names of the processes that count;
none: all), and, to hit a call, `name`, `occurrence`, and `error` (an errno) or `victim` (`process`: the one that
makes the call; `all`: everything that runs here). SIGUSR1: read it again and count anew. SIGUSR2: write the report.
It is also written when everything has ended.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import signal
import socket
import struct
import sys
from collections import Counter
from typing import Any

# ptrace(2), linux/ptrace.h
_CONT, _GETREGS, _SETREGS, _GETEVENTMSG, _SEIZE, _SYSCALL_INFO = 7, 12, 13, 0x4201, 0x4206, 0x420E
_EVENT_EXEC, _EVENT_SECCOMP, _EVENT_STOP = 4, 7, 128
_OPTIONS = 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100000  # fork, vfork, clone, exec, seccomp, EXITKILL
_WALL = 0x40000000
# seccomp.h
_ALLOW, _TRACE = 0x7FFF0000, 0x7FF00000
_EQUAL, _MASKED = 4, 7
_NO_NEW_PRIVILEGES, _OPTIMIZE = 3, 8

# What reads, waits, or concerns only the process itself: its memory, its signals, its numbers for open files.
_HARMLESS = """
    read readv pread64 preadv close lseek mmap mprotect munmap mremap madvise brk msync mincore membarrier
    stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getcwd getdents getdents64
    statfs fstatfs chdir fchdir
    poll ppoll select pselect6 epoll_create1 epoll_ctl epoll_wait epoll_pwait pause
    futex nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times getrusage getitimer
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait rt_sigpending rt_sigsuspend sigaltstack restart_syscall
    getpid gettid getppid getuid geteuid getgid getegid getgroups getpgrp getpgid getsid getresuid getresgid capget
    uname sysinfo getrandom getcpu sched_yield sched_getaffinity sched_getparam sched_getscheduler
    set_tid_address set_robust_list get_robust_list rseq arch_prctl prctl prlimit64 getrlimit umask
    getsockname getpeername getsockopt recvfrom recvmsg recvmmsg accept accept4 shutdown
    dup dup2 dup3 pipe pipe2 eventfd2 socketpair pidfd_open close_range tgkill
    wait4 waitid exit exit_group
""".split()  # noqa: SIM905
_WRITING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC
# FIOCLEX, FIONCLEX, FIONBIO, TCGETS, TIOCGWINSZ, SIOCGIFINDEX, NS_GET_NSTYPE.
_HARMLESS_IOCTLS = (0x5451, 0x5450, 0x5421, 0x5401, 0x5413, 0x8933, 0xB703)
_HARMLESS_FCNTLS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC

_STRINGS = {
    "open": (0,), "openat": (1,), "creat": (0,), "rename": (0, 1), "renameat": (1, 3), "renameat2": (1, 3),
    "unlink": (0,), "unlinkat": (1,), "mkdir": (0,), "mkdirat": (1,), "rmdir": (0,), "symlink": (0, 1),
    "symlinkat": (0, 2), "link": (0, 1), "linkat": (1, 3), "chmod": (0,), "fchmodat": (1,), "chown": (0,),
    "mount": (0, 1), "umount2": (0,), "execve": (0,),
}  # fmt: skip
_DESCRIPTORS = """
    write writev pwrite64 fsync fdatasync flock fchmod fchown ftruncate fallocate fcntl ioctl setns
    sendto sendmsg sendmmsg connect bind listen setsockopt
""".split()  # noqa: SIM905
_FAMILIES = {1: "unix", 2: "inet", 10: "inet6", 16: "netlink", 17: "packet"}
_KINDS = {1: "stream", 2: "datagram", 3: "raw"}
_NETLINK = {0: "route", 12: "netfilter", 4: "diag"}
_STANDARD = {1: "stdout", 2: "stderr"}
_SO_PROTOCOL, _SO_DOMAIN = 38, 39
_PIDFD_GETFD = 438
_NFT_QUESTIONS = (1, 4, 7, 10, 13, 16, 19, 21, 23)
# Container IDs, numbers of locks and processes, and the lab's names differ from run to run.
_VARIABLE = re.compile(
    r"[0-9a-f]{12,}|(?<=attachment-)\d+|(?<=-pod)\d+|cme-[0-9a-f]+|(?<=/proc/)\d+|(?<=/task/)\d+"
)
_TEMPORARY = re.compile(r"/tmp/pytest-of-[^/]+/pytest-\d+/(popen-gw\d+/)?[^/]+/")


class _Registers(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_ulonglong)
        for name in (
            *(
                "r15",
                "r14",
                "r13",
                "r12",
                "rbp",
                "rbx",
                "r11",
                "r10",
                "r9",
                "r8",
                "rax",
                "rcx",
                "rdx",
                "rsi",
                "rdi",
            ),
            *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
        )
    )


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long
_seccomp = ctypes.CDLL("libseccomp.so.2")
_seccomp.seccomp_init.restype = ctypes.c_void_p
_seccomp.seccomp_init.argtypes = (ctypes.c_uint32,)
_seccomp.seccomp_load.argtypes = (ctypes.c_void_p,)
_seccomp.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
_seccomp.seccomp_rule_add_array.argtypes = (
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_void_p,
)
_seccomp.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
_seccomp.seccomp_syscall_resolve_num_arch.argtypes = (ctypes.c_uint32, ctypes.c_int)


class Call:
    """A system call that a thread is about to make."""

    def __init__(self, tid: int) -> None:
        self.tid = tid
        buffer = ctypes.create_string_buffer(96)
        _ptrace(_SYSCALL_INFO, tid, 96, ctypes.addressof(buffer))
        self.where = struct.unpack_from("=QQ", buffer, 8)
        number, *self.arguments = struct.unpack_from("=Q6Q", buffer, 24)
        self.call = _name_of(number)

    @property
    def name(self) -> str:
        """What it does to what; the same in every run. Empty if it only asks."""
        if self.call in ("open", "openat"):
            flags = self.arguments[2 if self.call == "openat" else 1]
            words = [word for word in ("O_CREAT", "O_TRUNC", "O_APPEND") if flags & getattr(os, word)]
            return " ".join((self.call, self._path(self._string(_STRINGS[self.call][0])), *words))
        if self.call in _STRINGS:
            return " ".join((self.call, *(self._path(self._string(one)) for one in _STRINGS[self.call])))
        if self.call in ("clone", "clone3", "fork", "vfork"):
            return self.call
        if self.call == "socket":
            family, kind, protocol = self.arguments[:3]
            return f"socket {_socket_name(family, kind & 0xF, protocol)}"
        if self.call not in _DESCRIPTORS:
            return self.call
        descriptor = self.arguments[0] & 0xFFFFFFFF
        target = self._descriptor(descriptor)
        if self.call in ("sendto", "sendmsg") and target.startswith("netlink"):
            messages = self._messages(target)
            return f"{self.call} {target} {' '.join(messages)}" if messages else ""
        if self.call in ("ioctl", "setsockopt"):
            option = f" {self.arguments[2]}" if self.call == "setsockopt" else ""
            return f"{self.call} {target} {self.arguments[1]:#x}{option}"
        if self.call == "flock" and self.arguments[1] & 8:
            return f"flock {target} LOCK_UN"
        return f"{self.call} {target}"

    def _path(self, path: str) -> str:
        return _VARIABLE.sub("N", _TEMPORARY.sub("", path))

    def _string(self, argument: int) -> str:
        data = self._read(self.arguments[argument], 4096)
        return data.split(b"\0", 1)[0].decode(errors="replace")

    def _read(self, address: int, size: int) -> bytes:
        """Memory of the thread, as far as it goes."""
        with open(f"/proc/{self.tid}/mem", "rb", buffering=0) as memory:
            while size > 0:
                try:
                    return os.pread(memory.fileno(), size, address)
                except OSError:
                    size = min(size, 4096 - address % 4096) if size > 4096 - address % 4096 else 0
        return b""

    def _descriptor(self, number: int) -> str:
        try:
            path = os.readlink(f"/proc/{self.tid}/fd/{number}")
        except OSError:
            return "closed"
        if path.startswith("socket:"):
            return self._socket(number)
        if path.startswith("pipe:") and number in _STANDARD:
            return _STANDARD[number]
        if path.startswith(("pipe:", "net:", "anon_inode:")):
            return path.split(":[")[0]
        return self._path(path)

    def _socket(self, number: int) -> str:
        pidfd = os.pidfd_open(_process_of(self.tid))
        try:
            copy = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
        finally:
            os.close(pidfd)
        with socket.socket(fileno=copy) as sock:
            asked = (_SO_DOMAIN, socket.SO_TYPE, _SO_PROTOCOL)
            return _socket_name(*(sock.getsockopt(socket.SOL_SOCKET, one) for one in asked))

    def _messages(self, target: str) -> list[str]:
        """The netlink messages that change something."""
        address, size = self.arguments[1:3]
        if self.call == "sendmsg":
            _, _, vector, count = struct.unpack("=QQQQ", self._read(self.arguments[1], 32))
            parts = struct.iter_unpack("=QQ", self._read(vector, 16 * count))
            data = b"".join(self._read(base, length) for base, length in parts)
        else:
            data = self._read(address, min(size, 1 << 20))
        found, offset = [], 0
        while offset + 16 <= len(data):
            length, kind, _flags = struct.unpack_from("=IHH", data, offset)
            if not _is_question(target, kind):
                found.append(f"{kind:#x}")
            offset += max(16, (length + 3) & ~3)
        names = Counter(found)
        return [name if names[name] == 1 else f"{name}x{names[name]}" for name in names]


class Tracer:
    """What is known of the processes, and what is to be done to them."""

    def __init__(self, orders: str) -> None:
        self._orders_path = orders
        self._begun = False
        self._tids: set[int] = set()
        self.obey()

    def obey(self, *_signal: object) -> None:
        """Read the orders, and count anew."""
        with open(self._orders_path) as file:
            self._orders: dict[str, Any] = json.load(file)
        self._points: list[str] = []
        self._counts: Counter[str] = Counter()
        self._hit = ""
        self._last: tuple[object, ...] = ()
        self._write(asked=False)

    def tell(self, *_signal: object) -> None:
        """Say what has happened."""
        self._write(asked=True)

    def _write(self, *, asked: bool) -> None:
        report = {"serial": self._orders["serial"], "asked": asked, "hit": self._hit, "points": self._points}
        path = self._orders["report"]
        with open(f"{path}.new", "w") as file:
            json.dump(report, file)
        os.rename(f"{path}.new", path)

    def run(self, argv: list[str]) -> int:
        """Run a program to its end, and that of all its children; returns its exit status."""
        child = _start(argv)
        self._tids.add(child)
        status = 0
        while True:
            try:
                tid, state = os.waitpid(-1, _WALL)
            except ChildProcessError:
                break
            if os.WIFEXITED(state) or os.WIFSIGNALED(state):
                self._tids.discard(tid)
                if tid == child:
                    status = os.waitstatus_to_exitcode(state)
                continue
            self._tids.add(tid)
            event, number = state >> 16, os.WSTOPSIG(state)
            passed_on = 0
            if event == _EVENT_EXEC:
                self._begun = True
            elif event == _EVENT_SECCOMP:
                try:
                    self._meet(tid)
                except ProcessLookupError:
                    continue  # killed meanwhile
            elif not event:
                passed_on = number
            _resume(tid, passed_on)
        return status if status >= 0 else 128 - status

    def _meet(self, tid: int) -> None:
        if not self._begun:
            return
        role = _command_of(tid)
        if self._orders["only"] and role not in self._orders["only"]:
            return
        call = Call(tid)
        name = call.name
        if not name:
            return
        # The kernel begins a write to a forwarding setting anew while another process holds the routing lock.
        this = (tid, call.call, call.where, *call.arguments)
        if this == self._last and "/proc/sys/" in name:
            return
        self._last = this
        name = f"{role}: {name}"
        self._counts[name] += 1
        self._points.append(name)
        aim = self._orders.get("name"), self._orders.get("occurrence")
        if not self._hit and (name, self._counts[name]) == aim:
            self._hit = name
            self._strike(tid)

    def _strike(self, tid: int) -> None:
        if error := self._orders.get("error"):
            registers = _Registers()
            _ptrace(_GETREGS, tid, 0, ctypes.addressof(registers))
            registers.orig_rax = ctypes.c_ulonglong(-1).value
            registers.rax = ctypes.c_ulonglong(-int(getattr(errno, error))).value
            _ptrace(_SETREGS, tid, 0, ctypes.addressof(registers))
            return
        victims = (
            {_process_of(one) for one in self._tids}
            if self._orders["victim"] == "all"
            else {_process_of(tid)}
        )
        for process in victims - {0}:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _start(argv: list[str]) -> int:
    """A child that executes a program under the filter."""
    ready, go = os.pipe()
    rules = _filter()
    child = os.fork()
    if child == 0:
        try:
            os.close(go)
            os.read(ready, 1)
            if _seccomp.seccomp_load(rules) == 0:
                os.execv(argv[0], argv)  # noqa: S606
        finally:
            os._exit(127)
    _ptrace(_SEIZE, child, 0, _OPTIONS)
    os.close(ready)
    os.close(go)
    return child


def _filter() -> int:
    rules = _seccomp.seccomp_init(_TRACE)
    _seccomp.seccomp_attr_set(rules, _NO_NEW_PRIVILEGES, 0)
    _seccomp.seccomp_attr_set(rules, _OPTIMIZE, 2)

    def allow(call: str, *comparison: int) -> None:
        number = _seccomp.seccomp_syscall_resolve_name(call.encode())
        given = _Comparison(*comparison)
        _seccomp.seccomp_rule_add_array(
            rules, _ALLOW, number, 1 if comparison else 0, ctypes.addressof(given) if comparison else None
        )

    for call in _HARMLESS:
        allow(call)
    allow("open", 1, _MASKED, _WRITING, 0)
    allow("openat", 2, _MASKED, _WRITING, 0)
    for request in _HARMLESS_IOCTLS:
        allow("ioctl", 1, _EQUAL, request, 0)
    for command in _HARMLESS_FCNTLS:
        allow("fcntl", 1, _EQUAL, command, 0)
    return int(rules)


def _ptrace(request: int, tid: int, address: int, data: int) -> int:
    result = int(_libc.ptrace(request, tid, address, data))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _resume(tid: int, number: int) -> None:
    try:
        _ptrace(_CONT, tid, 0, number)
    except ProcessLookupError:
        return


def _name_of(number: int) -> str:
    found = _seccomp.seccomp_syscall_resolve_num_arch(0, number)
    return found.decode() if found else f"syscall {number}"


def _socket_name(family: int, kind: int, protocol: int) -> str:
    if family == socket.AF_NETLINK:
        return f"netlink-{_NETLINK.get(protocol, protocol)}"
    return f"{_FAMILIES.get(family, family)}-{_KINDS.get(kind, kind)}"


def _is_question(target: str, kind: int) -> bool:
    """Whether a netlink message only asks; rtnetlink's come in fours: NEW, DEL, GET, SET."""
    if target == "netlink-route":
        return kind % 4 == 2
    if target == "netlink-netfilter":
        return kind >> 8 == 10 and kind & 0xFF in _NFT_QUESTIONS
    return False


def _process_of(tid: int) -> int:
    try:
        with open(f"/proc/{tid}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("Tgid:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _command_of(tid: int) -> str:
    with open(f"/proc/{_process_of(tid)}/comm") as file:
        return file.read().strip()


def main() -> int:
    """Do what the command line says."""
    orders, *argv = sys.argv[1:]
    tracer = Tracer(orders)
    signal.signal(signal.SIGUSR1, tracer.obey)
    signal.signal(signal.SIGUSR2, tracer.tell)
    status = tracer.run(argv)
    tracer.tell()
    return status


if __name__ == "__main__":
    sys.exit(main())
