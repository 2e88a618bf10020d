"""Decides which egress policies are in force: for a pod at its ADD and DEL, for all when something has changed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..decide import egress
from ..decide.enforced import (
    Applied,
    Change,
    Enforced,
    added,
    hits,
)
from ..decide.enforcement import Compiled, close_table, compile_policy
from ..decide.facts import LinkFact
from ..decide.guard import Guest
from ..decide.interfaces import MainInterface
from ..decide.plan import Plan
from ..kernel.netns import Sandbox
from ..kernel.veth import host_end
from ..log import Log
from ..model.configuration import Configuration
from ..model.policy import Answer, Policy
from ..protocol.errors import KERNEL_REFUSED, CniError
from . import locks, pods, policies
from .attachments import is_alive
from .enforcer import Enforcer, objects, sandbox_of_note
from .node import Node
from .policy_state import PodNote, PolicyState
from .records import Record, Records, attachment_key

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


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
        self._enforcer = Enforcer(self._state)
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
                self._enforcer.enforce(old, self._counted(old, new.tidied()), compiled, renew=compiled.keys())

    def release(self, key: str) -> None:
        """Let go of an attachment; one of which nothing is known is no error.

        Raises:
            CniError: what holds it could not be removed; it can be repeated.
        """
        if not pods.marked(self._configuration.run_dir, key):
            self._state.forget(key)
            return
        with locks.policy(self._configuration.run_dir):
            old = self._state.load()
            if old is not None and key in old.keys:
                self._enforcer.enforce(old, old.without(key), {})
            elif old is not None:  # an ADD was killed between kernel and file, and left what nobody knows of
                self._enforcer.run_inside(key, Change(switch=close_table()))
                self._enforcer.enforce(old, old, {}, sound=False)
            else:  # the file is lost: only the table knows
                self._enforcer.run_inside(key, Change(switch=close_table()))
                self._enforcer.strip(key)
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
                self._enforcer.enforce(old, new, compiled, sound=sound)
            if self._enforcer.mend(new, compiled):
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
        found = self._enforcer.differences_inside(enforced, main) if main else []
        return [f"policy: {one}" for one in (*found, *self._enforcer.differences_on_node(enforced))]

    def all_differences(self) -> list[str]:
        """The same for every attachment.

        Raises:
            CniError: KERNEL_REFUSED, IO_FAILURE.
        """
        enforced, _ = self._load()
        found = self._enforcer.differences_on_node(enforced)
        for main in enforced.mains.values():
            found += self._enforcer.differences_inside(enforced, main)
        return found

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
            sandbox = sandbox_of_note(note)
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
            sandbox = sandbox_of_note(note)
            if sandbox is None:
                self._state.forget(note.key)
                continue
            sandbox.close()
            yield note

    def _attachments(self) -> Iterator[Record]:
        for _, record in Records(self._configuration.state_dir).peek():
            if record is not None and record.plan is not None and is_alive(record):
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

    def _counted(self, old: Enforced, new: Enforced) -> Enforced:
        """Carry over what the generations that are about to go have counted."""
        going = [
            name
            for name, one in new.namespaces.items()
            if name in old.namespaces and old.namespaces[name].generation != one.generation
        ]
        if not any(old.namespaces[name].rules == new.namespaces[name].rules for name in going):
            return new
        counts = hits(objects())
        namespaces = {
            name: replace(one, hits=added(one.hits, counts.get(name, {})))
            if name in going and old.namespaces[name].rules == one.rules
            else one
            for name, one in new.namespaces.items()
        }
        return replace(new, namespaces=namespaces)


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


def _namespace(record: Record) -> str:
    return record.pod.partition("/")[0]


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
