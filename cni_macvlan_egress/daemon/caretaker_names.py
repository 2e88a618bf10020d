"""Asks for the names in attachments' destinations again when their answers expire, and follows them."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping

from ..attach import refresh
from ..attach.roster import Attachment, Roster
from ..model.addresses import IPAddress, IPNetwork
from ..model.policy import Answer
from ..protocol.errors import CniError
from ..sources import hosts_file
from ..sources.resolver import Resolver
from . import journal
from .caretaker import CaretakerSettings, Stop
from .caretaker_counters import CaretakerCounters

SHORTEST_SECONDS, LONGEST_SECONDS = 5.0, 3600.0
MOST_ADDRESSES = 64
_HOSTS_FILE_SECONDS = 30.0
_RETRY_SECONDS = 5.0
_TICK_SECONDS = 1.0
_RETIRED_SECONDS = 10.0


class Names:
    """One thread's work."""

    def __init__(
        self, settings: CaretakerSettings, roster: Roster, counters: CaretakerCounters, stop: Stop
    ) -> None:
        self._run_dir = settings.run_dir
        self._roster = roster
        self._counters = counters
        self._stop = stop
        self._resolver = Resolver(
            shortest_ttl=SHORTEST_SECONDS, longest_ttl=LONGEST_SECONDS, most_addresses=MOST_ADDRESSES
        )
        self._answers: dict[str, Answer] = {}
        self._told: dict[str, str] = {}
        self._retired_due = 0.0

    def run(self) -> None:
        """Follow the names until the end."""
        while not self._stop.is_set():
            self._counters.beat("names")
            self._refresh(self._roster.attachments)
            if time.monotonic() >= self._retired_due:
                self._retired_due = time.monotonic() + _RETIRED_SECONDS
                self._forget_retired(self._roster.attachments)
            self._stop.wait(_TICK_SECONDS)

    def _refresh(self, attachments: Mapping[str, Attachment]) -> None:
        wanted: dict[str, tuple[str, ...]] = {}
        for one in attachments.values():
            wanted.update(one.names)
        self._counters.show("names_followed", len(wanted))
        for gone in self._answers.keys() - wanted.keys():
            del self._answers[gone]
        self._told = {
            title: words for title, words in self._told.items() if title in wanted or title in attachments
        }
        now = time.time()
        # An answer that would last longer than any does: the clock has been set back.
        due = [
            name
            for name in wanted
            if name not in self._answers or not now < self._answers[name].expires <= now + LONGEST_SECONDS
        ]
        if not due:
            return
        known = {name: self._answers.get(name, Answer(wanted[name])) for name in due}
        self._answers |= self._ask(due, known, now)
        changed, failed = self._follow(due, attachments)
        for name in due:
            result = (
                "failed"
                if self._answers[name].error or name in failed
                else "changed"
                if name in changed
                else "unchanged"
            )
            self._counters.count(f"names_{result}")
            self._complain(name, self._answers[name].error, name=name)

    def _ask(self, names: list[str], known: Mapping[str, Answer], now: float) -> dict[str, Answer]:
        static = hosts_file.addresses_in(set(names))
        found = {
            name: Answer(tuple(map(str, addresses[:MOST_ADDRESSES])), now + _HOSTS_FILE_SECONDS)
            for name, addresses in static.items()
        }
        if asked := [name for name in names if name not in found]:
            found |= self._resolver.ask(asked, known, now)
        return found

    def _follow(self, names: list[str], attachments: Mapping[str, Attachment]) -> tuple[set[str], set[str]]:
        """Bring every attachment with these names to their addresses.

        Returns:
            The names with which that changed something, and those with which it failed.
        """
        changed: set[str] = set()
        failed: set[str] = set()
        own: list[IPNetwork] | None = None
        for key, one in attachments.items():
            mine = {name: self._addresses(name) for name, _ in one.names if name in names}
            usable = {name: addresses for name, addresses in mine.items() if addresses}
            if not usable or self._stop.is_set():
                continue
            try:
                own = own if own is not None else refresh.own_addresses()
                has_changed, problems = refresh.renew(self._roster, self._run_dir, key, usable, own)
            except CniError as error:
                has_changed, problems = False, (str(error),)
                for name in usable:
                    self._answers[name] = self._soon(self._answers[name])
            if has_changed:
                changed |= usable.keys()
                journal.tell(
                    "info", "names lead elsewhere now", attachment=key, pod=one.pod,
                    names={name: list(map(str, addresses)) for name, addresses in usable.items()},
                )  # fmt: skip
            if problems:
                failed |= usable.keys()
            self._complain(key, "; ".join(problems), attachment=key, pod=one.pod)
        return changed, failed

    def _addresses(self, name: str) -> tuple[IPAddress, ...]:
        return tuple(map(ipaddress.ip_address, self._answers[name].addresses))

    def _soon(self, answer: Answer) -> Answer:
        return Answer(answer.addresses, min(answer.expires, time.time() + _RETRY_SECONDS), answer.error)

    def _complain(self, title: str, words: str, **fields: object) -> None:
        """Log trouble once."""
        if words and self._told.get(title) != words:
            journal.tell("warning", "a name could not be followed in full", reason=words, **fields)
        if words:
            self._told[title] = words
        else:
            self._told.pop(title, None)

    def _forget_retired(self, attachments: Mapping[str, Attachment]) -> None:
        for key, one in attachments.items():
            if not one.retired or self._stop.is_set():
                continue
            try:
                refresh.forget_unused(self._roster, self._run_dir, key)
            except CniError as error:
                self._counters.count("errors")
                self._complain(key, str(error), attachment=key, pod=one.pod)
