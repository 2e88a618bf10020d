"""The reference of the commands in Markdown, made of what they accept: docs/reference-commands.md."""

from __future__ import annotations

from collections.abc import Iterator

from .command_tree import Argument, Command
from .parsing import PROGRAM

_HEAD = f"""\
# Commands

<!-- made by '{PROGRAM} manual --markdown' -->

`{PROGRAM} COMMAND --help` says the same in a terminal, `man {PROGRAM}` all of it; `{PROGRAM} completion`
makes a shell complete it. The exit status is 0 if all is well, 1 if something failed or is not as it should be, and 2
if the command line makes no sense.

| command | what it does |
| --- | --- |
"""


def page(whole: Command) -> str:
    """The page."""
    commands = [one for one in whole.walk() if one.words and not one.commands]
    rows = "".join(f"| [`{one.name}`](#{one.name.replace(' ', '-')}) | {one.summary} |\n" for one in commands)
    return _HEAD + rows + "".join("\n" + "\n".join(_section(one)) + "\n" for one in commands)


def _section(command: Command) -> Iterator[str]:
    yield f"## {command.name}"
    yield ""
    yield f"{command.summary[:1].upper()}{command.summary[1:]}."
    yield ""
    yield "```"
    for what, line in command.examples:
        yield f"# {what}"
        yield line
    yield "```"
    arguments = [one for one in command.arguments if one.flags != ("-h", "--help")]
    if arguments:
        yield ""
        yield "| argument | meaning |"
        yield "| --- | --- |"
        yield from (f"| {_names(one)} | {_meaning(one)} |" for one in arguments)
    if command.notes:
        yield ""
        yield f"{command.notes[:1].upper()}{command.notes[1:]}"


def _names(argument: Argument) -> str:
    value = f" {argument.value}" if argument.value else ""
    if not argument.flags:
        return f"`{argument.value}`" + (" …" if argument.repeats else "")
    return ", ".join(f"`{flag}{value if flag == argument.flags[-1] else ''}`" for flag in argument.flags)


def _meaning(argument: Argument) -> str:
    text = argument.help.replace("|", "\\|")
    if argument.choices:
        text += f"{'; ' if text else ''}one of {', '.join(f'`{one}`' for one in argument.choices)}"
    return text
