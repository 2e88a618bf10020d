"""The model: what each pod's attachment may be, from what its calls have answered, and which answers it allows.

attached   the last call that decided it was an ADD that succeeded
absent     ... a DEL that succeeded, an ADD that failed, or there was none
unknown    that call was killed, failed half-way for a reason from outside, or another one went on at the same time:
           until the next DEL that succeeds

Nothing in here touches a kernel.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Standing = Literal["attached", "absent", "unknown"]
UNKNOWN_CONTAINER, TRY_AGAIN_LATER = 3, 11
ADDRESS_HELD, ADDRESS_CONFLICT, DRIFT, ALREADY_ATTACHED = 103, 104, 107, 108


@dataclass(slots=True)
class Entry:
    """What is known of one pod's attachment.

    Attributes:
        passing: the pod asks for nothing, and nothing may be made for it.
        namespace_gone: its namespace has been removed, or is about to be.
        busy: how many calls for it are under way.
    """

    standing: Standing = "absent"
    passing: bool = False
    rival: bool = False
    namespace_gone: bool = False
    busy: int = 0


@dataclass(slots=True)
class Pending:
    """A call that is under way.

    Attributes:
        before: what the attachment was when it began.
        listed: the result that is passed on lists the interface; without it CHECK has nothing to look for.
        alone: no other call for the pod went on meanwhile.
        disturbed: something from outside may have made it fail, but for DEL.
        dirty: ... or kept it from taking back what it had done, DEL too.
        shaken: ... or has taken away what it made.
    """

    verb: str
    pod: int
    before: Standing
    gone_before: bool
    listed: bool
    alone: bool = True
    disturbed: bool = False
    dirty: bool = False
    shaken: bool = False


@dataclass(slots=True)
class Ledger:
    """The book of one round.

    Attributes:
        faults: what contradicted the model, in words.
        entries: of every pod, and a last one that stands for the node.
        busy_answers: how many calls were told to try again later.
    """

    entries: list[Entry]
    faults: list[str] = field(default_factory=list)
    busy_answers: int = 0
    _disturbed: bool = False
    _dirty: bool = False
    _shaking: bool = False
    _pending: list[Pending] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, verb: str, pod: int, *, listed: bool = False) -> Pending:
        """A call is about to be made."""
        with self._lock:
            entry = self.entries[pod]
            entry.busy += 1
            mine = Pending(
                verb,
                pod,
                entry.standing,
                entry.namespace_gone,
                listed,
                disturbed=self._disturbed,
                dirty=self._dirty,
                shaken=self._shaking,
            )
            if entry.busy > 1:
                mine.alone = False
                for other in self._pending:
                    if other.pod == pod:
                        other.alone = False
            self._pending.append(mine)
            return mine

    def end(self, call: Pending, code: int | None, text: str = "") -> None:
        """It has ended.

        Args:
            code: of the error; 0 for success; None if it was killed or gave no answer.
            text: for a complaint.
        """
        with self._lock:
            self._pending.remove(call)
            entry = self.entries[call.pod]
            entry.busy -= 1
            self.busy_answers += code == TRY_AGAIN_LATER
            if not _allowed(call, entry, code):
                self.faults.append(
                    f"pod {call.pod}: {call.verb} answered {code} {text} ({_words(call, entry)})"
                )
            entry.standing = _standing_after(call, entry, code)

    def remove_namespace(self, pod: int) -> None:
        """The pod's namespace goes; what goes on in it may fail, and if not, it was made for nobody."""
        with self._lock:
            self.entries[pod].namespace_gone = True
            for call in self._pending:
                if call.pod == pod:
                    call.disturbed = call.shaken = True

    def disturb(self, *, dirty: bool = False, shaking: bool = False) -> None:
        """From now on calls may fail.

        Args:
            dirty: also their way back, and DEL.
            shaking: what is made meanwhile will not be whole afterwards.
        """
        with self._lock:
            self._disturbed, self._dirty, self._shaking = True, dirty, shaking
            for call in self._pending:
                call.disturbed = True
                call.dirty = call.dirty or dirty
                call.shaken = call.shaken or shaking

    def calm(self) -> None:
        """No longer."""
        with self._lock:
            self._disturbed = self._dirty = self._shaking = False

    def shake(self) -> None:
        """What was attached has been taken away, or may have been, and what is being made as well."""
        with self._lock:
            for entry in self.entries:
                if entry.standing == "attached":
                    entry.standing = "unknown"
            for call in self._pending:
                call.shaken = True

    def collected(self, pods: Iterable[int], code: int | None) -> None:
        """A GC has ended that did not find some pods among the valid ones."""
        with self._lock:
            for pod in pods:
                if code == 0:
                    self.entries[pod].standing = "absent"
                elif self.entries[pod].standing == "attached":
                    self.entries[pod].standing = "unknown"

    def of(self, standing: Standing) -> list[int]:
        """The pods of which this is known."""
        return [pod for pod, entry in enumerate(self.entries[:-1]) if entry.standing == standing]


def _allowed(call: Pending, entry: Entry, code: int | None) -> bool:
    """Whether the model has room for an answer."""
    if code in (None, TRY_AGAIN_LATER) or call.dirty:
        return True
    if call.verb in ("DEL", "GC"):
        return code == 0
    if call.disturbed:
        return True
    if call.verb == "STATUS":
        return code == 0
    if entry.passing:
        return code == 0 if call.verb == "ADD" else code in (0, UNKNOWN_CONTAINER)
    if not call.alone:
        return code in (0, UNKNOWN_CONTAINER, DRIFT, ALREADY_ATTACHED)
    if call.verb == "CHECK":
        if call.before == "unknown" or (call.before == "absent" and not call.listed):
            return True
        return (code == 0) == (call.before == "attached" and not call.gone_before)
    if call.gone_before:
        return code != 0
    if call.before == "attached":
        return code == ALREADY_ATTACHED
    if call.before == "unknown" and code == ALREADY_ATTACHED:
        return True
    return code == 0 or (entry.rival and code in (ADDRESS_HELD, ADDRESS_CONFLICT))


def _standing_after(call: Pending, entry: Entry, code: int | None) -> Standing:
    if call.verb in ("CHECK", "GC", "STATUS"):
        return entry.standing
    if not call.alone or code in (None, TRY_AGAIN_LATER):
        return "unknown"
    if call.verb == "DEL":
        return "absent" if code == 0 else "unknown"
    if entry.passing:
        return "absent"
    if code == 0:
        return "unknown" if call.shaken else "attached"
    if code == ALREADY_ATTACHED:
        return "unknown" if call.shaken else call.before
    return "absent" if call.before == "absent" and not call.dirty else "unknown"


def _words(call: Pending, entry: Entry) -> str:
    words = [f"it was {call.before}"]
    words += ["disturbed"] if call.disturbed else []
    words += ["its namespace gone"] if entry.namespace_gone else []
    words += ["contested"] if not call.alone else []
    return ", ".join(words)
