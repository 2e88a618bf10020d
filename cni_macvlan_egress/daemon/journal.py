"""The daemon's own log: one JSON object a line on stderr, where a service manager or container runtime keeps it."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress


def tell(level: str, message: str, **fields: object) -> None:
    """Write a line, in one piece; one that cannot be written stops nothing."""
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "level": level,
        "msg": message,
        **fields,
    }
    with suppress(OSError):
        os.write(2, json.dumps(line, default=str).encode() + b"\n")
