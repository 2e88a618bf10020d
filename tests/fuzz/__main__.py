"""python -m fuzz replay|guide|show|keep …: what bin/fuzz and the tests run in processes of their own."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from pathlib import Path

from . import minimise, replay
from .examiner import Examiner
from .target import NAMES, load


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    commands = parser.add_subparsers(required=True, dest="command")
    play = commands.add_parser("replay", help="all of a corpus, and changes to it")
    play.add_argument("target", choices=NAMES)
    play.add_argument("--mutations", type=int, default=1000)
    play.add_argument("--seed", type=int, default=1)
    guide = commands.add_parser("guide", help="by coverage; further words are libFuzzer's")
    guide.add_argument("target", choices=NAMES)
    show = commands.add_parser("show", help="what one input leads to")
    show.add_argument("target", choices=NAMES)
    show.add_argument("file", type=Path)
    kept = commands.add_parser("keep", help="choose the inputs that stay in the repository")
    kept.add_argument("target", choices=NAMES)
    kept.add_argument("directories", type=Path, nargs="*")
    given, others = parser.parse_known_args()
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    if given.command == "guide":
        from .guided import fuzz

        fuzz(given.target, others)
    if others:
        parser.error(f"unknown words: {' '.join(others)}")
    if given.command == "show":
        data = given.file.read_bytes()
        Examiner(load(given.target)).examine(data)
        print("nothing found")
        return 0
    if given.command == "keep":
        before, after = minimise.keep(load(given.target), given.directories)
        print(f"{given.target}: {after} of {before} inputs are kept")
        return 0
    return _replay(given.target, given.mutations, given.seed)


def _replay(name: str, mutations: int, seed: int) -> int:
    try:
        played = replay.play(load(name), mutations, seed)
    except replay.Finding as finding:
        traceback.print_exc()
        with tempfile.NamedTemporaryFile(prefix=f"fuzz-{name}-", delete=False) as file:
            file.write(finding.data)
        print(f"the input: cd tests && ../.venv/bin/python -m fuzz show {name} {file.name}", file=sys.stderr)
        return 1
    print(
        f"{name}: {played.inputs} inputs, {played.seconds:.1f} CPU seconds, {played.megabytes} MB, seed {seed}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
