"""The schedule is a pure function of seed and round; the model allows what it should, and nothing else."""

from __future__ import annotations

import pytest

from .ledger import Entry, Ledger
from .schedule import DIRECT_THEMES, WARM_THEMES, Round, plan


def a_round(seed: int, number: int) -> Round:
    return plan(seed, number, DIRECT_THEMES, pods=40, workers=4, steps=30)


def test_same_seed_and_round_make_the_same_schedule() -> None:
    assert a_round(7, 3) == a_round(7, 3)
    assert str(a_round(7, 3)) == str(a_round(7, 3))
    assert a_round(7, 3) != a_round(8, 3)
    assert a_round(7, 3) != a_round(7, 4)


@pytest.mark.parametrize("themes", [DIRECT_THEMES, WARM_THEMES])
def test_every_theme_has_its_turn(themes) -> None:
    for seed in range(5):
        rounds = [plan(seed, number, themes, pods=20, workers=2, steps=5) for number in range(len(themes))]
        assert {one.theme for one in rounds} == set(themes)


def test_only_contested_pods_are_called_for_by_several_workers() -> None:
    for number in range(10):
        round_ = a_round(1, number)
        owners: dict[int, set[int]] = {}
        for worker, steps in enumerate(round_.workers):
            for step in steps:
                owners.setdefault(step.pod, set()).add(worker)
        shared = {pod for pod, workers in owners.items() if len(workers) > 1}
        assert shared <= round_.contested | {-1}
        assert not round_.forgotten & owners.keys()


def ledger(**entry: object) -> Ledger:
    return Ledger([Entry(**entry), Entry()])  # type: ignore[arg-type]


def call(book: Ledger, verb: str, code: int | None, *, listed: bool = False) -> None:
    book.end(book.begin(verb, 0, listed=listed), code)


@pytest.mark.parametrize(
    ("standing", "verb", "code", "fault", "after"),
    [
        ("absent", "ADD", 0, False, "attached"),
        ("absent", "ADD", 105, True, "absent"),
        ("absent", "ADD", 108, True, "absent"),
        ("absent", "ADD", None, False, "unknown"),
        ("attached", "ADD", 0, True, "attached"),
        ("attached", "ADD", 108, False, "attached"),
        ("unknown", "ADD", 108, False, "unknown"),
        ("attached", "DEL", 0, False, "absent"),
        ("attached", "DEL", 5, True, "unknown"),
        ("unknown", "DEL", 0, False, "absent"),
        ("attached", "DEL", None, False, "unknown"),
        ("attached", "CHECK", 0, False, "attached"),
        ("attached", "CHECK", 107, True, "attached"),
        ("absent", "CHECK", 0, True, "absent"),
        ("absent", "CHECK", 3, False, "absent"),
        ("unknown", "CHECK", 107, False, "unknown"),
    ],
)
def test_model_allows_and_concludes(standing, verb: str, code: int | None, fault: bool, after: str) -> None:
    book = ledger(standing=standing)
    call(book, verb, code, listed=True)
    assert bool(book.faults) == fault
    assert book.entries[0].standing == after


def test_address_of_a_rival_may_be_held() -> None:
    book = ledger(rival=True)
    call(book, "ADD", 103)
    assert not book.faults
    assert book.entries[0].standing == "absent"


def test_delete_may_fail_only_while_nothing_can_be_removed() -> None:
    for dirty in (False, True):
        book = ledger(standing="attached")
        book.disturb(dirty=dirty)
        call(book, "DEL", 5)
        assert bool(book.faults) == (not dirty)


def test_add_that_failed_without_a_dirty_disk_has_taken_all_back() -> None:
    for dirty, after in ((False, "absent"), (True, "unknown")):
        book = ledger()
        book.disturb(dirty=dirty)
        call(book, "ADD", 101)
        assert not book.faults
        assert book.entries[0].standing == after


def test_calls_for_one_pod_at_the_same_time_decide_nothing() -> None:
    book = ledger()
    add, delete = book.begin("ADD", 0), book.begin("DEL", 0)
    book.end(add, 0)
    book.end(delete, 0)
    assert not book.faults
    assert book.entries[0].standing == "unknown"


def test_namespace_that_goes_in_mid_call_makes_its_outcome_unknown() -> None:
    book = ledger()
    add = book.begin("ADD", 0)
    book.remove_namespace(0)
    book.end(add, 0)
    assert book.entries[0].standing == "unknown"
    call(book, "ADD", 0)
    assert book.faults
