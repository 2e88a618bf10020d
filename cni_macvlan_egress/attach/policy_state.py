"""The files below runDir/policy: what is in force, who passed by, and what names resolved to.

They are of this boot only, like the rules they speak of. What cannot be read is as good as lost: the next sync makes
the kernel and the files anew from the pods' notes, the attachments' records and the documents.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..decide.enforced import Applied, Enforced
from ..decide.enforcement import Compiled
from ..decide.guard import Guard, Guest
from ..decide.interfaces import MainInterface
from ..protocol.errors import IO_FAILURE, CniError
from . import files, locks, paths

_VERSION = 1
# Whatever somebody else may have written there; ArithmeticError is int() of JSON's Infinity.
_UNREADABLE = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class PodNote:
    """A pod that came by.

    Attributes:
        mac, addresses: of its main interface, as the main CNI told them.
    """

    network: str
    container_id: str
    ifname: str
    namespace: str
    name: str
    netns: str
    netns_device: int
    netns_inode: int
    mac: str
    addresses: tuple[str, ...]

    @property
    def key(self) -> str:
        """What names it on this node."""
        return f"{self.container_id}@{self.ifname}"


class PolicyState:
    """The files of a run-time directory."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._directory = f"{run_dir}/policy"

    def load(self) -> Enforced | None:
        """What is in force; None if it is not known."""
        text = self._read("state.json")
        if text is None:
            return None if self.marks() else Enforced()
        try:
            found = _from_json(text)
        except _UNREADABLE:
            return None
        return found if found.namespaces.keys() <= self.compiled() else None

    def save(self, enforced: Enforced) -> None:
        """Write down what is in force.

        Raises:
            CniError: IO_FAILURE.
        """
        files.make_directory(self._directory)
        document = {"version": _VERSION, **asdict(enforced)}
        files.write_quickly(f"{self._directory}/state.json", json.dumps(document))

    @property
    def names_path(self) -> str:
        """What DNS names resolved to."""
        return f"{self._directory}/names.json"

    def save_names(self, text: str) -> None:
        """Keep what DNS names resolved to.

        Raises:
            CniError: IO_FAILURE.
        """
        files.make_directory(self._directory)
        files.write_quickly(self.names_path, text)

    def save_compiled(self, compiled: Compiled) -> None:
        """Keep a policy's commands, so that the table can be made anew without the documents.

        Raises:
            CniError: IO_FAILURE.
        """
        files.make_directory(f"{self._directory}/compiled")
        files.write_quickly(self._compiled(compiled.namespace), json.dumps(asdict(compiled)))

    def load_compiled(self, namespace: str) -> Compiled:
        """What was kept.

        Raises:
            CniError: IO_FAILURE.
        """
        text = self._read(f"compiled/{namespace}.json")
        try:
            raw = json.loads(text or "")
            return Compiled(
                namespace=namespace,
                generation=str(raw["generation"]),
                objects=tuple((str(kind), str(name)) for kind, name in raw["objects"]),
                commands=tuple(map(str, raw["commands"])),
                fixed=tuple(map(str, raw["fixed"])),
            )
        except _UNREADABLE:
            path = self._compiled(namespace)
            raise CniError(IO_FAILURE, f"{path} cannot be used; run 'macvlan-egress policy sync'") from None

    def compiled(self) -> set[str]:
        """The namespaces of which commands are kept."""
        return {name.removesuffix(".json") for name in self._list("compiled") if not name.startswith(".")}

    def remove_compiled(self, namespaces: Iterable[str]) -> None:
        """Forget the commands of policies that are in force no more; the lock of policies is to be held.

        Raises:
            CniError: IO_FAILURE.
        """
        for namespace in namespaces:
            files.remove(self._compiled(namespace))
        for name in self._list("compiled"):
            if name.startswith("."):  # what a write that was killed has left
                files.remove(f"{self._directory}/compiled/{name}")

    def _compiled(self, namespace: str) -> str:
        return f"{self._directory}/compiled/{namespace}.json"

    def mark(self, key: str) -> None:
        """Have the DEL of an attachment look here.

        Raises:
            CniError: IO_FAILURE.
        """
        path = paths.policy_mark(self._run_dir, *_parts(key))
        files.make_directory(os.path.dirname(path))
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot write {path}: {error.strerror}") from None

    def unmark(self, key: str) -> None:
        """Take the mark away.

        Raises:
            CniError: IO_FAILURE.
        """
        files.remove(paths.policy_mark(self._run_dir, *_parts(key)))

    def marks(self) -> set[str]:
        """Every attachment that is marked."""
        return {name for name in self._list("enforced") if "@" in name}

    def notes(self) -> Iterator[PodNote]:
        """Every pod that came by and can be read."""
        for name in self._list("pods"):
            if not name.startswith(".") and (note := self._note(f"pods/{name}")) is not None:
                yield note

    def notes_of(self, network: str) -> list[str]:
        """The attachments of a network that left a note."""
        return [note.key for note in self.notes() if note.network == network]

    def note(self, key: str) -> PodNote | None:
        """One pod."""
        return self._note(f"pods/{key}.json")

    def forget(self, key: str) -> None:
        """Remove a pod's note.

        Raises:
            CniError: IO_FAILURE.
        """
        path = paths.pod_note(self._run_dir, *_parts(key))
        files.remove(path)
        files.remove(paths.unfinished(path))

    def save_index(self, directory: str, fingerprint: str, namespaces: Iterable[str]) -> None:
        """Let pods of other namespaces pass without a look at the documents.

        Raises:
            CniError: IO_FAILURE.
        """
        files.make_directory(self._directory)
        text = "\n".join((f"{directory} {fingerprint}", *sorted(namespaces), ""))
        if self._read("index") != text:
            with locks.index(self._run_dir):
                files.write_quickly(paths.policy_index(self._run_dir), text)

    def _note(self, name: str) -> PodNote | None:
        text = self._read(name)
        try:
            raw = json.loads(text or "")
            note = PodNote(
                network=str(raw["network"]),
                container_id=str(raw["containerID"]),
                ifname=str(raw["ifname"]),
                namespace=str(raw["namespace"]),
                name=str(raw["name"]),
                netns=str(raw["netns"]),
                netns_device=int(raw["netnsDevice"]),
                netns_inode=int(raw["netnsInode"]),
                mac=str(raw["mac"]),
                addresses=tuple(map(str, raw["addresses"])),
            )
        except _UNREADABLE:
            return None
        return note if name == f"pods/{note.key}.json" else None

    def _read(self, name: str) -> str | None:
        try:
            return files.read(f"{self._directory}/{name}").decode(errors="surrogateescape")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot read {self._directory}/{name}: {error.strerror}") from None

    def _list(self, name: str) -> list[str]:
        try:
            return sorted(os.listdir(f"{self._directory}/{name}"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot list {self._directory}/{name}: {error.strerror}") from None


def _parts(key: str) -> tuple[str, str]:
    container_id, _, ifname = key.partition("@")
    return container_id, ifname


def _from_json(text: str) -> Enforced:
    raw = _typed(json.loads(text), version=int, namespaces=dict, mains=dict, guards=dict)
    if raw["version"] != _VERSION:
        raise ValueError(raw["version"])
    found = Enforced(
        namespaces={name: _applied(one) for name, one in raw["namespaces"].items()},
        mains={key: _main(one) for key, one in raw["mains"].items()},
        guards={int(index): _guard(one) for index, one in raw["guards"].items()},
    )
    held = {one.namespace for one in found.mains.values()}
    held |= {one.namespace for guard in found.guards.values() for one in guard.guests if one.namespace}
    if not held <= found.namespaces.keys():
        raise ValueError("what is held to a policy that is not in force")
    if any(key != one.key for key, one in found.mains.items()):
        raise ValueError("what is kept under another name")
    return found


def _applied(raw: object) -> Applied:
    given = _typed(raw, generation=str, title=str, broken=str, rules=dict, objects=list, hits=dict)
    _texts([*given.get("rules", {}).values()])
    given["objects"] = tuple((str(kind), str(name)) for kind, name in given["objects"])
    given["hits"] = {mark: (int(packets), int(size)) for mark, (packets, size) in given["hits"].items()}
    return Applied(**given)


def _main(raw: object) -> MainInterface:
    given = _typed(raw, key=str, namespace=str, device=str, side=str, mac=str, addresses=list)
    if given["side"] not in ("host", "pod"):
        raise ValueError(given["side"])
    given["addresses"] = _addresses(given["addresses"])
    return MainInterface(**given)


def _guard(raw: object) -> Guard:
    given = _typed(raw, index=int, device=str, guests=list, own=list, networks=list, vlans=bool, strict=bool)
    given["guests"] = tuple(map(_guest, given["guests"]))
    given["own"], given["networks"] = _texts(given["own"]), _networks(given["networks"])
    return Guard(**given)


def _guest(raw: object) -> Guest:
    given = _typed(raw, key=str, namespace=str, mac=str, addresses=list, near=list)
    given["addresses"], given["near"] = _addresses(given["addresses"]), _networks(given["near"])
    return Guest(**given)


def _typed(raw: object, **kinds: type) -> dict[str, Any]:
    """An object with members of these names and types, and no others."""
    if not isinstance(raw, dict) or any(type(value) is not kinds.get(key) for key, value in raw.items()):
        raise ValueError(f"an object of {', '.join(kinds)} is expected")
    return dict(raw)


def _texts(raw: list[object]) -> tuple[str, ...]:
    if not all(isinstance(one, str) for one in raw):
        raise ValueError("strings are expected")
    return tuple(map(str, raw))


def _addresses(raw: list[object]) -> tuple[str, ...]:
    for one in _texts(raw):
        ipaddress.ip_address(one)
    return _texts(raw)


def _networks(raw: list[object]) -> tuple[str, ...]:
    for one in _texts(raw):
        ipaddress.ip_network(one)
    return _texts(raw)
