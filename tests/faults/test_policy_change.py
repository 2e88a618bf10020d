"""A change of policies that is killed, or of which a system call fails: the old ones or the new ones are in force."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from lab import Node
from policy.commands import Commands
from policy.documents import Policies, allow, deny

from .aiming import Direct, Point, Run
from .bench import ENDS_THE_PROCESS, ERRORS
from .choice import Choice
from .scenarios import other
from .tally import Tally

FEW = 8
# What has one in its name, as long as nothing leads there, changes nothing.
_OF_A_GENERATION = re.compile(
    r"^\t(?:map|set|chain) \S*[0-9a-f]{8}\S* \{\n.*?^\t\}\n", re.MULTILINE | re.DOTALL
)
WAYS = ("old policies", "new policies")


class Change:
    """A node with two pods whose policy changes again and again."""

    def __init__(self, node: Node, directory: Path, tally: Tally) -> None:
        self._node = node
        self._policies = Policies(node)
        self._commands = Commands(self._policies)
        self._direct = Direct(node, directory / "runner")
        self._numbers = count()
        self._tally = tally
        self._write()
        self._pods = [node.pod(), node.pod()]
        node.send_add(self._pods[0], other(node, self._policies, self._pods[0])).ok()
        self._policies.add(self._pods[1]).ok()

    def points(self) -> list[Point]:
        """The system calls of a sync that change something."""
        run = self._sync()
        assert run.answer.status == 0, run.answer
        self._tally.points = len(run.points)
        return run.points

    def hit(self, what: str, point: Point, **deed: str) -> None:
        """Hit one of them; then sync again, and look."""
        self._policies.sync()
        before = self._in_force()
        run = self._sync(point, **deed)
        after = self._in_force()
        if not run.hit:
            self._tally.missed += 1
            return
        try:
            assert "Traceback" not in run.answer.stdout + run.answer.stderr, run.answer
            self._policies.sync()
            wanted = self._in_force()
            outcome = WAYS[after == wanted] if "victim" in deed else self._outcome(point, run)
            assert before != wanted
            assert after in (before, wanted), f"neither the old nor the new policies, but {after}"
            assert outcome != "success" or after == wanted, "success, and the old policies"
            assert self._policies.sync().changes == ()
            for pod in self._pods:
                self._node.check(pod).ok()
            self._tally.count(outcome)
        except AssertionError as error:
            self._tally.problem(f"sync, {what} at {point}: {error}")

    @staticmethod
    def _outcome(point: Point, run: Run) -> str:
        if run.answer.status == 0:
            return "success"
        if ENDS_THE_PROCESS.search(point.name) and not run.answer.stderr:
            return "process ended"
        assert run.answer.stderr.strip(), run.answer
        return "error"

    def end(self) -> None:
        """The pods go, and nothing stays of what has been done."""
        for pod in self._pods:
            self._node.delete(pod).ok()
        assert self._policies.table() == []
        assert self._policies.files() == []
        self._tally.check()

    def _write(self) -> None:
        number = next(self._numbers) % 250
        self._policies.write(deny("203.0.113.27/32"), allow(f"203.0.113.{number}/32"))

    def _sync(self, point: Point | None = None, **deed: str) -> Run:
        self._write()
        return self._direct.command(
            "policy", "sync", "--conflist", self._commands.conflist, point=point, **deed
        )

    def _in_force(self) -> list[str]:
        """What the fixed chains lead to: the maps and sets of one generation, whatever others there are."""
        ruleset = self._node.run("nft", "--stateless", "list", "ruleset")
        return re.findall(r"@(g[0-9a-f]{8}\S*)", _OF_A_GENERATION.sub("", ruleset))


@pytest.fixture
def make_change(node: Node, tmp_path: Path, tally: Callable[..., Tally]) -> Iterator[Callable[[str], Change]]:
    def make(table: str) -> Change:
        return Change(node, tmp_path, tally(table, "policy change", "sync", "executable"))

    yield make


def test_killed_change_is_mended(make_change: Callable[[str], Change], choice: Choice) -> None:
    change = make_change("killed")
    for point, victim in choice.pairs(change.points(), ("process",), FEW):
        change.hit("killed", point, victim=victim)
    change.end()


def test_failing_change_is_all_or_nothing(make_change: Callable[[str], Change], choice: Choice) -> None:
    change = make_change("failing")
    for point, error in choice.pairs(change.points(), ERRORS, FEW):
        change.hit(error, point, error=error)
    change.end()
