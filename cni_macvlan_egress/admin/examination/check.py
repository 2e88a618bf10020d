"""One check, and how it survives whatever it meets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ...protocol.errors import CniError
from .finding import Finding, bad
from .node import Node


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at.

    Attributes:
        subject: what it looks at, in an admin's words.
        needs_root: without root it would find nothing, or nothing but closed doors.
    """

    subject: str
    look: Callable[[Node], Iterable[Finding]]
    needs_root: bool = False


def examine(
    node: Node, checks: Sequence[Check], begin: Callable[[str], None] = lambda _: None
) -> list[Finding]:
    """Make every check; each finding comes once.

    Args:
        begin: is told what is looked at next.
    """
    found: list[Finding] = []
    closed: list[str] = []
    for check in checks:
        begin(check.subject)
        if check.needs_root and not node.is_root:
            closed.append(check.subject)
            continue
        try:
            found.extend(_surviving(check, node))
        except PermissionError:
            closed.append(check.subject)
    if closed:
        found.insert(0, bad("privileges", f"not looked at: {', '.join(closed)}"))
    return list(dict.fromkeys(found))


def _surviving(check: Check, node: Node) -> Iterator[Finding]:
    """What a check finds; what surprises it is a finding as well, after those that it has made until then."""
    try:
        yield from check.look(node)
    except CniError as error:
        yield bad("check-failed", f"{check.subject}: {error}")
    except Exception as error:
        if isinstance(error, PermissionError) and not node.is_root:
            raise
        yield bad("check-failed", f"{check.subject}: {type(error).__name__}: {error}")
