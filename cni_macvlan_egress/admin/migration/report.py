"""What an admin is told of one router that is migrated."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass
class Report:
    """One router's.

    Attributes:
        title: of what is migrated.
        findings: in the order they were made. An error: it is not migrated; a warning: something was not carried
            over or behaves differently; a note: what is to be known or done.
        sources: the addresses that the pod asks for.
    """

    title: str
    findings: list[tuple[Severity, str]] = field(default_factory=list)
    sources: tuple[str, ...] = ()

    def error(self, text: str) -> None:
        """It cannot be migrated."""
        self.findings.append(("error", text))

    def warning(self, text: str) -> None:
        """Something was not carried over, or behaves differently."""
        self.findings.append(("warning", text))

    def note(self, text: str) -> None:
        """Something is to be known or done."""
        self.findings.append(("note", text))

    def grant(self, namespace: str) -> None:
        """The pod asks for a privilege; say what the configuration needs."""
        wanted = {"namespaces": [namespace or "NAMESPACE"], "sources": list(self.sources)}
        self.note(f'the plugin\'s configuration has to grant it: "allow": [{json.dumps(wanted)}]')

    @property
    def failed(self) -> bool:
        """Whether it is not migrated."""
        return any(severity == "error" for severity, _ in self.findings)

    def lines(self) -> list[str]:
        """A line a finding."""
        return [f"{self.title}: {severity}: {text}" for severity, text in self.findings]
