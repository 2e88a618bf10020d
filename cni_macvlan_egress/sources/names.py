"""DNS names, asked of the node's own resolver (getaddrinfo(3): /etc/resolv.conf, nsswitch.conf)."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Collection, Sequence

from ..model.addresses import IPAddress
from ..protocol.errors import TRY_AGAIN_LATER, CniError

DEADLINE_SECONDS = 5.0
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_AT_ONCE = 16
_DOUBTFUL = "check the name and the node's /etc/resolv.conf"
_CROWDED = "look for what uses up its memory or its tasks (pids.max)"


def resolve(
    names: Sequence[str], families: Collection[int], deadline_seconds: float = DEADLINE_SECONDS
) -> dict[str, tuple[IPAddress, ...]]:
    """All addresses of every name in the families, sorted; the names are asked for side by side.

    Raises:
        Unresolved: a name does not exist or is not answered for in time, or cannot be asked for.
    """
    asked = [_Question(name, families) for name in names]
    deadline = time.monotonic() + deadline_seconds
    # Threads that hang in the resolver cannot be stopped; as daemons they do not keep the process.
    for start in range(0, len(asked), _AT_ONCE):
        group = asked[start : start + _AT_ONCE]
        for one in group:
            try:
                one.start()
            except RuntimeError:
                raise Unresolved(one.host, "no more threads can be had", _CROWDED) from None
        for one in group:
            one.join(max(0.0, deadline - time.monotonic()))
            if one.is_alive():
                raise Unresolved(one.host, f"the node's resolver gave no answer in {deadline_seconds:g} s")
    for one in asked:
        if one.reason:
            raise Unresolved(one.host, one.reason)
    return {one.host: one.addresses for one in asked}


class Unresolved(CniError):
    """A name that led nowhere this time.

    Attributes:
        name: the name.
    """

    def __init__(self, name: str, reason: str, cure: str = _DOUBTFUL) -> None:
        super().__init__(TRY_AGAIN_LATER, f"{name} cannot be resolved on this node: {reason}; {cure}")
        self.name = name


class _Question(threading.Thread):
    def __init__(self, host: str, families: Collection[int]) -> None:
        super().__init__(daemon=True)
        self.host = host
        self.addresses: tuple[IPAddress, ...] = ()
        self.reason = ""
        self._families = families

    def run(self) -> None:
        family = _FAMILIES[next(iter(self._families))] if len(self._families) == 1 else socket.AF_UNSPEC
        try:
            # The dot keeps the search domains of resolv.conf out of it: another name is another destination.
            found = socket.getaddrinfo(f"{self.host}.", None, family, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self.reason = str(error.strerror if isinstance(error, OSError) else error)
            return
        addresses = {ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found}
        self.addresses = tuple(sorted(addresses, key=lambda address: (address.version, address)))
