"""--help: examples that work, and lines that fit the terminal."""

from __future__ import annotations

import argparse
import re
import shlex
import sys

import pytest

from cni_macvlan_egress.admin.command_line import COMMANDS, command_parser
from cni_macvlan_egress.admin.examples import EXAMPLES

from .terminal import Terminal


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every command's, by name; that of the whole by the empty one."""
    found: dict[str, argparse.ArgumentParser] = {}

    def add(name: str, parser: argparse.ArgumentParser) -> None:
        found[name] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, below in action.choices.items():
                    add(f"{name} {word}".strip(), below)

    add("", command_parser())
    return found


PARSERS = parsers()


def show(columns: int, *words: str) -> list[str]:
    """What a command prints on a terminal."""
    argv = [sys.executable, "-m", "cni_macvlan_egress", *words]
    with Terminal(argv, columns=columns, environment={"NO_COLOR": "1"}) as terminal:
        return terminal.read_to_the_end().splitlines()


@pytest.mark.parametrize("name", PARSERS)
def test_help_has_examples_and_fits_80_columns(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = PARSERS[name].format_help()
    assert [line for line in text.splitlines() if len(line) > 80] == []
    words = re.escape(f"macvlan-egress {name}".strip())
    assert re.search(rf"\nexamples:\n(  .*\n)*  .*{words}", text)


def test_no_example_is_of_a_command_that_is_not_there() -> None:
    assert set(EXAMPLES) == set(PARSERS)
    assert {name.split()[0] for name in PARSERS if name} == set(COMMANDS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_understood(name: str) -> None:
    for _, line in EXAMPLES[name]:
        # A command of the shell around it, another beside it, or a file behind it is the shell's.
        inner = re.sub(r".*<\((.*)\)", r"\1", line)
        (ours,) = (part for part in re.split(r"[|>]", inner) if part.strip().startswith("macvlan-egress "))
        words = shlex.split(ours)[1:]
        parsed = PARSERS[""].parse_args(words)
        assert not name or " ".join(words).startswith(name)
        assert parsed.command == words[0]


@pytest.mark.parametrize("words", [("--help",), ("migrate", "--help"), ("policy", "explain", "--help")])
def test_help_takes_the_terminals_width(words: tuple[str, ...]) -> None:
    narrow, wide = show(80, *words), show(200, *words)
    assert 60 < max(map(len, narrow)) <= 80
    assert 80 < max(map(len, wide)) <= 200
    assert len(wide) < len(narrow)
    assert " ".join(" ".join(narrow).split()) == " ".join(" ".join(wide).split())


def test_bare_command_line_shows_help_and_fails() -> None:
    assert show(80)[0].startswith("usage: macvlan-egress")
