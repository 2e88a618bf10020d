"""What of all policies is in force on a node, as data, and the way from one such state to the next."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .enforcement import (
    TABLE,
    Compiled,
    close_namespace,
    close_table,
    drop_namespace,
    drop_objects,
    fresh_table,
    open_table,
    prepare_namespace,
    renew_namespace,
)
from .guard import Guard, drop_guard, put_guard
from .interfaces import MainInterface, drop_main_interface, put_main_interface, short

Hits = dict[str, tuple[int, int]]
_HOOK = re.compile(r" \{ type filter hook [^}]*\}")
_COUNTING_MAP = re.compile(r"g[0-9a-f]{8}-(.+)-(?:to[46]|ports[46]-\d+)")
_COUNTING_CHAIN = re.compile(r"ns-(.+)-denied|g[0-9a-f]{8}-(.+)-ports[46]-\d+")
# The kernel fills these as packets come.
_DYNAMIC = (("set", "inbound4"), ("set", "inbound6"))


@dataclass(frozen=True, slots=True)
class Applied:
    """A namespace's policy as it is in the kernel.

    Attributes:
        title, broken: the policy's.
        rules: the text of each rule by its number.
        objects: what the next generation has to delete.
        hits: packets and bytes that former generations of the same policy counted, by the comments of their rules.
    """

    generation: str
    title: str
    broken: str = ""
    rules: dict[str, str] = field(default_factory=dict)
    objects: tuple[tuple[str, str], ...] = ()
    hits: Hits = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Enforced:
    """The state of a node.

    Attributes:
        mains: the pods' main interfaces that a policy holds, by attachment.
        guards: NICs with macvlans of which a policy holds at least one, by index.
    """

    namespaces: dict[str, Applied] = field(default_factory=dict)
    mains: dict[str, MainInterface] = field(default_factory=dict)
    guards: dict[int, Guard] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing of it is on the node's side."""
        return not self.guards and all(one.side == "pod" for one in self.mains.values())

    @property
    def keys(self) -> set[str]:
        """Every attachment that is concerned."""
        guests = {one.key for guard in self.guards.values() for one in guard.guests}
        return self.mains.keys() | guests

    def without(self, key: str) -> Enforced:
        """The state after an attachment has gone, with what was there for its sake only."""
        mains = {one: held for one, held in self.mains.items() if one != key}
        guards = {}
        for index, guard in self.guards.items():
            left = replace(guard, guests=tuple(one for one in guard.guests if one.key != key))
            if any(one.namespace for one in left.guests):
                guards[index] = left
        return Enforced(self.namespaces, mains, guards).tidied()

    def tidied(self) -> Enforced:
        """Without the namespaces that nobody needs."""
        used = {one.namespace for one in self.mains.values()}
        used |= {one.namespace for guard in self.guards.values() for one in guard.guests}
        kept = {name: one for name, one in self.namespaces.items() if name in used}
        return Enforced(kept, self.mains, self.guards)

    def on_node(self) -> set[str]:
        """The namespaces that the node's own table has to hold."""
        used = {one.namespace for one in self.mains.values() if one.side == "host"}
        return used | {
            one.namespace for guard in self.guards.values() for one in guard.guests if one.namespace
        }


@dataclass(frozen=True, slots=True)
class Change:
    """The commands that lead from one state to another, as three transactions.

    Attributes:
        prepare: makes new maps. A map that comes in the same transaction as the rule that leads to it is found empty by
            a packet that passes at that very moment.
        switch: the change itself.
        clear: removes what nothing leads to any more, when a grace period is over: a packet that is on its way by the
            old rules looks up the old maps.
    """

    prepare: str = ""
    switch: str = ""
    clear: str = ""

    @property
    def text(self) -> str:
        """What leads to the new state, in one piece."""
        return self.prepare + self.switch


def change(
    old: Enforced, new: Enforced, compiled: Mapping[str, Compiled], renew: Collection[str] = ()
) -> Change:
    """The way from one state to another.

    Args:
        compiled: the policies of the new state; those of which the generation stays may be left out.
        renew: namespaces to fill the fixed chains of, though their generation stays.

    Raises:
        CniError: INVALID_CONFIGURATION for an interface name that nftables cannot write.
    """
    if new.empty:
        return Change(switch="" if old.empty else close_table())
    had, wanted = old.on_node(), new.on_node()
    differing = [
        name
        for name in sorted(wanted)
        if name not in had or old.namespaces[name].generation != new.namespaces[name].generation
    ]
    opened = open_table() if old.empty or renew else ""
    prepare = opened + "".join(prepare_namespace(compiled[name]) for name in differing)
    renewed = [*differing, *sorted(name for name in renew if name in wanted and name not in differing)]
    switch = "".join(renew_namespace(compiled[name]) for name in renewed) + "".join(_steps(old, new))
    clear = "".join(drop_objects(old.namespaces[name].objects) for name in differing if name in had)
    return Change(prepare, switch, clear)


def rebuilt(new: Enforced, compiled: Mapping[str, Compiled]) -> Change:
    """The way to a state from whatever is there; nothing passes until the maps can be found.

    Raises:
        CniError: as change().
    """
    if new.empty:
        return Change(switch=close_table())
    names = sorted(new.on_node())
    closed = "".join(prepare_namespace(compiled[name]) + close_namespace(name) for name in names)
    return Change(
        prepare=fresh_table() + closed + "".join(_steps(Enforced(), new)),
        switch="".join(renew_namespace(compiled[name]) for name in names),
    )


def stripped(objects: Sequence[Mapping[str, Any]], key: str) -> str:
    """The commands that let one attachment go of which only the table knows, as libnftables-json(5) lists it."""
    chains = {one["chain"]["name"] for one in objects if "chain" in one}
    main, guest = f"pod-{short(key)}", f"lan-{short(key)}"
    lines = [f"delete chain {TABLE} {name}" for name in (main, f"{main}-in") if name in chains]
    macs = set()
    maps = [one["map"] for one in objects if "map" in one and one["map"]["name"].startswith("guard-")]
    for one in maps:
        for mac, verdict in one.get("elem", ()):
            if verdict.get("goto", {}).get("target") == guest:
                macs.add(mac)
    for one in maps:
        for mac, _ in one.get("elem", ()):
            if mac in macs:
                lines.append(f"delete element {TABLE} {one['name']} {{ {mac} }}")
    if guest in chains:
        lines.append(f"delete chain {TABLE} {guest}")
    return "".join(f"{line}\n" for line in lines)


def inside(held: MainInterface, compiled: Compiled) -> Change:
    """The table in the pod's own namespace, where the main CNI leaves no end on the node."""
    closed = prepare_namespace(compiled) + close_namespace(compiled.namespace)
    return Change(fresh_table() + closed + put_main_interface(held), renew_namespace(compiled))


def contents(objects: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """What a table's chains, maps and sets hold, less counters and hooks, as libnftables-json(5) lists it."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in objects:
        for kind, body in one.items():
            if kind in ("chain", "map", "set") and (kind, body["name"]) not in _DYNAMIC:
                found[kind, body["name"]] = sorted(map(_plain, body.get("elem", ())))
    for one in objects:
        if "rule" in one:
            found["chain", one["rule"]["chain"]].append(_plain(one["rule"]["expr"]))
    return {key: "\n".join(lines) for key, lines in found.items()}


def without_hooks(commands: str) -> str:
    """The same commands with chains that need no interfaces, so that any namespace can hold them."""
    return _HOOK.sub("", commands)


def _plain(value: object) -> str:
    return json.dumps(_uncounted(value), sort_keys=True)


def _uncounted(value: object) -> object:
    if isinstance(value, dict):
        return {key: _uncounted(one) for key, one in value.items() if key not in ("packets", "bytes")}
    return [_uncounted(one) for one in value] if isinstance(value, list) else value


def hits(objects: Sequence[Mapping[str, Any]]) -> dict[str, Hits]:
    """What a table has counted, by namespace and comment."""
    found: dict[str, Hits] = {}
    for one in objects:
        if "map" in one and (matched := _COUNTING_MAP.fullmatch(one["map"]["name"])):
            for element in one["map"].get("elem", ()):
                inner = element[0].get("elem") if isinstance(element[0], dict) else None
                if inner and "counter" in inner and "comment" in inner:
                    _count(found, matched[1], inner["comment"], inner["counter"])
        elif "rule" in one and "comment" in one["rule"]:
            rule = one["rule"]
            chain = _COUNTING_CHAIN.fullmatch(rule["chain"])
            counter = next((part["counter"] for part in rule["expr"] if "counter" in part), None)
            if counter is not None:
                namespace = (chain[1] or chain[2]) if chain else ""
                _count(found, namespace, rule["comment"], counter)
    return found


def added(first: Hits, second: Hits) -> Hits:
    """The sums of two counts."""
    total = dict(first)
    for mark, (packets, size) in second.items():
        before = total.get(mark, (0, 0))
        total[mark] = (before[0] + packets, before[1] + size)
    return total


def _count(found: dict[str, Hits], namespace: str, mark: str, counter: Mapping[str, int]) -> None:
    of_namespace = found.setdefault(namespace, {})
    packets, size = of_namespace.get(mark, (0, 0))
    of_namespace[mark] = (packets + counter["packets"], size + counter["bytes"])


def _steps(old: Enforced, new: Enforced) -> Iterator[str]:
    for key, held in old.mains.items():
        if held.side == "host" and new.mains.get(key) != held:
            yield drop_main_interface(key)
    for key, held in new.mains.items():
        if held.side == "host" and old.mains.get(key) != held:
            yield put_main_interface(held)
    for index, guard in old.guards.items():
        if index not in new.guards:
            yield drop_guard(guard)
    for index, guard in new.guards.items():
        if old.guards.get(index) != guard:
            yield put_guard(guard, old.guards.get(index))
    for name in sorted(old.on_node() - new.on_node()):
        yield drop_namespace(name, old.namespaces[name].objects)
