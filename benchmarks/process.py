"""One whole process, timed; what is added by the measuring is a vfork and three pipes' ends."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

# Longer than any plugin may take, so that one that hangs ends the benchmark and not the user's patience.
TIMEOUT_SECONDS = 60
_PIPE_BYTES = 65536  # pipe(7): what fits before anybody reads
# Python ignores these, and a child would inherit that; a runtime's children do not.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)


class BenchmarkError(Exception):
    """Something that was to be measured failed, or is missing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one act took, in milliseconds.

    Attributes:
        wall: by the clock.
        cpu: processor time, user and system, of all the processes involved.
    """

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Program:
    """What is executed, exactly so every time."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    stdin: bytes = b""

    def run(self) -> tuple[Sample, bytes]:
        """Execute it in the calling thread's namespaces; returns its cost and what it printed.

        Raises:
            BenchmarkError: it could not be started, failed, or did not end.
        """
        assert len(self.stdin) <= _PIPE_BYTES
        read_in, write_in = os.pipe()
        read_out, write_out = os.pipe()
        complaints = os.memfd_create("stderr")
        try:
            os.write(write_in, self.stdin)
            os.close(write_in)
            actions = [
                (os.POSIX_SPAWN_DUP2, source, target)
                for target, source in enumerate((read_in, write_out, complaints))
            ]
            start = time.perf_counter_ns()
            try:
                child = os.posix_spawn(
                    self.argv[0],
                    self.argv,
                    self.environment,
                    file_actions=actions,
                    setpgroup=0,  # Ctrl-C is for the benchmark
                    setsigdef=_DEFAULT_SIGNALS,
                )
            except OSError as error:
                raise BenchmarkError(f"cannot run {self.argv[0]}: {error.strerror}") from None
            finally:
                os.close(read_in)
                os.close(write_out)
            output, ended = _read(read_out)
            if not ended:
                os.killpg(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            wall = time.perf_counter_ns() - start
            if not ended:
                raise BenchmarkError(f"{self.argv[0]} has not ended after {TIMEOUT_SECONDS} s")
            if status:
                said = os.pread(complaints, _PIPE_BYTES, 0)
                words = " ".join((output + b" " + said).decode(errors="replace").split())
                code = os.waitstatus_to_exitcode(status)
                raise BenchmarkError(f"{' '.join(self.argv)}: exit status {code}: {words or 'no word'}")
        finally:
            os.close(read_out)
            os.close(complaints)
        return Sample(wall / 1e6, (usage.ru_utime + usage.ru_stime) * 1e3), output


def _read(fd: int) -> tuple[bytes, bool]:
    """What comes until the other side closes, and whether it did so in time."""
    readable = select.poll()
    readable.register(fd, select.POLLIN)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    chunks: list[bytes] = []
    while (left := deadline - time.monotonic()) > 0:
        if not readable.poll(left * 1000):
            break
        chunk = os.read(fd, _PIPE_BYTES)
        if not chunk:
            return b"".join(chunks), True
        chunks.append(chunk)
    return b"".join(chunks), False
