"""Puts egress policies into force: for a pod at its ADD, for all of them when something has changed, never after DEL.

State and kernel are brought from one state to the next by one transaction. Where the kernel is not in the state that
the files speak of (a call was killed between the two, or somebody has flushed the table), the transaction fails as a
whole and the table is made anew.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from ..decide import egress
from ..decide.enforced import (
    Applied,
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
from ..decide.enforcement import TABLE, Compiled, close_table, compile_policy
from ..decide.facts import LinkFact
from ..decide.guard import Guest
from ..decide.interfaces import MainInterface
from ..decide.plan import Plan
from ..kernel import netns
from ..kernel.grace import grace_period
from ..kernel.netns import Sandbox
from ..kernel.nftables import Nftables
from ..kernel.veth import host_end
from ..log import Log
from ..model.configuration import Configuration
from ..model.policy import Answer, Policy
from ..protocol.errors import KERNEL_REFUSED, CniError
from . import locks, policies
from .node import Node
from .policy_state import PodNote, PolicyState
from .records import Record, Records, attachment_key, boot_id

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_INSTALL = "install the egress policies"


@dataclass(frozen=True, slots=True)
class Report:
    """What a sync has done.

    Attributes:
        changes: sentences; none if all was as it should be.
        problems: what an admin should look at.
    """

    changes: tuple[str, ...]
    problems: tuple[str, ...]
    enforced: Enforced


class Policing:
    """The policies of a node."""

    def __init__(self, configuration: Configuration, log: Log) -> None:
        self._configuration = configuration
        self._log = log
        self._state = PolicyState(configuration.run_dir)
        self._names = policies.Names(configuration, self._state)

    def admit(self, note: PodNote, sandbox: Sandbox, plan: Plan | None, nic: LinkFact | None) -> None:
        """Hold a pod that is being added, before it can send anything.

        Args:
            note: the pod; without a MAC address where there is no main interface to hold.
            plan, nic: its macvlan, if it gets one.

        Raises:
            CniError: the policy cannot be found out or put into force; nothing is changed.
        """
        policy = policies.of_namespace(self._configuration, self._state, note.namespace)
        if policy is None and plan is None:
            return
        self._make_sound()
        compiled: dict[str, Compiled] = {}
        applied: dict[str, Applied] = {}
        if policy is not None:
            answers = self._names.addresses([policy], everything=False)
            applied, compiled = self._compiled([policy], answers, self._node().addresses)
        with locks.policy(self._configuration.run_dir):
            old, _ = self._load()
            new = Enforced({**old.namespaces, **_with_hits(applied, old)}, dict(old.mains), dict(old.guards))
            if policy is not None and note.mac:
                new.mains[note.key] = _main_interface(note, sandbox)
            if plan is not None and nic is not None:
                self._admit_guest(new, note, plan, nic)
            if new != old:
                # What somebody may have flushed meanwhile is filled anew, so that this pod at least is held.
                self._enforce(old, self._counted(old, new.tidied()), compiled, renew=compiled.keys())

    def release(self, key: str) -> None:
        """Let go of an attachment; one of which nothing is known is no error.

        Raises:
            CniError: what holds it could not be removed; it can be repeated.
        """
        if not self._state.marked(key):
            self._state.forget(key)
            return
        with locks.policy(self._configuration.run_dir):
            old = self._state.load()
            if old is not None and key in old.keys:
                self._enforce(old, old.without(key), {})
            elif old is not None:  # an ADD was killed between kernel and file, and left what nobody knows of
                self._run_inside(key, Change(switch=close_table()))
                self._enforce(old, old, {}, sound=False)
            else:  # the file is lost: only the table knows
                self._run_inside(key, Change(switch=close_table()))
                self._strip(key)
            self._state.unmark(key)
            self._state.forget(key)

    def sync(self, documents: Iterable[object] | None = None) -> Report:
        """Bring the kernel to what the documents, the names and the pods of now ask for.

        Args:
            documents: the API server's, if somebody has them already.

        Raises:
            CniError: a source cannot be read, or the kernel refuses; then all stays as it is.
        """
        found = policies.of_all(self._configuration, self._state, documents)
        present = {note.namespace for note in self._state.notes()} | {*map(_namespace, self._attachments())}
        answers = self._names.addresses(
            [one for name, one in found.by_namespace.items() if name in present], everything=True
        )
        with locks.policy(self._configuration.run_dir):
            notes = list(self._living())
            attachments = list(self._attachments())
            present = {note.namespace for note in notes} | {_namespace(one) for one in attachments}
            wanted = [one for name, one in found.by_namespace.items() if name in present]
            node = self._node()
            known = {**policies.kept_answers(self._state), **answers}
            applied, compiled = self._compiled(wanted, known, node.addresses)
            old, sound = self._load()
            new = Enforced(_with_hits(applied, old), self._mains(notes, applied, old, node), {})
            for record in attachments:
                nic = node.link(record.plan.link.master) if record.plan else None
                if nic is not None and _namespace(record) in applied and nic.index not in new.guards:
                    guests = self._guests(nic, attachments, set(applied), node)
                    new.guards[nic.index] = node.guard(nic, guests, strict=self._strict)
            changes = list(_differences(old, new))
            new = self._counted(old, new)
            if changes or not sound:
                self._enforce(old, new, compiled, sound=sound)
            if self._mended(new, compiled):
                changes.append("the table was not as it should be, and was made anew")
            marks = self._state.marks()
            for key in marks - new.keys:
                self._state.unmark(key)
            for key in new.keys - marks:
                self._state.mark(key)
        stale = [f"name {name}: {one.error}" for name, one in sorted(answers.items()) if one.error]
        for change_ in changes:
            self._log.info(f"policy: {change_}")
        for problem in (*found.problems, *stale):
            self._log.warning(f"policy: {problem}")
        return Report(tuple(changes), (*found.problems, *stale), new)

    def differences(self, key: str) -> list[str]:
        """What of the rules that hold an attachment is not there.

        Raises:
            CniError: KERNEL_REFUSED, IO_FAILURE.
        """
        enforced, sound = self._load()
        if not sound or key not in enforced.keys:
            return []
        main = enforced.mains.get(key)
        found = self._differences_inside(enforced, main) if main else []
        return [f"policy: {one}" for one in (*found, *self._differences_on_node(enforced))]

    def all_differences(self) -> list[str]:
        """The same for every attachment.

        Raises:
            CniError: KERNEL_REFUSED, IO_FAILURE.
        """
        enforced, _ = self._load()
        found = self._differences_on_node(enforced)
        for main in enforced.mains.values():
            found += self._differences_inside(enforced, main)
        return found

    def _differences_on_node(self, enforced: Enforced) -> list[str]:
        commands = "" if enforced.empty else rebuilt(enforced, self._complete(enforced, {})).text
        return list(_missing(_expected(commands), contents(_objects())))

    def _differences_inside(self, enforced: Enforced, main: MainInterface) -> list[str]:
        actual = self._contents_inside(main)
        if actual is None:
            return []
        compiled = self._complete(enforced, {})[main.namespace]
        return list(_missing(_expected(inside(main, compiled).text), actual))

    # -- what is wanted ----------------------------------------------------------------------------------------

    def _compiled(
        self, wanted: Iterable[Policy], answers: dict[str, Answer], node: Iterable[str]
    ) -> tuple[dict[str, Applied], dict[str, Compiled]]:
        spared = (*self._configuration.cluster_networks, *map(ipaddress.ip_network, node))
        surroundings = egress.Surroundings(spared, answers)
        settings = self._configuration.policy
        applied, compiled = {}, {}
        for given in wanted:
            policy, commands = compile_policy(given, surroundings, log=bool(settings and settings.log))
            if policy.broken:
                self._log.warning(f"policy: {policy.title}: {policy.broken}", namespace=policy.namespace)
            compiled[policy.namespace] = commands
            applied[policy.namespace] = Applied(
                generation=commands.generation,
                title=policy.title,
                broken=policy.broken,
                rules={str(rule.number): egress.describe(rule) for rule in policy.rules},
                objects=commands.objects,
            )
        return applied, compiled

    def _mains(
        self, notes: Iterable[PodNote], applied: dict[str, Applied], old: Enforced, node: Node
    ) -> dict[str, MainInterface]:
        found = {}
        devices = node.devices
        for note in notes:
            if note.namespace not in applied or not note.mac:
                continue
            before = old.mains.get(note.key)
            if before is not None and (before.side == "pod" or before.device in devices):
                found[note.key] = before
                continue
            sandbox = _sandbox(note)
            if sandbox is not None:
                with sandbox:
                    found[note.key] = _main_interface(note, sandbox)
        return found

    def _admit_guest(self, new: Enforced, note: PodNote, plan: Plan, nic: LinkFact) -> None:
        policed = note.namespace in new.namespaces
        guard = new.guards.get(nic.index)
        if not policed and guard is None:
            return
        node = self._node()
        guest = node.guest(note.key, note.namespace if policed else "", plan)
        others = guard.guests if guard else self._guests(nic, self._attachments(), set(new.namespaces), node)
        guests = sorted((*(one for one in others if one.key != note.key), guest), key=_by_key)
        new.guards[nic.index] = node.guard(nic, guests, strict=self._strict)

    def _guests(
        self, nic: LinkFact, attachments: Iterable[Record], policed: set[str], node: Node
    ) -> tuple[Guest, ...]:
        found = (
            node.guest(
                attachment_key(one.container_id, one.ifname),
                _namespace(one) if _namespace(one) in policed else "",
                one.plan,
            )
            for one in attachments
            if one.plan is not None and one.plan.link.master == nic.name
        )
        return tuple(sorted(found, key=_by_key))

    @property
    def _strict(self) -> bool:
        settings = self._configuration.policy
        return settings is None or settings.unknown_macs == "drop"

    def _living(self) -> Iterator[PodNote]:
        """The pods that came by and are still there; of others nothing is kept."""
        for note in self._state.notes():
            sandbox = _sandbox(note)
            if sandbox is None:
                self._state.forget(note.key)
                continue
            sandbox.close()
            yield note

    def _attachments(self) -> Iterator[Record]:
        for _, record in Records(self._configuration.state_dir).peek():
            if record is None or record.plan is None or record.boot_id != boot_id():
                continue
            sandbox = netns.find(record.netns, netns.Identity(record.netns_device, record.netns_inode))
            if sandbox is not None:
                sandbox.close()
                yield record

    def _node(self) -> Node:
        return Node(self._configuration.cluster_networks)

    # -- from state to state -----------------------------------------------------------------------------------

    def _load(self) -> tuple[Enforced, bool]:
        """What is in force, and whether the files know."""
        enforced = self._state.load()
        return (Enforced(), False) if enforced is None else (enforced, True)

    def _make_sound(self) -> None:
        """Where the file cannot be read, begin anew from the documents: without it a step would undo all others."""
        if self._state.load() is None:
            self._log.warning("policy: the state file cannot be read; all rules are made anew")
            self.sync()

    def _complete(self, enforced: Enforced, compiled: Mapping[str, Compiled]) -> dict[str, Compiled]:
        """The policies of a state: those at hand, and the others as they were kept."""
        return {
            name: compiled[name] if name in compiled else self._state.load_compiled(name)
            for name in enforced.namespaces
        }

    def _strip(self, key: str) -> None:
        with Nftables() as nftables:
            last = self._state.marks() <= {key}
            if commands := close_table() if last else stripped(nftables.objects(TABLE), key):
                nftables.run(commands, _INSTALL)
        if last:
            self._state.remove_compiled(self._state.compiled())

    def _enforce(
        self,
        old: Enforced,
        new: Enforced,
        compiled: dict[str, Compiled],
        *,
        sound: bool = True,
        renew: Collection[str] = (),
    ) -> None:
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
                    self._run_inside(key, Change(switch=close_table()))
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
                self._run_inside(key, Change(switch=close_table()))
        for key, main in new.mains.items():
            if main.side != "pod":
                continue
            before, now = old.namespaces.get(main.namespace), new.namespaces[main.namespace]
            if old.mains.get(key) != main or before is None or before.generation != now.generation:
                commands = compiled.get(main.namespace) or self._state.load_compiled(main.namespace)
                self._run_inside(key, inside(main, commands))

    def _run_inside(self, key: str, steps: Change) -> None:
        note = self._state.note(key)
        sandbox = _sandbox(note) if note else None
        if sandbox is None:
            return

        def work() -> None:
            with Nftables() as nftables:
                _run(nftables, steps)

        with sandbox:
            sandbox.run(work)

    def _mended(self, new: Enforced, compiled: dict[str, Compiled]) -> bool:
        """Compare the tables with what they should hold, and make anew those that differ."""
        steps = rebuilt(new, compiled)
        mended = _expected(steps.text) != contents(_objects())
        if mended:
            with Nftables() as nftables:
                _run(nftables, steps)
        for key, main in new.mains.items():
            actual = self._contents_inside(main)
            if actual is None:
                continue
            steps = inside(main, compiled[main.namespace])
            if _expected(steps.text) != actual:
                self._run_inside(key, steps)
                mended = True
        return mended

    def _contents_inside(self, main: MainInterface) -> dict[tuple[str, str], str] | None:
        """What the table in a pod's namespace holds; None if the pod is held on the node, or gone."""
        note = self._state.note(main.key) if main.side == "pod" else None
        sandbox = _sandbox(note) if note else None
        if sandbox is None:
            return None
        with sandbox:
            return contents(sandbox.run(_objects))

    def _counted(self, old: Enforced, new: Enforced) -> Enforced:
        """Carry over what the generations that are about to go have counted."""
        going = [
            name
            for name, one in new.namespaces.items()
            if name in old.namespaces and old.namespaces[name].generation != one.generation
        ]
        if not any(old.namespaces[name].rules == new.namespaces[name].rules for name in going):
            return new
        counts = hits(_objects())
        namespaces = {
            name: replace(one, hits=added(one.hits, counts.get(name, {})))
            if name in going and old.namespaces[name].rules == one.rules
            else one
            for name, one in new.namespaces.items()
        }
        return replace(new, namespaces=namespaces)


def counts(state: PolicyState, enforced: Enforced) -> dict[str, Hits]:
    """What the policies in force have counted, by namespace and comment, since they are the same policies.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    found = hits(_objects())
    for key, main in enforced.mains.items():
        note = state.note(key) if main.side == "pod" else None
        sandbox = _sandbox(note) if note else None
        if sandbox is not None:
            with sandbox:
                inner = hits(sandbox.run(_objects))
            for name, one in inner.items():
                found[name] = added(found.get(name, {}), one)
    for name, applied in enforced.namespaces.items():
        found[name] = added(found.get(name, {}), applied.hits)
    return found


def _run(nftables: Nftables, steps: Change) -> None:
    for commands in filter(None, (steps.prepare, steps.switch)):
        nftables.run(commands, _INSTALL)
    if steps.clear:
        grace_period()
        nftables.run(steps.clear, _INSTALL)


def _main_interface(note: PodNote, sandbox: Sandbox) -> MainInterface:
    inner, outer = host_end(sandbox, note.ifname)
    if inner is None:
        raise CniError(KERNEL_REFUSED, f"the pod has no interface {note.ifname} to hold to its egress policy")
    return MainInterface(
        key=note.key,
        namespace=note.namespace,
        device=outer.name if outer else note.ifname,
        side="host" if outer else "pod",
        mac=note.mac if _MAC.fullmatch(note.mac) else inner.mac,
        addresses=tuple(filter(_is_address, note.addresses)),
    )


def _by_key(guest: Guest) -> str:
    return guest.key


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _sandbox(note: PodNote) -> Sandbox | None:
    return netns.find(note.netns, netns.Identity(note.netns_device, note.netns_inode))


def _namespace(record: Record) -> str:
    return record.pod.partition("/")[0]


def _objects() -> list[dict[str, object]]:
    with Nftables() as nftables:
        return nftables.objects(TABLE)


def _with_hits(applied: dict[str, Applied], old: Enforced) -> dict[str, Applied]:
    """Go on counting where it is still the same policy."""
    return {
        name: replace(one, hits=old.namespaces[name].hits)
        if name in old.namespaces and old.namespaces[name].rules == one.rules
        else one
        for name, one in applied.items()
    }


def _differences(old: Enforced, new: Enforced) -> Iterator[str]:
    for name, one in sorted(new.namespaces.items()):
        before = old.namespaces.get(name)
        if before is None:
            yield f"namespace {name}: {one.title} is in force now"
        elif before.generation != one.generation:
            yield f"namespace {name}: {one.title} has changed, or the addresses of its names have"
    for name in sorted(old.namespaces.keys() - new.namespaces.keys()):
        yield f"namespace {name}: no policy is in force any more"
    for key in sorted(new.keys - old.keys):
        yield f"{key}: held now"
    for key in sorted(old.keys - new.keys):
        yield f"{key}: let go"
    if old.keys == new.keys and (old.mains, old.guards) != (new.mains, new.guards):
        yield "the interfaces that are held have changed"


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
