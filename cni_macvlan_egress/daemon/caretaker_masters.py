"""The NICs that attachments sit on: whether they work, and when they come back."""

from __future__ import annotations

from collections.abc import Iterable

from ..decide.care import trouble_of_master
from ..kernel.netlink import Netlink
from . import journal
from .caretaker_counters import CaretakerCounters


class Masters:
    """Those of this node.

    Args:
        tell: whether trouble is logged.
    """

    def __init__(self, counters: CaretakerCounters, *, tell: bool) -> None:
        self._counters = counters
        self._tell = tell
        self._trouble: dict[str, str] = {}
        self._indexes: dict[str, int] = {}

    def changed(self, names: Iterable[str]) -> list[str]:
        """Look at them; those that have changed for the better or the worse since the last look."""
        found = {}
        names = sorted(names)
        with Netlink() as netlink:
            for name in names:
                link = netlink.link(name)
                found[name] = trouble_of_master(link, self._indexes.get(name, 0))
                if link is not None:
                    self._indexes[name] = link.index  # the next attachments are on this one
        changed = [name for name in names if found[name] != self._trouble.get(name, "")]
        if self._tell:
            for name in changed:
                if found[name]:
                    journal.tell("warning", f"NIC {name} of attachments: {found[name]}", master=name)
                else:
                    journal.tell("info", f"NIC {name} of attachments works again", master=name)
        self._trouble = found
        self._indexes = {name: index for name, index in self._indexes.items() if name in found}
        self._counters.show("masters_unusable", sum(map(bool, found.values())))
        return changed
