"""The plugin's directories and its log file: can they be written, and is there room."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from .check import Check
from .finding import Finding, bad, good
from .node import Node

# An attachment takes some kilobytes and a handful of files.
_BYTES_MIN, _FILES_MIN = 4 << 20, 64
_LOG_BYTES_MAX = 256 << 20
_VOLATILE = ("tmpfs", "ramfs", "devtmpfs")
_MOUNTS = "/proc/thread-self/mountinfo"


def _directories(node: Node) -> Iterator[Finding]:
    for kind, path in (("state-dir", node.state_dir), ("run-dir", node.run_dir)):
        obstacle = _obstacle(path)
        if obstacle:
            yield bad(kind, f"{path}: {obstacle}", path=path)
        else:
            yield good(kind, path)


def _room(node: Node) -> Iterator[Finding]:
    for path in dict.fromkeys(map(_nearest, (node.state_dir, node.run_dir, os.path.dirname(node.log_file)))):
        found = os.statvfs(path)
        room, files = found.f_bavail * found.f_frsize, found.f_favail
        counted = found.f_files > 0  # some file systems count none
        if room < _BYTES_MIN or (counted and files < _FILES_MIN):
            evidence = f"{path}: {room >> 10} KiB left" + (f", and {files} files" if counted else "")
            yield bad("disk-space", evidence, path=path)
        else:
            yield good("disk-space", f"{path}: {room >> 20} MiB left")


def _volatility(node: Node) -> Iterator[Finding]:
    kind = _file_system(os.path.realpath(_nearest(node.run_dir)))
    if kind in _VOLATILE:
        yield good("run-dir-volatile", f"{node.run_dir} is on {kind}")
    else:
        yield bad("run-dir-volatile", f"{node.run_dir} is on {kind}")


def _log(node: Node) -> Iterator[Finding]:
    path = node.log_file
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK):
            yield good("log-file", f"{path} will be made")
        else:
            yield bad("log-file", f"{parent} is no directory that can be written to", path=path)
        return
    except NotADirectoryError:
        yield bad("log-file", f"{path}: a parent is no directory", path=path)
        return
    # A link would not be followed: in a directory that others write to, it may lead anywhere.
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.W_OK):
        evidence = f"{path} is {stat.filemode(status.st_mode)}, or on a read-only file system"
        yield bad("log-file", evidence, path=path)
        return
    yield good("log-file", path)
    if status.st_size > _LOG_BYTES_MAX:
        yield bad("log-size", f"{path} has {status.st_size >> 20} MiB", path=path)


CHECKS = (
    Check("the plugin's directories", _directories, needs_root=True),
    Check("room on the disk", _room),
    Check("the run-time directory's file system", _volatility),
    Check("the log file", _log, needs_root=True),
)


def _nearest(path: str) -> str:
    """The path, or the nearest parent that is there."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _obstacle(path: str) -> str:
    """Why a directory cannot be made or written to; nothing is tried."""
    existing = _nearest(path)
    if not os.path.isdir(existing):
        return f"{existing} is no directory"
    if not os.access(existing, os.W_OK | os.X_OK):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        return f"{existing} is {'on a read-only file system' if read_only else 'not writable'}"
    return ""


def _file_system(path: str) -> str:
    """The type of the file system that a path is on (proc_pid_mountinfo(5)); a later mount covers an earlier one."""
    best, kind = "", "an unknown file system"
    with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            point = before.split(" ")[4].replace("\\040", " ")
            within = path == point or path.startswith(f"{point.rstrip('/')}/")
            if within and len(point) >= len(best):
                best, kind = point, after.split(" ")[0]
    return kind
