"""What has come of the killed and failing calls, counted, and as tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

MISSED = "not met"


@dataclass
class Tally:
    """Of one verb of one scenario.

    Attributes:
        table: `killed` or `failing`.
        scenario, verb, where: what was hit.
        points: how many system calls of it change something.
        outcomes: how often it ended how.
        missed: how often a call was not met again; a busy machine goes other ways.
        problems: what did not end well.
    """

    table: str
    scenario: str
    verb: str
    where: str
    points: int = 0
    missed: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> None:
        """One more that ended well."""
        self.outcomes[outcome] += 1

    def problem(self, text: str) -> None:
        """One more that did not."""
        self.problems.append(text)

    @property
    def runs(self) -> int:
        """How many calls were hit."""
        return sum(self.outcomes.values()) + len(self.problems)

    def check(self) -> None:
        """Fail with everything that did not end well."""
        assert not self.problems, f"{len(self.problems)} of {self.runs}:\n" + "\n".join(self.problems)
        aimed_at = self.runs + self.missed
        assert self.missed <= aimed_at / 10 + 1, f"{self.missed} of {aimed_at} calls were not met again"

    def as_json(self) -> str:
        """For the way from one of pytest's processes to another."""
        return json.dumps(vars(self))

    @staticmethod
    def from_json(text: str) -> Tally:
        """The way back."""
        raw = json.loads(text)
        return Tally(**{**raw, "outcomes": Counter(raw["outcomes"])})


def merged(tallies: Iterable[Tally]) -> list[Tally]:
    """Those of the same verb, scenario and place as one."""
    found: dict[tuple[str, ...], Tally] = {}
    for one in tallies:
        total = found.setdefault(
            (one.table, one.scenario, one.verb, one.where),
            Tally(one.table, one.scenario, one.verb, one.where),
        )
        total.points = max(total.points, one.points)
        total.missed += one.missed
        total.outcomes += one.outcomes
        total.problems += one.problems
    return [found[key] for key in sorted(found)]


def tables(tallies: Iterable[Tally]) -> str:
    """Everything as Markdown."""
    parts = []
    rows = merged(tallies)
    for table in ("killed", "failing"):
        mine = [one for one in rows if one.table == table]
        if not mine:
            continue
        columns = sorted({name for one in mine for name in one.outcomes}, key=_order)
        head = ["what", "verb", "by", "system calls", f"runs {table}", *columns, MISSED, "problems"]
        lines = [_line(head), _line(["---"] * len(head))]
        for one in mine:
            counts = [str(one.outcomes[name] or "") for name in columns]
            figures = [str(one.points), str(one.runs), *counts, str(one.missed or ""), str(len(one.problems))]
            lines.append(_line([one.scenario, one.verb, one.where, *figures]))
        total = [str(sum(one.outcomes[name] for one in mine)) for name in columns]
        sums = [sum(one.runs for one in mine), *total]
        ends = [sum(one.missed for one in mine), sum(len(one.problems) for one in mine)]
        lines.append(_line(["all", "", "", str(sum(one.points for one in mine)), *map(str, (*sums, *ends))]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _order(name: str) -> tuple[int, str]:
    """Codes by number, behind what has none."""
    word, _, number = name.partition(" ")
    return (int(number), "") if word == "code" else (-1, name)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
