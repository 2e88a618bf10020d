"""The log file: one JSON object a line. Never in the way: a log that cannot be written fails nothing."""

from __future__ import annotations

import os

from .model import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = ("debug", "info", "warning", "error")


class Log:
    """Appends lines to a file.

    Args:
        path: absolute path of the file.
        level: the least level that is written, one of LEVELS.
    """

    def __init__(self, path: str, level: str = "info") -> None:
        self.path = path
        self._least = LEVELS.index(level)

    def info(self, message: str, **fields: object) -> None:
        """Write what has been done."""
        self._write("info", message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Write what an admin should look at although the call succeeded."""
        self._write("warning", message, fields)

    def error(self, message: str, **fields: object) -> None:
        """Write why a call failed."""
        self._write("error", message, fields)

    def _write(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        if LEVELS.index(level) < self._least:
            return
        import json
        import stat
        import time

        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "level": level, "msg": message}
        line.update({name: value for name, value in fields.items() if value not in ("", None)})  # type: ignore[misc]
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(self.path, flags, 0o640)
        except (OSError, ValueError):  # ValueError: a NUL byte or a lone surrogate in the path
            return
        try:
            status = os.fstat(fd)
            # A pipe has a reader whom nobody has asked; a file with another name is somebody else's.
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                return
            os.write(fd, json.dumps(line, default=str).encode() + b"\n")
        except OSError:
            pass
        finally:
            os.close(fd)


def from_configuration(configuration: Mapping[str, object]) -> Log:
    """The log that a configuration asks for, however broken the rest of it is."""
    path = configuration.get("logFile")
    level = configuration.get("logLevel")
    return Log(
        path if isinstance(path, str) and path.startswith("/") else keys.DEFAULT_LOG_FILE,
        level if isinstance(level, str) and level in LEVELS else "info",
    )
