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
    """What is executed, exactly so every time.

    Attributes:
        fails: that it does so is what is measured.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    stdin: bytes = b""
    fails: bool = False

    def run(self) -> tuple[Sample, bytes]:
        """Execute it in the calling thread's namespaces; returns its cost and what it printed.

        Raises:
            BenchmarkError: it could not be started, ended otherwise than expected, or not at all.
        """
        return self.start().finish()

    def start(self) -> Running:
        """Execute it and return while it runs.

        Raises:
            BenchmarkError: it could not be started.
        """
        assert len(self.stdin) <= _PIPE_BYTES
        read_in, write_in = os.pipe()
        read_out, write_out = os.pipe()
        complaints = os.memfd_create("stderr")
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
            os.close(read_out)
            os.close(complaints)
            raise BenchmarkError(f"cannot run {self.argv[0]}: {error.strerror}") from None
        finally:
            os.close(read_in)
            os.close(write_out)
        return Running(self, child, start, read_out, complaints)


@dataclass(frozen=True, slots=True)
class Running:
    """A program that has been started."""

    program: Program
    pid: int
    started: int
    output: int
    complaints: int

    def finish(self) -> tuple[Sample, bytes]:
        """Wait for its end; returns its cost and what it printed.

        Raises:
            BenchmarkError: it ended otherwise than expected, or not at all.
        """
        name = " ".join(self.program.argv)
        try:
            output, ended = _read(self.output)
            if not ended:
                os.killpg(self.pid, signal.SIGKILL)
            _, status, usage = os.wait4(self.pid, 0)
            wall = time.perf_counter_ns() - self.started
            if not ended:
                raise BenchmarkError(f"{name} has not ended after {TIMEOUT_SECONDS} s")
            if bool(status) != self.program.fails:
                said = os.pread(self.complaints, _PIPE_BYTES, 0)
                words = " ".join((output + b" " + said).decode(errors="replace").split())
                code = os.waitstatus_to_exitcode(status)
                raise BenchmarkError(f"{name}: exit status {code}: {words or 'no word'}")
        finally:
            os.close(self.output)
            os.close(self.complaints)
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
