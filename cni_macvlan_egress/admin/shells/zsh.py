"""The script for zsh: a file for a directory of $fpath, which can be sourced as well."""

from __future__ import annotations

from collections.abc import Iterator

from ..command_tree import Argument, Command
from ..parsing import PROGRAM

_ACTIONS = {"file": "_files", "directory": "_files -/"}
_END = """\
# Loaded from $fpath, the file is the function's body; sourced, it says what the function is for.
if [[ ${funcstack[1]} == _macvlan-egress ]]; then
    _macvlan-egress "$@"
else
    compdef _macvlan-egress macvlan-egress
fi
"""


def script(whole: Command) -> str:
    """What a file _macvlan-egress in $fpath holds."""
    head = f"#compdef {PROGRAM}\n# zsh completion of {PROGRAM}, made by '{PROGRAM} completion zsh'\n"
    functions = ("\n".join(_function(command)) for command in reversed(list(whole.walk())))
    return "\n\n".join((head.rstrip("\n"), *functions, _END))


def _function(command: Command) -> Iterator[str]:
    yield f"{_called(command.words)}() {{"
    if command.commands:
        yield "    local context state state_descr line ret=1"
        yield "    typeset -A opt_args"
        yield "    _arguments -C -S \\"
    else:
        yield "    _arguments -S \\"
    specifications = [one for option in command.options for one in _option(option)]
    if command.commands:
        specifications += ["'1:command:->commands'", "'*:: :->words'"]
    else:
        specifications += [_positional(number, one) for number, one in enumerate(command.positionals, 1)]
    yield from (f"        {one} \\" for one in specifications[:-1])
    yield f"        {specifications[-1]}" + (" && ret=0" if command.commands else "")
    if command.commands:
        yield from _below(command)
    yield "}"


def _below(command: Command) -> Iterator[str]:
    yield "    case $state in"
    yield "        commands)"
    yield "            local -a commands=("
    for one in command.commands:
        yield f"                {_quoted(f'{one.words[-1]}:{one.summary}')}"
    yield "            )"
    yield "            _describe -t commands command commands && ret=0"
    yield "            ;;"
    yield "        words)"
    yield "            case ${line[1]} in"
    for one in command.commands:
        yield f"                {one.words[-1]}) {_called(one.words)} && ret=0 ;;"
    yield "            esac"
    yield "            ;;"
    yield "    esac"
    yield "    return ret"


def _called(words: tuple[str, ...]) -> str:
    return "-".join((f"_{PROGRAM}", *words))


def _option(option: Argument) -> Iterator[str]:
    """One specification a name; each name excludes the others, unless it may be repeated."""
    for flag in option.flags:
        exclusion = "*" if option.repeats else f"({' '.join(option.flags)})"
        equals = "=" if option.value and flag.startswith("--") else ""
        value = f":{_escaped(option.value)}:{_action(option)}" if option.value else ""
        yield _quoted(f"{exclusion}{flag}{equals}[{_escaped(option.help)}]{value}")


def _positional(number: int, argument: Argument) -> str:
    place = "*" if argument.repeats else str(number)
    return _quoted(f"{place}:{_escaped(argument.value)}:{_action(argument)}")


def _action(argument: Argument) -> str:
    if argument.choices:
        return f"({' '.join(argument.choices)})"
    return _ACTIONS.get(argument.content, " ")


def _escaped(text: str) -> str:
    for character in "\\:[]":
        text = text.replace(character, f"\\{character}")
    return text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
