"""`macvlan-egress manual`: the manual page, made of what the commands accept, so that it cannot say anything else.

docs/man/macvlan-egress.8 and docs/reference-commands.md are its output; a test compares them.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Iterator

from .. import __version__
from ..model.keys import (
    DEFAULT_LOG_FILE,
    DEFAULT_POLICY_DIRECTORY,
    DEFAULT_RUN_DIR,
    DEFAULT_STATE_DIR,
)
from .command_tree import Argument, Command, tree
from .manifests import CONF_DIRECTORY
from .parsing import PROGRAM

_WIDTH = 78
NAME = "give Kubernetes pods fixed addresses on the physical network"
_DESCRIPTION = (
    f"{PROGRAM} is a plugin of the Container Network Interface (CNI). A pod whose annotations ask for it gets a "
    "macvlan interface on the node's physical NIC, with an address of its own, beside the interface of the main "
    "plugin. What other pods send to it goes out to fixed destinations from that address.",
    "Container runtimes run the same executable with CNI_COMMAND set, and it answers as the CNI specification says. "
    "Without that variable it is the command line that is described here.",
)
FILES = (
    (CONF_DIRECTORY, "where runtimes, and commands without --conflist, look for CNI configurations"),
    (DEFAULT_STATE_DIR, "what has been made for which pod"),
    (DEFAULT_RUN_DIR, "locks, sockets, and what of the policies is in force"),
    (DEFAULT_POLICY_DIRECTORY, "egress policies, unless the configuration names another directory"),
    (DEFAULT_LOG_FILE, "the log, a JSON object a line"),
)
ENVIRONMENT = (
    ("CNI_COMMAND", "if set, a runtime calls: ADD, DEL, CHECK, GC, STATUS or VERSION"),
    ("COLUMNS", "the width that help is written for, if it is not the terminal's"),
)
EXIT_STATUS = (
    ("0", "done, and all is well"),
    ("1", "something failed, or what was looked at is not as it should be; the output says what"),
    ("2", "the command line makes no sense; of doctor: it found an error"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--markdown", action="store_true", help="print the reference of the commands in Markdown instead"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    from . import command_reference
    from .command_line import command_parser

    whole = tree(command_parser())
    print(command_reference.page(whole) if arguments.markdown else page(whole), end="")
    return 0


def page(whole: Command) -> str:
    """The page in the language of man(7)."""
    return "\n".join(line for section in _sections(whole) for line in section) + "\n"


def _sections(whole: Command) -> Iterator[Iterable[str]]:
    yield (
        f".\\\" made by '{PROGRAM} manual'",
        f'.TH {PROGRAM.upper()} 8 "" "cni-{PROGRAM} {__version__}" "System Administration"',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{_literal(PROGRAM)} \\- {NAME}",
        ".SH SYNOPSIS",
    )
    yield from (_synopsis(one) for one in whole.walk() if not one.commands)
    yield ".SH DESCRIPTION", _plain(_DESCRIPTION[0]), ".PP", _plain(_DESCRIPTION[1])
    yield (".SH OPTIONS",)
    yield from (_argument(one) for one in whole.arguments)
    yield (".SH COMMANDS",)
    yield from (_command(one) for one in whole.walk() if one.words)
    for title, pairs in (("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT), ("EXIT STATUS", EXIT_STATUS)):
        yield (f".SH {title}",)
        yield from ((".TP", f"\\fB{_literal(what)}\\fR", _plain(words)) for what, words in pairs)
    yield (".SH EXAMPLES",)
    yield _examples(whole)
    yield ".SH SEE ALSO", ".BR ip\\-link (8),", ".BR nft (8),", "https://www.cni.dev"


def _synopsis(command: Command) -> Iterator[str]:
    start = f"{PROGRAM} {command.name}"
    yield f'.SY "{_literal(start)}"'
    if words := command.usage.removeprefix(start).replace(" [-h]", "").strip():
        yield _literal(words)
    yield ".YS"


def _command(command: Command) -> Iterator[str]:
    yield f".SS {_literal(command.name)}"
    yield _plain(_sentence(command.summary))
    for one in command.arguments:
        if one.flags != ("-h", "--help"):
            yield from _argument(one)
    if command.notes:
        yield from (".PP", _plain(_sentence(command.notes)))
    if not command.commands and command.examples:
        yield ".PP"
        yield from _examples(command)


def _examples(command: Command) -> Iterator[str]:
    for number, (what, line) in enumerate(command.examples):
        if number:
            yield ".PP"
        yield _plain(_sentence(what).rstrip(".") if what.endswith("?") else f"{_sentence(what)[:-1]}:")
        yield from (".PP", ".RS 4", ".EX", _literal(line), ".EE", ".RE")


def _argument(argument: Argument) -> Iterator[str]:
    value = f"\\fI{_literal(argument.value)}\\fR" if argument.value else ""
    yield ".TP"
    if argument.flags:
        names = ", ".join(f"\\fB{_literal(flag)}\\fR" for flag in argument.flags)
        yield f"{names} {value}".rstrip()
    else:
        yield value
    chosen = f"one of {', '.join(argument.choices)}" if argument.choices else ""
    words = "; ".join(text for text in (argument.help, chosen) if text)
    if words:
        yield _plain(_sentence(words))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def _plain(text: str) -> str:
    """Words, with hyphens that can be copied where they belong to an option."""
    words = [_literal(one) if one.lstrip("'\"(").startswith("-") else _escaped(one) for one in text.split()]
    lines = textwrap.wrap(" ".join(words), _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(_not_a_request(line) for line in lines)


def _literal(text: str) -> str:
    """What one types."""
    return _not_a_request(_escaped(text).replace("-", "\\-"))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e")


def _not_a_request(line: str) -> str:
    return f"\\&{line}" if line.startswith((".", "'")) else line
