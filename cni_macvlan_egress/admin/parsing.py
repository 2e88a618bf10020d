"""The parser of every command: argparse's, with examples below the options."""

from __future__ import annotations

import argparse
from typing import Any

from . import examples

PROGRAM = "macvlan-egress"


class Help(argparse.HelpFormatter):
    """Wraps words to the terminal's width, as argparse does, but leaves paragraphs of lines as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            "\n".join(indent + line for line in paragraph.split("\n"))
            if "\n" in paragraph
            else super(Help, self)._fill_text(paragraph, width, indent)
            for paragraph in text.split("\n\n")
        )


class Parser(argparse.ArgumentParser):
    """Of a command or of one below it; argparse makes the latter of the same class."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401
        super().__init__(**{"formatter_class": Help, **given})

    def format_help(self) -> str:
        """argparse's, with examples at the end."""
        own = self.epilog
        known = examples.epilog(self.prog.removeprefix(PROGRAM).strip())
        self.epilog = "\n\n".join(text for text in (own, known) if text)
        try:
            return super().format_help()
        finally:
            self.epilog = own
