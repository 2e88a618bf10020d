"""Names in the node's hosts(5), which its resolver looks at before it asks a name server."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from ..model.addresses import IPAddress

HOSTS = "/etc/hosts"
_MOST_BYTES = 1 << 20


def addresses_in(names: Collection[str], path: str = HOSTS) -> dict[str, tuple[IPAddress, ...]]:
    """Those of the names, in lower case without the last dot, that the file knows; none if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(_MOST_BYTES).splitlines()
    except OSError:
        return {}
    found: dict[str, dict[IPAddress, None]] = {}
    for line in lines:
        address, *titles = line.partition("#")[0].split() or [""]
        for title in titles:
            name = title.lower().removesuffix(".")
            if name in names and (parsed := _parse(address)) is not None:
                found.setdefault(name, {})[parsed] = None
    return {name: tuple(addresses) for name, addresses in found.items()}


def _parse(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
