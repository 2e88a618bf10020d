"""bin/fuzz: fuzzes targets by coverage for a time, and tells what came of it.

bin/fuzz [TARGET …] [--seconds N] [--jobs N] [--record] [--keep]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .target import NAMES, load

REPOSITORY = Path(__file__).resolve().parents[2]
WORK = REPOSITORY / "build" / "fuzz"
PAGE = REPOSITORY / "docs" / "fuzzing.md"
FINDING = "finding-"
_BEGIN, _END = "<!-- results -->\n", "<!-- end of results -->\n"
_STATE = re.compile(r"cov: (\d+) ft: (\d+)")
_UNITS = re.compile(r"stat::number_of_executed_units: (\d+)")
_MEMORY = re.compile(r"stat::peak_rss_mb: +(\d+)")
_GRACE_SECONDS = 300


@dataclass(frozen=True)
class Result:
    """What came of a target.

    Attributes:
        executions: inputs that were looked at.
        seconds, cpu_seconds: by the clock, and of CPU time.
        edges, features: libFuzzer's measures of the code that was reached.
        megabytes: the process at its largest.
        corpus: inputs that are kept in the repository.
        mended: those of them that once broke a property.
        found: inputs that do so now.
    """

    target: str
    executions: int
    seconds: int
    cpu_seconds: int
    edges: int
    features: int
    megabytes: int
    corpus: int = 0
    mended: int = 0
    found: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bin/fuzz", description="Coverage-guided fuzzing; docs/fuzzing.md says more."
    )
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(NAMES)}; all if none is named"
    )
    parser.add_argument("--seconds", type=int, default=300, help="for each target (300)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="targets at a time (one a processor)"
    )
    parser.add_argument("--record", action="store_true", help=f"write the figures into {PAGE.name}")
    parser.add_argument(
        "--keep", action="store_true", help="take the inputs that reach the most into the repository"
    )
    given = parser.parse_args()
    if unknown := [name for name in given.targets if name not in NAMES]:
        parser.error(f"no such target: {unknown[0]}; there are {', '.join(NAMES)}")
    targets = given.targets or list(NAMES)
    with ThreadPoolExecutor(given.jobs) as pool:
        results = list(pool.map(lambda name: _fuzz(name, given.seconds), targets))
    if given.keep:
        for name in targets:
            subprocess.run([sys.executable, "-m", "fuzz", "keep", name, str(WORK / name)], check=True)
    results = [_with_corpus(one) for one in results]
    print("\n" + table(results))
    if given.record:
        _record(results)
    for result in results:
        for path in _found(result.target):
            print(f"found: cd tests && ../.venv/bin/python -m fuzz show {result.target} {path}")
    return 1 if any(result.found for result in results) else 0


def table(results: list[Result]) -> str:
    """Results as a page has them."""
    lines = [
        "| target | executions | seconds | of CPU | edges | features | largest, MB | corpus | findings mended | open |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in results:
        figures = [f"{value:,}" for name, value in asdict(one).items() if name != "target"]
        lines.append(f"| `{one.target}` | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _fuzz(name: str, seconds: int) -> Result:
    corpus, found = WORK / name, WORK / "found" / name
    for directory in (corpus, found):
        directory.mkdir(parents=True, exist_ok=True)
    log = WORK / f"{name}.log"
    command = [
        *(sys.executable, "-m", "fuzz", "guide", name, f"-max_total_time={seconds}", "-print_final_stats=1"),
        *("-reload=0", f"-artifact_prefix={found}/", str(corpus), str(load(name).directory)),
    ]
    began = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
        try:
            usage = _end_of(process, seconds + _GRACE_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise
    text = log.read_text(errors="replace")
    edges, features = map(int, (_STATE.findall(text) or [("0", "0")])[-1])
    result = Result(
        target=name,
        executions=_last(_UNITS, text),
        seconds=round(time.monotonic() - began),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime),
        edges=edges,
        features=features,
        megabytes=_last(_MEMORY, text),
    )
    if not result.executions:
        raise SystemExit(f"{name} did not run:\n{text[-3000:]}")
    print(f"{name}: {result.executions} executions, {edges} edges, {len(_found(name))} found", flush=True)
    return result


def _end_of(process: subprocess.Popen[bytes], seconds: float):  # type: ignore[no-untyped-def]
    """Wait for a process, and return what it has used."""
    deadline = time.monotonic() + seconds
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.1)


def _last(pattern: re.Pattern[str], text: str) -> int:
    return int((pattern.findall(text) or ["0"])[-1])


def _found(name: str) -> list[Path]:
    return sorted((WORK / "found" / name).iterdir())


def _record(results: list[Result]) -> None:
    """Put figures into the page; those of targets that were not run now stay."""
    before, rest = PAGE.read_text().split(_BEGIN)
    old, after = rest.split(_END)
    head, new = table([]), table(results)
    rows = {line.split("`")[1]: line for text in (old, new) for line in text.splitlines() if "`" in line}
    lines = [rows[name] for name in NAMES if name in rows]
    PAGE.write_text(before + _BEGIN + head + "\n".join((*lines, "")) + _END + after)


def _with_corpus(result: Result) -> Result:
    """The result with what the corpus holds now."""
    kept = load(result.target).corpus()
    mended = [path for path in kept if path.name.startswith(FINDING)]
    return replace(result, corpus=len(kept), mended=len(mended), found=len(_found(result.target)))


if __name__ == "__main__":
    sys.exit(main())
