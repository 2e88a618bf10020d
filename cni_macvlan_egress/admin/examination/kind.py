"""A kind of finding."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["ok", "note", "warning", "error"]


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        area: the heading it stands under.
        severity: if it is not `ok`; circumstances may make it another one, and the summary says so then.
        summary: what is wrong.
        cure: what to do; words in braces are filled in.
    """

    area: str
    severity: Severity
    summary: str
    cure: str
