"""The script for bash 4 and newer. Needs nothing but bash: not the package bash-completion either."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..command_tree import Argument, Command
from ..parsing import PROGRAM

_ACTIONS = {"file": "files", "directory": "directories"}
_FUNCTIONS = """\
_macvlan_egress_names() {
    local -a found
    mapfile -t found < <(compgen "$1" -- "$2")
    COMPREPLY+=("${found[@]}")
    # Outside of a real completion, as in a test, there is nothing to set the option of.
    compopt -o filenames 2>/dev/null
}

_macvlan_egress_value() {
    case $1 in
        files) _macvlan_egress_names -f "$2" ;;
        directories) _macvlan_egress_names -d "$2" ;;
        any) ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2") ;;
    esac
}
"""
_MAIN = """\
_macvlan_egress() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} at="" word i
    local commands options values positional
    COMPREPLY=()
    # bash parts --option=value into three words.
    if [[ $cur == "=" ]]; then
        cur=""
    elif [[ $prev == "=" ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        _macvlan_egress_at "$at"
        if [[ " $commands " == *" $word "* ]]; then
            at="${at:+$at }$word"
        fi
    done
    _macvlan_egress_at "$at"
    if [[ -n $prev && -n ${values[$prev]+set} ]]; then
        _macvlan_egress_value "${values[$prev]}" "$cur"
    elif [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
    elif [[ -n $commands ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
    else
        _macvlan_egress_value "$positional" "$cur"
    fi
}

complete -F _macvlan_egress macvlan-egress
"""


def script(whole: Command) -> str:
    """What `source` takes."""
    return (
        "\n".join(
            (
                f"# bash completion of {PROGRAM}, made by '{PROGRAM} completion bash'",
                "",
                _FUNCTIONS,
                "# Sets what can follow a command: commands, options, values of options, other words.",
                "_macvlan_egress_at() {",
                "    unset values",
                "    declare -gA values=()",
                '    commands="" options="" positional=any',
                "    case $1 in",
                *(line for command in whole.walk() for line in _case(command)),
                "    esac",
                "}",
                "",
                _MAIN,
            )
        ).rstrip("\n")
        + "\n"
    )


def _case(command: Command) -> Iterator[str]:
    yield f'        "{command.name}")'
    if command.commands:
        yield f'            commands="{_words(one.words[-1] for one in command.commands)}"'
    yield f'            options="{_words(flag for one in command.options for flag in one.flags)}"'
    for option in command.options:
        if option.value:
            yield from (f'            values[{flag}]="{_value(option)}"' for flag in option.flags)
    # Which word of several is being typed makes no difference: no command has two kinds of them.
    for argument in command.positionals[:1]:
        yield f'            positional="{_value(argument)}"'
    yield "            ;;"


def _value(argument: Argument) -> str:
    return _words(argument.choices) or _ACTIONS.get(argument.content, "any")


def _words(words: Iterable[str]) -> str:
    return " ".join(words)
