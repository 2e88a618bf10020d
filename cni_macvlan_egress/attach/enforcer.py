"""Brings the kernel from one state of enforced policies to the next, and finds where it is in another one.

State and kernel change together. Where the kernel is not in the state that the files speak of (a call was killed
between the two, or somebody has flushed the table), a transaction fails as a whole and the table is made anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress

from ..decide.enforced import (
    Change,
    Enforced,
    Hits,
    added,
    change,
    contents,
    hits,
    inside,
    rebuilt,
    stripped,
    without_hooks,
)
from ..decide.enforcement import TABLE, Compiled, close_table
from ..decide.interfaces import MainInterface
from ..kernel import netns
from ..kernel.grace import grace_period
from ..kernel.netns import Sandbox
from ..kernel.nftables import Nftables
from ..protocol.errors import CniError
from .policy_state import PodNote, PolicyState

_INSTALL = "install the egress policies"
# What libnftables makes of EOPNOTSUPP, with which a kernel answers that has no such hook.
_UNSUPPORTED = "Operation not supported"


class Enforcer:
    """The tables on the node, and in the pods of which the main interface has no end there."""

    def __init__(self, state: PolicyState) -> None:
        self._state = state

    def differences_on_node(self, enforced: Enforced) -> list[str]:
        """What in the node's table is not as it should be.

        Raises:
            CniError: KERNEL_REFUSED, IO_FAILURE.
        """
        commands = "" if enforced.empty else rebuilt(enforced, self._complete(enforced, {})).text
        return list(_missing(_expected(commands), contents(objects())))

    def differences_inside(self, enforced: Enforced, main: MainInterface) -> list[str]:
        """The same of the table in a pod that is held there.

        Raises:
            CniError: KERNEL_REFUSED, IO_FAILURE.
        """
        actual = self._contents_inside(main)
        if actual is None:
            return []
        compiled = self._complete(enforced, {})[main.namespace]
        return list(_missing(_expected(inside(main, compiled).text), actual))

    def _complete(self, enforced: Enforced, compiled: Mapping[str, Compiled]) -> dict[str, Compiled]:
        """The policies of a state: those at hand, and the others as they were kept."""
        return {
            name: compiled[name] if name in compiled else self._state.load_compiled(name)
            for name in enforced.namespaces
        }

    def strip(self, key: str) -> None:
        """Let an attachment go of which only the table knows.

        Raises:
            CniError: KERNEL_REFUSED, IO_FAILURE.
        """
        with Nftables() as nftables:
            last = self._state.marks() <= {key}
            if commands := close_table() if last else stripped(nftables.objects(TABLE), key):
                nftables.run(commands, _INSTALL)
        if last:
            self._state.remove_compiled(self._state.compiled())

    def enforce(
        self,
        old: Enforced,
        new: Enforced,
        compiled: dict[str, Compiled],
        *,
        sound: bool = True,
        renew: Collection[str] = (),
    ) -> None:
        """Go from one state to another, all or nothing.

        Args:
            compiled: the policies that are at hand; others are taken as they were kept.
            sound: whether the old state is known; else the table is made anew.
            renew: namespaces to fill the fixed chains of, whether they have changed or not.

        Raises:
            CniError: KERNEL_REFUSED, IO_FAILURE.
        """
        kept = {name: one for name, one in compiled.items() if name in new.namespaces}
        try:
            for key in new.keys - old.keys:
                self._state.mark(key)
            for one in kept.values():
                self._state.save_compiled(one)
            self._transact(old, new, kept, sound=sound, renew=renew)
            self._enforce_inside(old, new, kept)
            self._state.save(new)
        except BaseException:
            self._revert(old, new, sound=sound)
            raise
        self._state.remove_compiled(self._state.compiled() - new.namespaces.keys())
        for key in old.keys - new.keys:
            self._state.unmark(key)

    def _revert(self, old: Enforced, new: Enforced, *, sound: bool) -> None:
        """Go back as far as possible; the next sync mends what could not be."""
        if not sound:
            return
        with suppress(CniError), Nftables() as nftables:
            _run(nftables, rebuilt(old, self._complete(old, {})))
        for key in new.keys - old.keys:
            with suppress(CniError):
                if (main := new.mains.get(key)) is not None and main.side == "pod":
                    self.run_inside(key, Change(switch=close_table()))
                self._state.unmark(key)
        with suppress(CniError):
            self._state.remove_compiled(new.namespaces.keys() - old.namespaces.keys())

    def _transact(
        self,
        old: Enforced,
        new: Enforced,
        compiled: dict[str, Compiled],
        *,
        sound: bool,
        renew: Collection[str],
    ) -> None:
        with Nftables() as nftables:
            if not sound:
                _run(nftables, rebuilt(new, self._complete(new, compiled)))
                return
            steps = change(old, new, compiled, renew)
            try:
                _run(nftables, steps)
            except CniError:
                _run(nftables, rebuilt(new, self._complete(new, compiled)))

    def _enforce_inside(self, old: Enforced, new: Enforced, compiled: dict[str, Compiled]) -> None:
        """Hold the pods whose main interface has no end on the node, in their own namespace."""
        for key, main in old.mains.items():
            if main.side == "pod" and key not in new.mains:
                self.run_inside(key, Change(switch=close_table()))
        for key, main in new.mains.items():
            if main.side != "pod":
                continue
            before, now = old.namespaces.get(main.namespace), new.namespaces[main.namespace]
            if old.mains.get(key) != main or before is None or before.generation != now.generation:
                commands = compiled.get(main.namespace) or self._state.load_compiled(main.namespace)
                self.run_inside(key, inside(main, commands))

    def run_inside(self, key: str, steps: Change) -> None:
        """Do it in a pod's own namespace; a pod that is gone is no error.

        Raises:
            CniError: KERNEL_REFUSED.
        """
        note = self._state.note(key)
        sandbox = sandbox_of_note(note) if note else None
        if sandbox is None:
            return

        def work() -> None:
            with Nftables() as nftables:
                _run(nftables, steps)

        with sandbox:
            sandbox.run(work)

    def mend(self, new: Enforced, compiled: dict[str, Compiled]) -> bool:
        """Compare the tables with what they should hold, and make anew those that differ."""
        steps = rebuilt(new, compiled)
        mended = _expected(steps.text) != contents(objects())
        if mended:
            with Nftables() as nftables:
                _run(nftables, steps)
        for key, main in new.mains.items():
            actual = self._contents_inside(main)
            if actual is None:
                continue
            steps = inside(main, compiled[main.namespace])
            if _expected(steps.text) != actual:
                self.run_inside(key, steps)
                mended = True
        return mended

    def _contents_inside(self, main: MainInterface) -> dict[tuple[str, str], str] | None:
        """What the table in a pod's namespace holds; None if the pod is held on the node, or gone."""
        found = _objects_inside(self._state, main)
        return None if found is None else contents(found)


def counts(state: PolicyState, enforced: Enforced) -> dict[str, Hits]:
    """What the policies in force have counted, by namespace and comment, since they are the same policies.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    found = hits(objects())
    for main in enforced.mains.values():
        for name, one in hits(_objects_inside(state, main) or ()).items():
            found[name] = added(found.get(name, {}), one)
    for name, applied in enforced.namespaces.items():
        found[name] = added(found.get(name, {}), applied.hits)
    return found


def _run(nftables: Nftables, steps: Change) -> None:
    for commands in filter(None, (steps.prepare, steps.switch)):
        _install(nftables, commands)
    if steps.clear:
        grace_period()
        nftables.run(steps.clear, _INSTALL)


def _install(nftables: Nftables, commands: str) -> None:
    try:
        nftables.run(commands, _INSTALL)
    except CniError as error:
        if _UNSUPPORTED not in error.msg:
            raise
        raise CniError(
            error.code,
            f"cannot {_INSTALL}: the kernel has no nftables hook where packets leave an interface; boot one of 5.16 or "
            "newer with CONFIG_NETFILTER_EGRESS, or take 'policy' out of the configuration",
            error.details,
        ) from None


def _objects_inside(state: PolicyState, main: MainInterface) -> list[dict[str, object]] | None:
    note = state.note(main.key) if main.side == "pod" else None
    sandbox = sandbox_of_note(note) if note else None
    if sandbox is None:
        return None
    with sandbox:
        return sandbox.run(objects)


def sandbox_of_note(note: PodNote) -> Sandbox | None:
    return netns.find(note.netns, netns.Identity(note.netns_device, note.netns_inode))


def objects() -> list[dict[str, object]]:
    with Nftables() as nftables:
        return nftables.objects(TABLE)


def _expected(commands: str) -> dict[tuple[str, str], str]:
    """What a table holds after commands, in nft's own words: run in an empty namespace and read back."""
    if not commands:
        return {}

    def install() -> list[dict[str, object]]:
        with Nftables() as nftables:
            nftables.run(without_hooks(commands), _INSTALL)
            return nftables.objects(TABLE)

    return contents(netns.in_new_namespace(install))


def _missing(expected: dict[tuple[str, str], str], actual: dict[tuple[str, str], str]) -> Iterator[str]:
    for kind, name in sorted(expected.keys() | actual.keys()):
        wanted, found = expected.get((kind, name)), actual.get((kind, name))
        if found is None:
            yield f"{kind} {name}: expected in the table, found none of that name"
        elif wanted is None:
            yield f"{kind} {name}: found in the table, expected none of that name"
        elif wanted != found:
            what = "rules" if kind == "chain" else "elements"
            lines, others = wanted.splitlines(), found.splitlines()
            lost, strange = len(set(lines) - set(others)), len(set(others) - set(lines))
            yield f"{kind} {name}: {lost} of the {len(lines)} expected {what} not found, {strange} found that were not"
