"""The command line as data, for those who describe it: completion, the manual page, the reference."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from .examples import EXAMPLES
from .parsing import PROGRAM, Help

Content = Literal["", "file", "directory"]
_CONTENTS: Mapping[str, Content] = {
    "CONFLIST": "file", "DIR": "directory", "DIRECTORY": "directory", "FILE": "file", "MANIFEST": "file",
    "PATH": "file",
}  # fmt: skip
# Defaults that are another on each machine, in words.
_OF_THE_MACHINE = {"workers": "at most 4", "machine": "this machine's"}
_ONE_LINE = 10_000


@dataclass(frozen=True)
class Argument:
    """An option, or a word that is none.

    Attributes:
        flags: an option's names, the short one first; empty for a word.
        value: what its value is called; empty if it takes none.
        choices: the only values there are.
        content: what the value names on the disk.
        repeats: it may be given more than once.
    """

    flags: tuple[str, ...]
    value: str
    help: str
    choices: tuple[str, ...] = ()
    content: Content = ""
    repeats: bool = False


@dataclass(frozen=True)
class Command:
    """A command, or the whole of them.

    Attributes:
        words: its name below the executable's, a word a level; empty for the whole.
        usage: one line, without "usage:".
        notes: what else is to be said, a paragraph.
        commands: those below it.
    """

    words: tuple[str, ...]
    summary: str
    usage: str
    arguments: tuple[Argument, ...]
    notes: str
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        """As one types it below the executable's name."""
        return " ".join(self.words)

    @property
    def options(self) -> tuple[Argument, ...]:
        """Arguments with a flag."""
        return tuple(one for one in self.arguments if one.flags)

    @property
    def positionals(self) -> tuple[Argument, ...]:
        """Arguments without one."""
        return tuple(one for one in self.arguments if not one.flags)

    @property
    def examples(self) -> tuple[tuple[str, str], ...]:
        """What for, and what to type."""
        return EXAMPLES.get(self.name, ())

    def walk(self) -> Iterator[Command]:
        """This one and all below it."""
        yield self
        for one in self.commands:
            yield from one.walk()


def tree(parser: argparse.ArgumentParser, summary: str = "") -> Command:
    """What a parser accepts. argparse shows it to its own formatters only, by names with an underscore."""
    arguments, commands = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {one.dest: one.help or "" for one in action._choices_actions}
            commands += [tree(below, summaries.get(name, "")) for name, below in action.choices.items()]
        elif action.help is not argparse.SUPPRESS:
            arguments.append(_argument(action, parser.prog))
    return Command(
        words=tuple(parser.prog.removeprefix(PROGRAM).split()),
        summary=summary,
        usage=_usage(parser),
        arguments=tuple(arguments),
        notes=" ".join((parser.epilog or "").split()),
        commands=tuple(commands),
    )


def _argument(action: argparse.Action, program: str) -> Argument:
    takes_value = action.nargs != 0
    value = str(action.metavar or (action.dest.upper() if takes_value else ""))
    default = _OF_THE_MACHINE.get(action.dest, action.default)
    text = (action.help or "") % {**vars(action), "prog": program, "default": default}
    return Argument(
        flags=tuple(action.option_strings),
        value=value if takes_value else "",
        help=text,
        choices=tuple(map(str, action.choices or ())),
        content=_CONTENTS.get(value, "") if takes_value else "",
        repeats=action.nargs in ("*", "+") or isinstance(action, argparse._AppendAction),
    )


def _usage(parser: argparse.ArgumentParser) -> str:
    formatter = Help(prog=parser.prog, width=_ONE_LINE)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    return formatter.format_help().removeprefix("usage: ").strip()
