"""What `install --watch` does, as a task of the daemon: the entry that was installed is put back when it gets lost."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from ..protocol.errors import CniError
from .conflist_installation import Installation, Wish
from .conflist_record import Records
from .conflist_watcher import Event, follow

_LOOK_SECONDS = 10.0
_LONGEST = 500


class ConflistTask:
    """Keeps the entry of a directory; what nobody has installed is not put there.

    Args:
        directory: where the node's conflists are.
        state_dir: of the plugin, for what was installed.
    """

    def __init__(self, directory: str, state_dir: str) -> None:
        self._directory = directory
        self._state_dir = state_dir

    def run(self, stop: int, report: Callable[[str, str], object]) -> None:
        """Keep it until a descriptor is readable.

        Args:
            report: hears what kind of thing has happened, and a sentence about it.
        """
        told = ""

        def tell(kind: str, words: str) -> None:
            nonlocal told
            if f"{kind} {words}" != told:
                told = f"{kind} {words}"
                report(kind, words[:_LONGEST])

        def hear(event: Event) -> None:
            report(event.kind, f"{event.path}: {event.text}"[:_LONGEST])

        def complain(words: str) -> None:
            tell("failed", words)

        while True:
            try:
                installation = Installation(
                    self._directory, self._named(complain), self._state_dir, say=complain
                )
                known = installation.known_entry()
            except CniError as error:  # a file that is being written, or is none of ours to mend
                tell("failed", error.msg)
                known = None
            if known is not None and not installation.withdrawn():
                follow(installation, _wish(known), stop, hear)
                return
            if select.select([stop], [], [], _LOOK_SECONDS)[0]:
                return

    def _named(self, say: Callable[[str], object]) -> str | None:
        """The file that the admin has chosen, if it was not left to us."""
        records = Records(self._state_dir, say)
        found = filter(None, map(records.load, records.files()))
        return next((record.file for record in found if record.named), None)


def _wish(known: dict[str, Any]) -> Wish:
    """What is there, or else what was."""
    return lambda present: known if present is None else present
