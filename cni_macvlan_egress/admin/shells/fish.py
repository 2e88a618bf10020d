"""The script for fish 3 and newer: a file for ~/.config/fish/completions, which can be sourced as well."""

from __future__ import annotations

from collections.abc import Iterator

from ..command_tree import Argument, Command
from ..parsing import PROGRAM

_FUNCTIONS = """\
# Prints the commands that have been typed before the cursor, without the options between them.
function __macvlan_egress_at
    set -l at
    for word in (commandline -opc)[2..]
        set -l next (string join -- ' ' $at $word)
        contains -- $next $__macvlan_egress_commands; and set at $next
    end
    string join -- ' ' $at
end

function __macvlan_egress_is
    set -l at (__macvlan_egress_at)
    test "$at" = "$argv"
end
"""


def script(whole: Command) -> str:
    """What `source` takes."""
    names = " ".join(_quoted(one.name) for one in whole.walk() if one.words)
    lines = [
        f"# fish completion of {PROGRAM}, made by '{PROGRAM} completion fish'",
        "",
        f"set -g __macvlan_egress_commands {names}",
        "",
        _FUNCTIONS,
        f"complete -c {PROGRAM} -f",
    ]
    for command in whole.walk():
        lines += _lines(command)
    return "\n".join(lines) + "\n"


def _lines(command: Command) -> Iterator[str]:
    condition = f"complete -c {PROGRAM} -n {_quoted(f'__macvlan_egress_is {command.name}'.strip())}"
    for one in command.commands:
        yield f"{condition} -a {one.words[-1]} -d {_quoted(one.summary)}"
    for option in command.options:
        names = " ".join(
            f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags
        )
        value = f" -r {_values(option)}" if option.value else ""
        yield f"{condition} {names}{value} -d {_quoted(option.help)}"
    # Which word of several is being typed makes no difference: no command has two kinds of them.
    for argument in command.positionals[:1]:
        if argument.choices or argument.content:
            yield f"{condition} {_values(argument)}"


def _values(argument: Argument) -> str:
    if argument.choices:
        return f"-f -a {_quoted(' '.join(argument.choices))}"
    if argument.content == "directory":
        return "-f -a '(__fish_complete_directories (commandline -ct))'"
    return "-F" if argument.content else "-f"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
