"""`macvlan-egress completion`: a script by which a shell completes this command line."""

from __future__ import annotations

import argparse
import importlib

from .command_tree import tree

SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", choices=SHELLS, help="whose script")


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    from .command_line import command_parser

    print(script(arguments.shell, command_parser()), end="")
    return 0


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script of one shell for all that a parser accepts."""
    text: str = importlib.import_module(f".shells.{shell}", __package__).script(tree(parser))
    return text
