"""`macvlan-egress uninstall`: the entry out of the node's conflist, and what was there before back."""

from __future__ import annotations

import argparse
import os
import sys

from ..attach import records as attachments
from ..model import conflist_names
from ..protocol.errors import TRY_AGAIN_LATER, CniError
from ..sources import conflists
from . import conflist_executable
from .conflist_change import Change, leftovers
from .conflist_diff import Page, printable
from .conflist_file import locked, sweep
from .conflist_record import Records
from .conflist_removal import removals
from .install import add_place

_TRIES = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_place(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would change as a diff, and change nothing"
    )
    parser.add_argument(
        "--executable",
        action="store_true",
        help="remove the executable too; else it stays, for the DEL of pods that run",
    )
    parser.add_argument(
        "--bin-dir",
        default=conflist_executable.BIN_DIRECTORY,
        metavar="DIRECTORY",
        help="where the executable is (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Uninstall, or show what would be done."""
    page = Page()
    records = Records(arguments.state_dir, _complain)
    if arguments.dry_run:
        changes, left = removals(arguments.cni_dir, records, arguments.name)
        page.show(change for change in changes if change.touches_file)
        suffix = " (dry run: nothing is written)"
    else:
        changes, left = _remove(arguments.cni_dir, records, arguments.name)
        suffix = ""
    for change in changes:
        page.say(f"{change.path}: {change.deed}{suffix}")
    for text in left:
        page.say(f"note: {text}")
    if not changes:
        page.say(f"{arguments.cni_dir}: nothing is installed")
    _executable(arguments, page)
    return 0


def _remove(directory: str, records: Records, name: str | None) -> tuple[list[Change], list[str]]:
    changes, left = removals(directory, records, name)
    files = conflists.names(directory)
    unfinished = leftovers(directory, {*files, *map(conflist_names.derived, files), *records.files()})
    if not os.path.isdir(directory):
        return [change for change in changes if change.carry_out(records)], left
    if not changes and not unfinished:
        return [], left
    with locked(directory):
        for path in unfinished:
            sweep(path)
        done: list[Change] = []
        for _ in range(_TRIES):
            changes, left = removals(directory, records, name)
            if not changes:
                return done, left
            done += [change for change in changes if change.carry_out(records)]
    raise CniError(TRY_AGAIN_LATER, f"somebody keeps changing the files in {directory}; try again later")


def _executable(arguments: argparse.Namespace, page: Page) -> None:
    attached = len(list(attachments.Records(arguments.state_dir).keys()))
    there = [path for path in conflist_executable.paths(arguments.bin_dir) if os.path.lexists(path)]
    if attached:
        page.say(
            f"note: {attached} {'pod has' if attached == 1 else 'pods have'} an egress interface still, until deleted "
            "(macvlan-egress status)"
        )
    if not there:
        return
    if not arguments.executable:
        page.say(
            f"{there[0]}: stays, because runtimes call it for the DEL of pods that were made with it; remove it with "
            "'uninstall --executable' when none is left"
        )
    elif arguments.dry_run:
        page.say(f"{', '.join(there)}: would be removed")
    else:
        for path in conflist_executable.uninstall(arguments.bin_dir):
            page.say(f"{path}: removed")


def _complain(text: str) -> None:
    sys.stderr.write(f"macvlan-egress uninstall: {printable(text)}\n")
