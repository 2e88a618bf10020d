"""The manual page and the reference: made of the commands, whole, and readable by who reads manual pages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cni_macvlan_egress.admin import command_line
from cni_macvlan_egress.admin.command_line import command_parser
from cni_macvlan_egress.admin.command_tree import Command, tree

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/man/macvlan-egress.8"
REFERENCE = ROOT / "docs/reference-commands.md"


@pytest.fixture(scope="module")
def commands() -> list[Command]:
    return [one for one in tree(command_parser()).walk() if one.words and not one.commands]


def rendered(columns: int = 80) -> str:
    """The page as somebody reads it."""
    argv = ["man", "-l", str(PAGE)]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": str(columns)}
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=environment).stdout


@pytest.mark.parametrize(
    ("path", "options"), [(PAGE, []), (REFERENCE, ["--markdown"])], ids=["manual page", "reference"]
)
def test_checked_in_page_is_what_the_command_prints(
    path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["manual", *options]) == 0
    words = " ".join(["bin/macvlan-egress manual", *options])
    assert path.read_text() == capsys.readouterr().out, f"run: {words} > {path.relative_to(ROOT)}"


def test_man_has_nothing_to_warn_of() -> None:
    argv = ["man", "--warnings", "-l", str(PAGE)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
    assert done.stderr == ""


def test_mandoc_has_nothing_to_complain_of() -> None:
    done = subprocess.run(["mandoc", "-Tlint", str(PAGE)], capture_output=True, text=True, check=False)
    # A date would have to be kept by hand, and long synopses stay in one line.
    accepted = ("STYLE: input text line longer than 80 bytes: [", 'WARNING: missing date, using ""')
    assert [line for line in done.stdout.splitlines() if not any(one in line for one in accepted)] == []


def test_every_command_and_option_is_in_the_page(commands: list[Command]) -> None:
    text = " ".join(rendered(200).split())
    for command in commands:
        assert f"macvlan-egress {command.name}" in text
        for option in command.options:
            assert ", ".join(option.flags) in text
        for _, line in command.examples:
            assert " ".join(line.split()) in text


def test_page_keeps_hyphens_that_can_be_copied() -> None:
    assert "\u2010-" not in rendered()
    assert "macvlan-egress policy sync --follow" in rendered()


def test_page_fits_a_terminal() -> None:
    lines = rendered(80).splitlines()
    # Examples are lines that cannot be broken.
    assert [line for line in lines if len(line) > 80 and not line.strip().startswith("macvlan-egress ")] == []


def test_every_command_and_option_is_in_the_reference(commands: list[Command]) -> None:
    sections = dict(part.split("\n", 1) for part in REFERENCE.read_text().split("\n## ")[1:])
    assert list(sections) == [command.name for command in commands]
    for command in commands:
        for option in command.options:
            if "--help" not in option.flags:
                assert f"`{option.flags[0]}" in sections[command.name]


def test_pages_are_the_same_on_every_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setenv("COLUMNS", "40")
    assert command_line.main(["manual"]) == 0
    assert capsys.readouterr().out == PAGE.read_text()
