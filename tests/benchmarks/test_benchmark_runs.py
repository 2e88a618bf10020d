"""The benchmarks run to their end, name every row and leave nothing behind; their speed is nobody's test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN = Path("/usr/lib/cni/macvlan")
TIMEOUT_SECONDS = 120
ROWS = (
    "python3 -I -S -c pass",
    "import pyroute2 and pydantic",
    "unannotated pod: ADD",
    "unannotated pod: DEL",
    "annotated pod: ADD, conflictDetection off",
    "annotated pod: DEL",
    "annotated pod: ADD, conflictDetection fast",
    "Go macvlan, static IPAM: ADD",
    "Go macvlan, static IPAM: DEL",
    "peer macvlan, static IPAM: ADD",
    "peer macvlan, static IPAM: DEL",
    "kernel requests alone: ADD",
    "kernel requests alone: DEL",
)
PEER_ROWS = ROWS[9:11]
PACKETS = (
    "plain pod: no policy",
    "plain pod: 20 rules",
    "plain pod: 20 rules with ports, of as many addresses",
    "plain pod: 20 rules with ports, of one address",
    "plain pod: 20 rules about DNS names",
    "plain pod: by hand, 20 rules, one each",
    "plain pod: by hand, 20 addresses in a set",
    "macvlan: no policy on the NIC",
    "macvlan: no policy, beside one that has",
    "macvlan: 20 rules",
    "node's own: no policy on the NIC",
    "node's own: a NIC with policies",
)
POLICIES = ("20 rules", "20 rules with ports, of as many addresses")
DEEDS = (
    *(
        f"{verb}: {pod}"
        for pod in ("no key policy", "a namespace without a policy")
        for verb in ("ADD", "DEL")
    ),
    *(
        row.format(policy)
        for policy in POLICIES
        for row in (
            "change: {}: running process",
            "change: {}: policy sync",
            "no change: {}: running process",
            "ADD: {}",
            "DEL: {}",
        )
    ),
)
MEMORY = (*POLICIES, "by hand, 20 rules, one each")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the benchmarks make network namespaces"),
    pytest.mark.skipif(
        not PLUGIN.exists(), reason=f"needs the package containernetworking-plugins: {PLUGIN} is missing"
    ),
]


def start(*arguments: str, tmp: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def left_by(process: subprocess.Popen[str]) -> list[str]:
    """The namespaces that this very process left."""
    return [name for name in os.listdir("/run/netns") if f"-bench-{process.pid}-" in name]


def run(*arguments: str, tmp: Path) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the benchmarks; also returns the namespaces that this very process left."""
    process = start(*arguments, tmp=tmp)
    try:
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        process.terminate()  # it tidies up, unlike one that is killed
        process.wait()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr), left_by(process)


def figures(text: str) -> dict[str, list[float]]:
    """The table's rows: name, and every figure."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {
        name.strip(): [float(cell) for cell in cells if cell.strip()]
        for name, *cells in rows
        if not name.startswith(("process", "-", "part", "importing", "the interpreter", "all"))
    }


def test_every_row_is_measured(tmp_path: Path) -> None:
    done, left = run("direct", "--quick", "--peer-macvlan", str(PLUGIN), tmp=tmp_path)
    assert done.returncode == 0, done.stderr
    found = figures(done.stdout)
    assert sorted(found) == sorted(ROWS)
    for name, numbers in found.items():
        median, p99, cpu, times, *_ = numbers
        assert 0 < median <= p99, name
        assert cpu > 0, name
        assert times > 0, name
    assert found["Go macvlan, static IPAM: ADD"][4] == found["Go macvlan, static IPAM: DEL"][4] == 1
    promises = [line for line in done.stdout.splitlines() if "promised" in line]
    assert len(promises) == 2
    assert all(line.endswith(("Kept.", "Not kept.")) for line in promises)
    parts = tables(done.stdout)[1]
    assert float(parts["importing pydantic"][0]) > 0
    assert parts["all"][1] == "100"
    assert left == []
    assert list(tmp_path.iterdir()) == []


def test_result_takes_its_place_in_the_document(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("before\n<!-- direct: begin -->\nold\n<!-- direct: end -->\nafter\n")
    done, _ = run("direct", "--quick", "--document", str(document), tmp=tmp_path)
    assert done.returncode == 0, done.stderr
    text = document.read_text()
    assert re.fullmatch(r"before\n<!-- direct: begin -->\n.*\n<!-- direct: end -->\nafter\n", text, re.DOTALL)
    assert sorted(figures(text)) == sorted(set(ROWS) - set(PEER_ROWS))
    assert "\nold\n" not in text
    assert str(tmp_path) not in text
    assert os.uname().nodename not in text.split()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('echo \'{"code": 7, "msg": "no such thing"}\'; exit 1', "no such thing"),
        (f"[ $CNI_COMMAND = DEL ] || exec {PLUGIN}; echo cannot delete >&2; exit 1", "cannot delete"),
        ("echo '{}'", "an interface net1 was expected"),
    ],
    ids=["every verb fails", "DEL fails", "nothing is done"],
)
def test_failing_plugin_ends_the_run_and_leaves_nothing(tmp_path: Path, script: str, words: str) -> None:
    plugin = tmp_path / "broken"
    plugin.write_text(f"#!/bin/sh\n{script}\n")
    plugin.chmod(0o755)
    done, left = run("direct", "--quick", "--peer-macvlan", str(plugin), tmp=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert left == []
    assert list(tmp_path.iterdir()) == [plugin]


def tables(text: str) -> list[dict[str, list[str]]]:
    """Every table in order: its rows by name, with the other cells as they are."""
    found: list[dict[str, list[str]]] = []
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    for line, following in pairwise([*lines, ""]):
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if following.startswith("| --"):
            found.append({})
        elif not name.startswith("--"):
            found[-1][name] = cells
    return found


def test_policy_measures_packets_changes_and_memory(tmp_path: Path) -> None:
    done, left = run("policy", "--quick", tmp=tmp_path)
    assert done.returncode == 0, done.stderr
    packets, deeds, memory = tables(done.stdout)
    assert tuple(packets) == PACKETS
    for name, (rate, each, more, times) in packets.items():
        assert float(rate) > 0, name
        assert float(each) > 0, name
        assert float(times) > 0, name
        if name.endswith(("pod: no policy", "no policy on the NIC")):
            assert (more, times) == ("+0", "1.00"), name
    assert tuple(deeds) == DEEDS
    for name, (median, p99, cpu, peak) in deeds.items():
        assert 0 < float(median) <= float(p99), name
        assert float(cpu) > 0, name
        assert bool(peak) == name.endswith("policy sync"), name
    assert tuple(memory) == MEMORY
    assert left == []
    assert list(tmp_path.iterdir()) == []


def test_warm_measures_single_calls_and_crowds_and_draws_them(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    document = results / "benchmarks.md"
    document.write_text("<!-- warm: begin -->\n<!-- warm: end -->\n")
    work = tmp_path / "work"
    work.mkdir()
    done, left = run("warm", "--quick", "--document", str(document), tmp=work)
    assert done.returncode == 0, done.stderr
    (rows,) = tables(done.stdout)
    callers = ("warm: static address", "Go macvlan")
    for name in (*callers, "warm: unannotated pod", "warm: static address, 1 destination", "Go bridge"):
        for verb in ("ADD", "DEL"):
            median, p99, cpu, *_ = rows[f"{name}: {verb}"]
            assert 0 < float(median) <= float(p99), name
            assert float(cpu) > 0, name
    for name in callers:
        assert float(rows[f"{name}: 4 ADDs at once"][0]) > 0
    promises = [line for line in done.stdout.splitlines() if "promised" in line]
    assert len(promises) == 6
    assert all(line.endswith(("Kept.", "Not kept.")) for line in promises)
    picture = (results / "warm.svg").read_text()
    assert "warm: static address: ADD" in picture
    assert str(tmp_path) not in picture
    assert left == []
    assert list(work.iterdir()) == []


def test_endurance_looks_at_the_daemon_at_every_stage(tmp_path: Path) -> None:
    done, left = run("endurance", "--quick", tmp=tmp_path)
    assert done.returncode == 0, done.stderr
    (rows,) = tables(done.stdout)
    assert len(rows) == 20
    for name, (median, peer, times, memory, files, threads, namespaces) in rows.items():
        assert bool(median) == name.endswith("attachments"), name
        assert bool(peer) == bool(times), name
        assert float(memory) > 0, name
        assert int(files) > 0, name
        assert int(threads) > 0, name
        assert namespaces == "1", name
    assert left == []
    assert list(tmp_path.iterdir()) == []


def test_failover_waits_for_an_answer_from_the_new_place(tmp_path: Path) -> None:
    done, left = run("failover", "--quick", tmp=tmp_path)
    assert done.returncode == 0, done.stderr
    (rows,) = tables(done.stdout)
    assert len(rows) == 3
    for median, least, most in rows.values():
        assert 0 <= float(least) <= float(median) <= float(most)
    assert left == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_benchmark_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process = start("policy", "--quick", tmp=tmp_path)
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while len(left_by(process)) < 6:  # it is in the midst of making pods
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        process.terminate()
        process.wait()
    assert process.returncode == 128 + number
    assert "Traceback" not in stderr
    assert left_by(process) == []
    assert list(tmp_path.iterdir()) == []
