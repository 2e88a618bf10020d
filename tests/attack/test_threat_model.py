"""docs/threat-model.md names the test of each threat, and each test has its threat."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/threat-model.md").read_text()
ATTACKS = [
    *(path for path in sorted((ROOT / "tests/attack").glob("test_*.py")) if path != Path(__file__).resolve()),
    ROOT / "tests/policy/test_attacks.py",
]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)


def defined_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED) > 100
    missing = [
        f"{path}::{name}"
        for path, name in NAMED
        if not (ROOT / path).is_file() or name not in defined_in(ROOT / path)
    ]
    assert missing == []


@pytest.mark.parametrize("path", ATTACKS, ids=lambda path: path.name)
def test_every_attack_is_named(path: Path) -> None:
    named = {name for where, name in NAMED if ROOT / where == path}
    assert defined_in(path) - named == set()


def test_every_threat_has_a_number_of_its_own_and_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| [A-Z]\d+\. ", line)]
    numbers = [line.split(".")[0].removeprefix("| ") for line in rows]
    assert len(numbers) == len(set(numbers)) > 40
    assert [line for line in rows if "::test_" not in line.split("|")[3]] == []
