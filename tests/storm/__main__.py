"""`bin/storm`: storms of many pods and the long run, each with its table for docs/storm.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from hypothesis import seed, settings
from hypothesis.stateful import run_state_machine_as_test
from lab.needed import REPOSITORY

from benchmarks import document, machine
from benchmarks.process import BenchmarkError
from benchmarks.report import Result
from cni_macvlan_egress.admin.theatre.interruption import Interrupted, Interruption
from cni_macvlan_egress.protocol.errors import CniError

from . import arena, long_run
from .schedule import DIRECT_THEMES, WARM_THEMES, plan
from .storm import Outcome

_DOCUMENT = REPOSITORY / "docs" / "storm.md"
_WAYS = ("direct", "warm")
_STANDINGS = "attached / absent / unknown"
_EXAMPLE_LENGTH = 200
_CYCLES = {"direct": 10_000, "warm": 100_000}


def main() -> int:
    """Run what the command line asks for; returns the exit status."""
    options = _arguments()
    if reason := arena.is_possible():
        return _fail(reason)
    try:
        with Interruption() as interruption:
            if options.model:
                return _model(options)
            status = 0
            for way in options.ways:
                if options.long_run:
                    _long_run(way, options, interruption.check)
                else:
                    status |= _storm(way, options, interruption.check)
            return status
    except Interrupted as interrupted:
        return interrupted.status
    except (BenchmarkError, CniError) as error:
        return _fail(str(error))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/storm", description="Storms of calls and faults, and thousands of calls after each other."
    )
    add = parser.add_argument
    add("ways", nargs="*", metavar="WAY", help="direct, warm; default: both")
    add("--seed", type=int, action="append", metavar="N", help="may be given several times (default 1)")
    add("--rounds", type=int, metavar="N", help="of each seed (default: each theme once)")
    add("--round", type=int, metavar="K", help="this round alone")
    add("--pods", type=int, default=200, metavar="N", help="at most 230 (default %(default)s)")
    add("--workers", type=int, default=8, metavar="N", help="(default %(default)s)")
    add("--steps", type=int, default=50, metavar="N", help="calls of a worker (default %(default)s)")
    add(
        "--model",
        action="store_true",
        help="try the model of an attachment's life instead, --rounds examples",
    )
    add("--long-run", action="store_true", help="10,000 ADDs and DELs direct, 100,000 warm, instead")
    add("--cycles", type=int, metavar="N", help="so many in a long run")
    add("--minutes", type=float, default=600, metavar="N", help="begin nothing new after them (default 600)")
    add("--document", action="store_true", help=f"put the tables into docs/{_DOCUMENT.name}")
    add("--plan", action="store_true", help="only print the schedule")
    options = parser.parse_args()
    options.ways = options.ways or list(_WAYS)
    options.seed = options.seed or [1]
    if unknown := set(options.ways) - set(_WAYS):
        parser.error(f"there is no way {unknown.pop()!r}; there are: {', '.join(_WAYS)}")
    return options


def _model(options: argparse.Namespace) -> int:
    """Examples that nobody has seen yet, but for those with the same seed."""
    number = options.seed[0]
    profile = settings(arena.PATIENT, max_examples=options.rounds or 100, stateful_step_count=30)
    with tempfile.TemporaryDirectory(prefix="macvlan-egress-storm-", dir="/run") as name:
        directory = Path(name)
        with arena.made_lab(directory) as lab, arena.lifecycle(lab, directory) as machine:
            run_state_machine_as_test(seed(number)(machine), settings=profile)
    print(f"model, seed {number}: {profile.max_examples} examples: as it should be")
    return 0


def _long_run(way: str, options: argparse.Namespace, check: Callable[[], None]) -> None:
    run = long_run.direct if way == "direct" else long_run.warm
    result = run(options.cycles or _CYCLES[way], options.minutes * 60, check)
    _publish(f"long-{way}", result, options)


def _storm(way: str, options: argparse.Namespace, check: Callable[[], None]) -> int:
    themes = DIRECT_THEMES if way == "direct" else WARM_THEMES
    numbers = range(options.rounds or len(themes)) if options.round is None else [options.round]
    rounds = [
        plan(seed, number, themes, pods=options.pods, workers=options.workers, steps=options.steps)
        for seed in options.seed
        for number in numbers
    ]
    if options.plan:
        print("\n".join(map(str, rounds)))
        return 0
    outcomes = []
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="macvlan-egress-storm-", dir="/run"))
        )
        lab = stack.enter_context(arena.made_lab(directory))
        storm = stack.enter_context(
            arena.direct_storm(lab, options.pods)
            if way == "direct"
            else arena.warm_storm(lab, options.pods, directory)
        )
        began = time.monotonic()
        for round_ in rounds:
            check()
            outcome = storm.run(round_)
            outcomes.append(outcome)
            print(_sentence(way, outcome, options), flush=True)
            for code, example in sorted(outcome.examples.items()):
                print(f"  {code}: {' '.join(example.split())[:_EXAMPLE_LENGTH]}", flush=True)
            if outcome.faults:
                print(outcome.text(), flush=True)
            if outcome.faults or time.monotonic() - began > options.minutes * 60:
                break
    _publish(f"storm-{way}", _table(outcomes), options)
    return int(bool(outcomes[-1].faults))


def _sentence(way: str, outcome: Outcome, options: argparse.Namespace) -> str:
    round_ = outcome.round
    again = (
        f"bin/storm {way} --seed {round_.seed} --round {round_.number} --pods {options.pods} "
        f"--workers {options.workers} --steps {options.steps}"
    )
    verdict = f"{len(outcome.faults)} FAULTS; again: {again}" if outcome.faults else "as it should be"
    name = f"{way}, seed {round_.seed}, round {round_.number}, {round_.theme}"
    return f"{name}: {outcome.seconds:.0f} s: {verdict}; errors: {_codes(outcome.answers) or 'none'}"


def _table(outcomes: Sequence[Outcome]) -> Result:
    rows = []
    for outcome in outcomes:
        answers = outcome.answers
        calls = sum(answers.values())
        rows.append(
            (
                outcome.round.theme,
                str(outcome.round.seed),
                str(outcome.round.number),
                f"{calls:,}",
                f"{answers[0]:,}",
                f"{answers[None]:,}",
                f"{calls - answers[0] - answers[None]:,}",
                " / ".join(str(outcome.standings[one]) for one in ("attached", "absent", "unknown")),
                f"{outcome.seconds:.0f}",
                str(len(outcome.faults)),
            )
        )
    total: Counter[int | None] = Counter()
    for outcome in outcomes:
        total.update(outcome.answers)
    codes = ", ".join(
        f"{code} ({count:,})" for code, count in sorted((one, n) for one, n in total.items() if one)
    )
    pods = len(outcomes[0].round.kinds) if outcomes else 0
    headings = (
        "theme",
        "seed",
        "round",
        "calls",
        "succeeded",
        "killed",
        "refused",
        _STANDINGS,
        "s",
        "faults",
    )
    return Result(
        headings,
        rows,
        (f"{pods} pods, {len(outcomes[0].round.workers)} workers; error codes: {codes}.",)
        if outcomes
        else (),
    )


def _codes(answers: Counter[int | None]) -> str:
    return ", ".join(
        f"{code} ({count:,})" for code, count in sorted((one, n) for one, n in answers.items() if one)
    )


def _publish(name: str, result: Result, options: argparse.Namespace) -> None:
    text = f"{machine.sentence(len(result.rows))}\n\n{result.text()}"
    print(f"{name}: {text}\n", flush=True)
    if options.document:
        document.put(str(_DOCUMENT), name, f"{text}\n")


def _fail(reason: str) -> int:
    sys.stderr.write(f"bin/storm: {reason}\n")
    return 1


sys.exit(main())
