"""A pod's or container's network namespace that a runtime has made."""

from __future__ import annotations

import json
import os
from typing import Any

from lab import Namespace


class Sandbox(Namespace):
    """Like the lab's own, but the runtime makes it, removes it and decides where it is."""

    def __init__(self, path: str) -> None:
        self.name = os.path.basename(path)
        self.path = path

    def show(self, command: str) -> list[dict[str, Any]]:
        # `ip -n` knows only the names in /run/netns.
        return [item for item in json.loads(self.run("ip", "-j", "-d", *command.split()) or "[]") if item]

    def links(self) -> list[str]:
        return sorted(link["ifname"] for link in self.show("link show"))
