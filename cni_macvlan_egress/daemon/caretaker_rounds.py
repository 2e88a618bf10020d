"""The caretaker's rounds by the attachments: announced again, and looked at for drift; NICs watched."""

from __future__ import annotations

import select
import time

from ..attach.roster import Roster
from ..kernel.link_events import LinkEvents
from .caretaker import CaretakerSettings, Stop
from .caretaker_announcer import Announcer
from .caretaker_counters import CaretakerCounters
from .caretaker_inspector import Inspector
from .caretaker_masters import Masters

_TICK_SECONDS = 1.0
# Every pod that comes or goes is an event of its node-side veth.
_CALM_SECONDS = 0.1
# Events may be lost; and what is there at the start has none.
_LOOK_SECONDS = 10.0


class Rounds:
    """One thread's work."""

    def __init__(
        self, settings: CaretakerSettings, roster: Roster, counters: CaretakerCounters, stop: Stop
    ) -> None:
        self._roster = roster
        self._counters = counters
        self._stop = stop
        self._announcer = Announcer(settings, roster, counters)
        self._inspector = Inspector(settings, roster, counters)
        self._masters = Masters(counters, tell=settings.drift != "off")

    def run(self) -> None:
        """Go round until the end."""
        looked = 0.0
        with LinkEvents() as events:
            while not self._stop.is_set():
                self._counters.beat("attachments")
                if self._roster.scan():
                    self._announcer.renew()
                    self._inspector.renew()
                heard = events.take()
                if heard or time.monotonic() - looked >= _LOOK_SECONDS:
                    looked = time.monotonic()
                    self._look_at_masters()
                self._announcer.work(self._stop.is_set)
                self._inspector.work(self._stop.is_set)
                if heard:
                    self._stop.wait(_CALM_SECONDS)
                select.select([events.fileno(), self._stop.fd], [], [], _TICK_SECONDS)

    def _look_at_masters(self) -> None:
        names = {one.master for one in self._roster.attachments.values()}
        for master in self._masters.changed(names):
            self._announcer.start_over(master)
            self._inspector.look_soon(master)
