"""A finding, and how one comes about. What kinds there are stands in catalogue.py."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...model.complaints import show
from .catalogue import KINDS
from .kind import Severity

# Exit status of the command by the worst severity.
STATUS: dict[Severity, int] = {"ok": 0, "note": 0, "warning": 1, "error": 2}
RANK: tuple[Severity, ...] = ("ok", "note", "warning", "error")
_SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has to say.

    Attributes:
        summary: what is wrong, or for `ok` what is right.
        evidence: what was seen.
        cure: what to do, a command where there is one.
    """

    id: str
    severity: Severity
    summary: str
    evidence: str = ""
    cure: str = ""

    @property
    def area(self) -> str:
        """The heading that it stands under."""
        return KINDS[self.id].area


def good(kind: str, summary: str) -> Finding:
    """All is well with what a kind of finding is about."""
    return Finding(kind, "ok", _printable(summary))


def bad(
    kind: str,
    evidence: str,
    *,
    severity: Severity | None = None,
    cure: str = "",
    **values: str | Sequence[str],
) -> Finding:
    """Something is not.

    Args:
        severity: another one than usual, where the circumstances make it so.
        cure: a better one than usual.
        values: for the placeholders of the usual one; quoted as a shell needs it.
    """
    known = KINDS[kind]
    words = {name: [value] if isinstance(value, str) else value for name, value in values.items()}
    filled = {name: " ".join(shlex.quote(_printable(one)) for one in some) for name, some in words.items()}
    return Finding(
        kind,
        severity or known.severity,
        known.summary,
        _printable(evidence),
        cure or known.cure.format_map(filled).rstrip(),
    )


def listed(items: Iterable[str]) -> str:
    """Some of many, and how many more."""
    found = list(items)
    more = len(found) - _SHOWN_MAX
    return ", ".join(found[:_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _printable(text: str) -> str:
    """Names and contents of files may hold what a terminal would obey."""
    return (
        text if text.isprintable() else "".join(one if one.isprintable() else show(one)[1:-1] for one in text)
    )
