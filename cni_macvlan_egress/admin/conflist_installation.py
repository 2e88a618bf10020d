"""Our entry in a node's conflist: finds the file that runtimes use, and says what has to change in which files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ..model import conflist_names
from ..model.conflist_text import TYPE, Conflist, parse
from ..protocol.errors import INVALID_CONFIGURATION, NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from ..sources import conflists
from .conflist_change import Change, leftovers, path_in
from .conflist_file import locked, sweep
from .conflist_record import Record, Records, fingerprint
from .conflist_removal import removal

# Gives the entry to install from the one that is there, or was installed before.
Wish = Callable[[dict[str, Any] | None], dict[str, Any]]
_TRIES = 5
_THIN_MULTUS = "multus"


@dataclass(frozen=True, slots=True)
class Target:
    """The file to install into.

    Attributes:
        source: what our entry is chained after; file is made from it if it is not a list.
        file: the name of the file that gets the entry.
        held: its content, None if it has to be made.
    """

    source: conflists.Configuration
    conflist: Conflist
    file: str
    held: str | None

    @property
    def entry(self) -> dict[str, Any] | None:
        """Our entry in the file."""
        return self.conflist.entry if self.file == self.source.name else _entry_in(self.held)


class Installation:
    """What install, --watch and the daemon do to a CNI directory.

    Args:
        directory: where the node's conflists are.
        name: the file to install into; None: the one that runtimes use.
        state_dir: of the plugin, for the records.
        disable_check: also tell runtimes not to run CHECK.
        say: hears of a record that cannot be used.
    """

    def __init__(
        self,
        directory: str,
        name: str | None,
        state_dir: str,
        *,
        disable_check: bool = False,
        say: Callable[[str], object] = lambda _text: None,
    ) -> None:
        self.directory = directory
        self.records = Records(state_dir, say)
        self._name = name
        self._disable_check = disable_check

    def target(self) -> Target | None:
        """The file that runtimes use, or the one that was named; None if there is none yet.

        Raises:
            CniError: IO_FAILURE; DECODING_FAILURE or INVALID_CONFIGURATION if it cannot be used.
        """
        names = conflists.names(self.directory)
        name = self._name if self._name is not None else _first(names, self.records.files())
        if name:
            name = next((one for one in conflist_names.sources(name) if one in names), name)
        source = conflists.read(self.directory, name) if name else None
        if source is None:
            return None
        conflist = _usable(source)
        if conflist_names.is_list(source.name):
            return Target(source, conflist, source.name, source.text)
        file = conflist_names.derived(source.name)
        _check_order(names, source.name, file)
        made = conflists.read(self.directory, file)
        return Target(source, conflist, file, made.text if made else None)

    def known_entry(self) -> dict[str, Any] | None:
        """Our entry as it is in the file, else as it was installed before.

        Raises:
            CniError: as target().
        """
        target = self.target()
        return (target.entry if target else None) or self._recorded_entry(target)

    def plan(self, wish: Wish) -> list[Change]:
        """The changes that are left to do; none if all is as it should be. Nothing is written.

        Raises:
            CniError: NOT_AVAILABLE if there is no conflist yet; as target(), and what the wish raises.
        """
        target = self.target()
        departures = self._departures(target)
        if target is None:
            if departures:
                return departures
            raise CniError(
                NOT_AVAILABLE,
                f"{self.directory} has no {self._name or 'CNI configuration yet'}; install the main CNI first, or let "
                "'install --watch' wait for it",
            )
        entry = wish(target.entry or self._recorded_entry(target))
        return [*self._addition(target, entry), *departures]

    def apply(self, wish: Wish, *, standing: bool = False) -> list[Change]:
        """Do what is left to do, and say what that was.

        Args:
            standing: only if nobody has uninstalled.

        Raises:
            CniError: as plan(); TRY_AGAIN_LATER if somebody keeps changing the file; IO_FAILURE.
        """
        if not self.plan(wish) and not self._leftovers():
            return []
        with locked(self.directory):
            if standing and self.withdrawn():
                return []
            for path in self._leftovers():
                sweep(path)
            done: list[Change] = []
            for _ in range(_TRIES):
                changes = self.plan(wish)
                done += [change for change in changes if change.carry_out(self.records)]
                if all(change in done for change in changes):
                    return done
        raise CniError(
            TRY_AGAIN_LATER, f"somebody keeps changing the files in {self.directory}; try again later"
        )

    def withdrawn(self) -> bool:
        """Whether there is no record of an installation: somebody has uninstalled."""
        return not self.records.files()

    def _leftovers(self) -> list[str]:
        target = self.target()
        return leftovers(self.directory, {*self.records.files(), *([target.file] if target else [])})

    def _recorded_entry(self, target: Target | None) -> dict[str, Any] | None:
        """The entry of this file's record, else of the one that was installed before the main CNI took another."""
        files = self.records.files()
        if target is not None and target.file in files:
            files.insert(0, target.file)
        found = (record for file in files if (record := self.records.load(file)))
        return next((record.entry for record in found), None)

    def _addition(self, target: Target, entry: dict[str, Any]) -> list[Change]:
        record = self.records.load(target.file)
        disable_check = self._disable_check or bool(record and record.disable_check)
        path, in_place = path_in(self.directory, target.file), target.file == target.source.name
        if in_place:
            conflist = target.conflist
            # What others have set is not ours to take away later.
            disable_check = disable_check and (
                not conflist.disables_check or bool(record and record.disable_check)
            )
            after = conflist.with_entry(entry, disable_check=disable_check)
            former: str | None = _former(conflist, record)
        else:
            after, former = target.conflist.as_list(entry, disable_check=disable_check), None
        wanted = Record(
            file=target.file,
            source=None if in_place else target.source.name,
            former=former,
            written=fingerprint(after),
            entry=entry,
            disable_check=disable_check,
            named=self._name is not None,
        )
        if after == target.held and wanted == record:
            return []
        deed = _deed(target, after)
        return [Change(path, target.file, target.held, after, target.source.path, wanted, deed)]

    def _departures(self, target: Target | None) -> list[Change]:
        """Our entry leaves files that runtimes do not use any longer, so that no pod meets it twice."""
        changes = []
        for file in self.records.files() if self._name is None else ():
            record = self.records.load(file)
            if record is None or record.named or (target is not None and file == target.file):
                continue
            with suppress(CniError):  # what cannot be read is used by no runtime; uninstall tells of it
                change = removal(self.directory, self.records, file)
                if change is None:
                    continue
                if target is not None:
                    changes.append(change)
                elif record.source is not None and change.touches_file:
                    # What the list was made from is gone. What was asked for is kept for the next main CNI.
                    changes.append(replace(change, record=record))
        return changes


def _first(names: list[str], recorded: list[str]) -> str | None:
    """The file that runtimes would use if there were no list of our making."""
    for name in names:
        sources = conflist_names.sources(name)
        if not sources or (name not in recorded and not any(source in names for source in sources)):
            return name
    return None


def _usable(source: conflists.Configuration) -> Conflist:
    try:
        conflist = parse(source.text, listed=conflist_names.is_list(source.name))
    except CniError as error:
        raise CniError(
            error.code, f"{source.path}: {error.msg}; nothing is changed (or is it just being written?)"
        ) from None
    if conflist.stands_alone:
        raise CniError(
            INVALID_CONFIGURATION,
            f"{source.path}: network {conflist.name!r} is one of {TYPE} itself: there is nothing to chain after; "
            "choose another file with --name",
        )
    if conflist.types == (_THIN_MULTUS,) and not conflist_names.is_list(source.name):
        raise CniError(
            INVALID_CONFIGURATION,
            f"{source.path}: a list made from it would be taken for the main CNI by this Multus (thin) when it starts "
            "next; let it write a .conflist (--cni-version=1.0.0), use Multus thick, or choose the main CNI's own file "
            "with --name and set kubeconfig, as Multus passes no annotations on",
        )
    return conflist


def _check_order(names: list[str], source: str, file: str) -> None:
    """A list made from a lone configuration has to come right before it: found first, and nobody else's place."""
    between = [
        name
        for name in names
        if name != file
        and conflist_names.order(file) < conflist_names.order(name) < conflist_names.order(source)
    ]
    if between:
        raise CniError(
            INVALID_CONFIGURATION,
            f"{file}, which would be made from {source}, would come before {between[0]} and take its place; rename "
            "one of them",
        )


def _former(conflist: Conflist, record: Record | None) -> str:
    """The file without us: as it was when we came, if nobody has changed it since."""
    if conflist.entry is None:
        return conflist.text
    if record is not None and record.former is not None and fingerprint(conflist.text) == record.written:
        return record.former
    return conflist.without_entry(enable_check=bool(record and record.disable_check))


def _deed(target: Target, after: str) -> str:
    if after == target.held:
        return "the entry is there; it is only remembered now"
    if target.file != target.source.name:
        made = "made" if target.held is None else "made anew"
        return f"{made} from {target.source.name}, which stays as it is; runtimes find the new file first"
    if target.entry is not None:
        return f"the entry of {TYPE} is brought up to date"
    return f"the entry of {TYPE} is added after {target.conflist.types[-1]}"


def _entry_in(text: str | None) -> dict[str, Any] | None:
    """Our entry in a list that install has made; nothing if somebody has made something else of it."""
    if text is None:
        return None
    try:
        return parse(text, listed=True).entry
    except CniError:  # it is written anew from its source in any case
        return None
