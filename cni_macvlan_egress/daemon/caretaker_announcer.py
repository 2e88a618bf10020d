"""Announces the addresses of attachments again, for switches and hosts that missed it or have forgotten."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

from ..attach.announcing import announce_again
from ..attach.contest import other_holder, step_back
from ..attach.roster import Attachment, Roster
from ..decide.care import FIRST_ANNOUNCEMENTS, next_announcement
from ..kernel.frames import Claim
from ..kernel.netlink import Netlink
from ..protocol.errors import CniError
from . import journal
from .caretaker import CaretakerSettings
from .caretaker_counters import CaretakerCounters

# So many attachments of a NIC that has come back are announced a second,
_RATE = 100.0
# and so many as a rule: each broadcast goes to all macvlans of the NIC, so that the work grows with their square.
_STEADY_RATE = 5.0


class Announcer:
    """Knows when each attachment is due; times are of time.monotonic()."""

    def __init__(self, settings: CaretakerSettings, roster: Roster, counters: CaretakerCounters) -> None:
        self._every = settings.announce_every
        self._run_dir = settings.run_dir
        self._steps_back = settings.drift == "repair"
        self._roster = roster
        self._counters = counters
        self._born: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._failed: set[str] = set()
        self._contested: dict[str, Claim] = {}

    def renew(self) -> None:
        """The roster has changed."""
        if not self._every:
            return
        there = {key: one for key, one in self._roster.attachments.items() if one.addresses}
        for key in self._due.keys() - there.keys():
            del self._due[key], self._born[key]
            self._failed.discard(key)
            self._contested.pop(key, None)
        now = time.monotonic()
        for key in there.keys() - self._due.keys():
            age = max(0.0, time.time() - there[key].since)
            self._born[key] = now - age
            if age < FIRST_ANNOUNCEMENTS[-1]:
                self._due[key] = now - age + next_announcement(age, self._every)
            else:  # an old one that a new caretaker comes to know: not all of them at once
                self._due[key] = now + random.uniform(0, self._every)

    def start_over(self, master: str) -> None:
        """A NIC has changed: announce all that sit on it as if they were new."""
        now = time.monotonic()
        mine = [key for key in self._due if self._roster.attachments[key].master == master]
        for number, key in enumerate(mine):
            self._born[key] = now + number / _RATE
            self._due[key] = self._born[key] + FIRST_ANNOUNCEMENTS[0]

    def work(self, is_over: Callable[[], bool]) -> None:
        """Announce those that are due."""
        now = time.monotonic()
        for key in [key for key, due in self._due.items() if due <= now]:
            if is_over():
                return
            self._announce(self._roster.attachments[key])
            every = max(self._every, len(self._due) / _STEADY_RATE)
            self._due[key] = self._born[key] + next_announcement(now - self._born[key], every)

    def _announce(self, one: Attachment) -> None:
        try:
            sandbox = one.sandbox()
            if sandbox is None:
                return
            with sandbox:
                claim = sandbox.run(partial(other_holder, one)) if one.asks else None
                sent = claim is None and sandbox.run(partial(_tell, one))
            self._contest(one, claim)
        except CniError as error:
            self._counters.count("announcements_failed")
            if one.key not in self._failed:
                self._failed.add(one.key)
                journal.tell(
                    "warning", "an announcement failed", attachment=one.key, pod=one.pod, reason=str(error)
                )
            return
        self._failed.discard(one.key)
        self._counters.count("announcements", int(sent))

    def _contest(self, one: Attachment, claim: Claim | None) -> None:
        """Another host has an address of ours: say so, and step back if that is wished."""
        before = self._contested.pop(one.key, None)
        if claim is not None:
            self._contested[one.key] = claim
        if claim is not None and claim != before:
            journal.tell(
                "warning",
                f"address {claim.address} is held by another host of the LAN too, and is not announced",
                attachment=one.key, pod=one.pod, mac=claim.mac,
            )  # fmt: skip
        if claim is None and before is not None:
            journal.tell(
                "info", f"address {before.address} is ours alone again", attachment=one.key, pod=one.pod
            )
        self._counters.show("contested", len(self._contested))
        if claim is not None and self._steps_back and step_back(self._roster, self._run_dir, one.key, claim):
            self._counters.count("stepped_back")
            journal.tell("warning", f"address {claim.address} was taken off", attachment=one.key, pod=one.pod)


def _tell(one: Attachment) -> bool:
    with Netlink() as netlink:
        return announce_again(netlink, one.interface, one.mac, one.addresses)
