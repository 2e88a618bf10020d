"""A program on a pseudo-terminal, as somebody sits before it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

PATIENCE_SECONDS = 20.0
_CONTROL = re.compile(r"\x1b\[[0-9;?<>=]*[a-zA-Z]|\x1b[=>]|[\x07\r]")


class Terminal:
    """One program; what it shows is read without control sequences."""

    def __init__(
        self, argv: Sequence[str], *, columns: int = 80, environment: dict[str, str] | None = None
    ) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            try:
                # Before the program looks.
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
                os.execvpe(argv[0], list(argv), {**kept, "TERM": "dumb", **(environment or {})})  # noqa: S606
            finally:
                os._exit(127)
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)  # the program is hung up on
        os.waitpid(self._pid, 0)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._fd, keys.encode())

    def read_until(self, text: str) -> str:
        """All that is shown up to some text, and that; what comes after it is for the next one who reads."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self._shown:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            part = self._read() if ready else b""
            assert part, f"{text!r} was not shown, but: {self._shown!r}"
            self._shown = _CONTROL.sub("", self._shown + part.decode(errors="replace"))
        found, mark, self._shown = self._shown.partition(text)
        return found + mark

    def read_to_the_end(self) -> str:
        """All that is shown until the program ends."""
        while part := self._read():
            self._shown += part.decode()
        return _CONTROL.sub("", self._shown)

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, 1 << 16)
        except OSError:  # EIO: the program has ended
            return b""
