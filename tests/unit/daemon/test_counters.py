"""Counters in shared memory, and the text that is made of them."""

from __future__ import annotations

import os
import threading

from cni_macvlan_egress.daemon.counters import BUCKETS, CODES, VERBS, Counters
from cni_macvlan_egress.daemon.metrics import Metrics


def test_calls_are_counted_by_verb_and_code() -> None:
    counters = Counters(2, 4)
    for slot, verb, code in (
        (0, "ADD", 0),
        (1, "ADD", 0),
        (1, "ADD", 11),
        (0, "upgrade", 0),
        (0, "DEL", 12345),
    ):
        counters.slots[slot].end(0, counters.slots[slot].begin(0), verb, code)
    assert counters.calls() == {("ADD", 0): 2, ("ADD", 11): 1, ("other", 0): 1, ("DEL", -1): 1}
    durations = {verb: (counts, seconds) for verb, counts, seconds in counters.durations()}
    assert sum(durations["ADD"][0]) == 3
    assert set(durations) == {"ADD", "DEL", "other"}


def test_cells_do_not_overlap() -> None:
    counters = Counters(3, 5)
    for slot in counters.slots:
        for verb in VERBS:
            for code in CODES:
                slot.end(4, slot.begin(4), verb, code)
    assert set(counters.calls().values()) == {3}
    assert [sum(counts) for _, counts, _ in counters.durations()] == [3 * len(CODES)] * len(VERBS)
    assert counters.ages() == []


def test_durations_fall_into_their_buckets() -> None:
    counters = Counters(1, 1)
    slot = counters.slots[0]
    began = slot.begin(0)
    for lasted in (0.0, 0.02, 3600.0):
        slot.end(0, began - lasted, "ADD", 0)
    ((_, counts, seconds),) = counters.durations()
    assert [index for index, count in enumerate(counts) if count] == [0, BUCKETS.index(0.025), len(BUCKETS)]
    assert 3600 < seconds < 3601


def test_a_fork_counts_in_the_same_memory_and_leaves_its_counts() -> None:
    counters = Counters(1, 2)
    pid = os.fork()
    if pid == 0:
        slot = counters.slots[0]
        slot.fresh()
        slot.end(0, slot.begin(0), "ADD", 0)
        slot.begin(1)
        os._exit(0)
    os.waitpid(pid, 0)
    assert counters.calls() == {("ADD", 0): 1}
    assert len(counters.ages()) == 1
    counters.slots[0].fresh()
    assert counters.calls() == {("ADD", 0): 1}
    assert counters.ages() == []


def test_threads_lose_no_count() -> None:
    counters = Counters(1, 8)

    def count(thread: int) -> None:
        for _ in range(2000):
            counters.slots[0].end(thread, counters.slots[0].begin(thread), "ADD", 0)

    threads = [threading.Thread(target=count, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.calls() == {("ADD", 0): 16000}


def test_buckets_of_the_text_are_cumulative() -> None:
    counters = Counters(1, 1)
    for lasted in (0.02, 3600.0):
        counters.slots[0].end(0, counters.slots[0].begin(0) - lasted, "ADD", 0)
    text = Metrics("/nowhere", "/nowhere", counters).text()
    buckets = [int(line.split()[1]) for line in text.splitlines() if "_bucket" in line]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-1]) == (0, 2)
    assert text.endswith("\n")


def test_half_written_state_files_are_no_attachments(tmp_path: os.PathLike[str]) -> None:
    directory = os.path.join(tmp_path, "attachments")
    os.mkdir(directory)
    for name in ("a@eth0.json", "b@net1.json", ".c@eth0.json.tmp", ".d.json", "e.corrupt"):
        with open(os.path.join(directory, name), "w"):
            pass
    assert "macvlan_egress_attachments 2\n" in Metrics(str(tmp_path), "/nowhere").text()
