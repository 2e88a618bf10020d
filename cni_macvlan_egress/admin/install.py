"""`macvlan-egress install`: the executable into the CNI bin directory, and the entry into the node's conflist."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..model import conflist_names
from ..model.keys import DEFAULT_STATE_DIR
from ..protocol.errors import CniError
from ..sources import conflists
from . import conflist_entry, conflist_executable
from .conflist_change import Change
from .conflist_diff import Page, printable
from .conflist_entry import EntryOptions
from .conflist_installation import Installation, Target

# Their CHECK fails for a pod that has got more addresses than they gave it (conf/README.md).
_STRICT_CHECKS = frozenset(("bridge", "ptp", "host-device", "ipvlan", "macvlan", "vlan"))


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_place(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would change as a diff, and change nothing"
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="stay, and put the entry back when the main CNI writes its file anew; waits for the file if need be",
    )
    parser.add_argument(
        "--disable-check",
        action="store_true",
        help="also tell the runtime not to run CHECK (disableCheck), which bridge and ptp fail; CRI-O runs it",
    )
    conflist_entry.configure(parser)
    conflist_executable.configure(parser)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Declare where things are; uninstall has the same."""
    parser.add_argument(
        "--cni-dir",
        default=conflists.DIRECTORY,
        metavar="DIRECTORY",
        help="where the node's conflists are (default: %(default)s)",
    )
    parser.add_argument(
        "--name",
        type=_file_name,
        metavar="FILE",
        help="the file in it to work on (default: the one that the runtime uses)",
    )
    parser.add_argument(
        "--state-dir",
        default=DEFAULT_STATE_DIR,
        metavar="DIRECTORY",
        help="where the former content is kept (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Install, or show what would be done; with --watch until SIGTERM."""
    page = Page()
    installation = Installation(
        arguments.cni_dir,
        arguments.name,
        arguments.state_dir,
        disable_check=arguments.disable_check,
        say=_complain,
    )
    known = _known_entry(installation) if arguments.watch else installation.known_entry()
    options = EntryOptions.of(arguments).completed(known)
    options.entry(known)  # whatever is wrong with it is told before anything is written
    if arguments.dry_run:
        return _rehearse(installation, options, page)
    if not arguments.watch:
        installation.plan(options.entry)
    if not arguments.no_executable:
        # Before the entry: CRI-O ignores a conflist whose plugins are not there.
        for path in conflist_executable.install(arguments):
            page.say(f"{path}: written")
    if arguments.watch:
        return _watch(installation, options, page)
    changes = installation.apply(options.entry)
    target = installation.target()
    if target is None:  # only our own list of a configuration that is gone was left, and is gone now
        installation.plan(options.entry)
    _tell(changes, target, page)
    return 0


def _rehearse(installation: Installation, options: EntryOptions, page: Page) -> int:
    changes = installation.plan(options.entry)
    page.show(change for change in changes if change.touches_file)
    _tell(changes, installation.target(), page, would=True)
    return 0


def _tell(changes: list[Change], target: Target | None, page: Page, *, would: bool = False) -> None:
    touched = [change for change in changes if change.touches_file]
    for change in touched:
        page.say(f"{change.path}: {change.deed}{' (dry run: nothing is written)' if would else ''}")
    if not touched and target is not None:
        page.say(f"{os.path.join(os.path.dirname(target.source.path), target.file)}: up to date")
    if target is None:
        return
    for note in _notes(target, conflists.names(os.path.dirname(target.source.path))):
        page.say(f"note: {note}")
    if touched and not would:
        page.say("Pods that run already keep the network that they have.")


def _notes(target: Target, names: list[str]) -> Iterator[str]:
    first = min((*names, target.file), key=conflist_names.order)
    if first not in (target.file, target.source.name):
        yield f"runtimes use the first file, {first}, unless they are told a network's name"
    strict = [kind for kind in target.conflist.types if kind in _STRICT_CHECKS]
    text = target.held if target.held is not None else target.source.text
    if strict and '"disableCheck"' not in text:
        yield (
            f"the CHECK of {strict[0]} fails for pods with an egress address, and CRI-O runs CHECK after each ADD: "
            "with CRI-O, install with --disable-check"
        )


def _watch(installation: Installation, options: EntryOptions, page: Page) -> int:
    from .conflist_watcher import Event, follow

    def report(event: Event) -> None:
        page.say(f"{event.kind}: {event.path}: {event.text}")
        page.flush()

    with _ended() as stop:
        follow(installation, options.entry, stop, report)
    page.say("stopped; the entry stays")
    return 0


@contextmanager
def _ended() -> Iterator[int]:
    """A descriptor that SIGTERM and SIGINT make readable."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    former = {
        number: signal.signal(number, lambda _number, _frame: os.write(writer, b"."))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield reader
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _known_entry(installation: Installation) -> dict[str, object] | None:
    """What the watch starts from; a file that cannot be read yet is waited for."""
    try:
        return installation.known_entry()
    except CniError:  # follow() tells of it
        return None


def _complain(text: str) -> None:
    sys.stderr.write(f"macvlan-egress install: {printable(text)}\n")


def _file_name(text: str) -> str:
    if "/" in text or not conflist_names.counts(text):
        kinds = ", ".join(conflist_names.EXTENSIONS)
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file that runtimes read ({kinds})")
    return text
