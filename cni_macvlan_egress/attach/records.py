"""State files: one an attachment, written before the first kernel change and again when all is done.

What a state file tells of ends with the node's boot: namespaces, interfaces, rules. Only an IPAM plugin's lease may
outlive it. So only a record with a lease is forced onto the disk, which takes longer than all the rest of an ADD; after
a power cut the others may be gone or empty, and nothing is left that they could help to remove.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..decide.plan import Plan
from ..protocol.errors import IO_FAILURE, CniError
from . import files, paths

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(kw_only=True)
class Record:
    """What DEL, CHECK and GC need to know of an ADD.

    Attributes:
        phase: `adding` until the ADD is finished.
        network: the name of the CNI network.
        ifname: CNI_IFNAME, the main interface's name in a chain.
        boot_id: the node's boot that the namespace belongs to.
        pod: `namespace/name`, for error messages.
        addresses: source addresses held, without prefix length.
        ipam: the configuration with which the IPAM plugin was called.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    schema_version: Literal[1] = 1
    phase: Literal["adding", "ready"] = "adding"
    network: str
    container_id: str
    ifname: str
    netns: str
    netns_device: int
    netns_inode: int
    boot_id: str
    pod: str = ""
    addresses: tuple[str, ...] = ()
    plan: Plan | None = None
    ipam: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """What names the attachment on this node."""
        return attachment_key(self.container_id, self.ifname)


class UnreadableRecord(Exception):
    """A state file that is corrupt or of a newer version; it has been moved aside."""

    def __init__(self, moved_to: str, reason: str) -> None:
        super().__init__(f"state file was unreadable ({reason}) and has been moved to {moved_to}")


class Records:
    """The state files of a node.

    Args:
        state_dir: absolute path.
    """

    def __init__(self, state_dir: str) -> None:
        self._directory = f"{state_dir}/attachments"
        self._aside = f"{state_dir}/unreadable"
        self.state_dir = state_dir

    def save(self, record: Record) -> None:
        """Write a record.

        Raises:
            CniError: IO_FAILURE.
        """
        path = self._path(record.container_id, record.ifname)
        try:
            text = to_json(record)
        except UnicodeEncodeError as error:  # a name, path or IPAM key that is no Unicode text
            raise CniError(IO_FAILURE, f"cannot write {path}: {error}") from None
        files.make_directory(self._directory)
        if record.ipam is None:
            files.write_quickly(path, text)
        else:
            files.write_atomically(path, text)

    def load(self, container_id: str, ifname: str) -> Record | None:
        """Read a record, None if there is none (or an empty file, as a power cut leaves it).

        Raises:
            UnreadableRecord: it cannot be understood.
            CniError: IO_FAILURE.
        """
        return self._read(self._path(container_id, ifname), attachment_key(container_id, ifname))

    def peek(self) -> Iterator[tuple[str, Record | None]]:
        """Every record with its path, None for one that cannot be understood; nothing is moved aside."""
        for container_id, ifname in self.keys():
            path = self._path(container_id, ifname)
            try:
                data = files.read(path)
                if data:
                    yield path, from_json(data)
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                yield path, None

    def remove(self, container_id: str, ifname: str) -> None:
        """Remove a record and what a killed write may have left of it."""
        path = self._path(container_id, ifname)
        files.remove(path)
        files.remove(paths.unfinished(path))

    def keys(self) -> Iterator[tuple[str, str]]:
        """Container ID and interface name of every record."""
        for name in self._names():
            container_id, at, rest = name.partition("@")
            if at and rest.endswith(".json") and not name.startswith("."):
                yield container_id, rest.removesuffix(".json")

    def unfinished(self) -> Iterator[tuple[str, str]]:
        """Container ID and interface name of every write that was killed, or is going on."""
        for name in self._names():
            container_id, at, rest = name.removeprefix(".").partition("@")
            if at and name.startswith(".") and rest.endswith(".json.tmp"):
                yield container_id, rest.removesuffix(".json.tmp")

    def remove_unfinished(self, container_id: str, ifname: str) -> None:
        """Remove what a write that was killed has left; the attachment's lock is to be held."""
        files.remove(paths.unfinished(self._path(container_id, ifname)))

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot list {self._directory}: {error.strerror}") from None

    def _path(self, container_id: str, ifname: str) -> str:
        return paths.record(self.state_dir, container_id, ifname)

    def _read(self, path: str, key: str) -> Record | None:
        try:
            data = files.read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot read {path}: {error.strerror}") from None
        if not data:
            return None
        try:
            record = from_json(data)
            if record.key != key:
                raise ValueError("it is of another attachment")
        except ValueError as error:
            raise UnreadableRecord(self._move_aside(path), str(error)) from None
        return record

    def _move_aside(self, path: str) -> str:
        files.make_directory(self._aside)
        target = f"{self._aside}/{os.path.basename(path)}"
        try:
            os.rename(path, target)
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot move the unreadable {path} aside: {error.strerror}") from None
        return target


def to_json(record: Record) -> str:
    """The text of a state file.

    Raises:
        UnicodeEncodeError: something in it is no Unicode text.
    """
    text = json.dumps(record, default=_fields, ensure_ascii=False)
    text.encode()
    return text


def _fields(step: Any) -> dict[str, Any]:  # noqa: ANN401
    """A dataclass as an object; asdict() would copy everything that is in it."""
    return {field.name: getattr(step, field.name) for field in fields(step)}


def from_json(data: bytes) -> Record:
    """The record that a state file holds.

    Raises:
        ValueError: naming the first thing that cannot be understood.
    """
    from pydantic import ValidationError

    try:
        # pydantic's own parser would remember every string, and those of each record are others.
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"JSON: {error}") from None
    try:
        return _reader().validate_python(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, fault['loc'])) or 'JSON'}: {fault['msg']}") from None


@cache
def _reader() -> TypeAdapter[Record]:
    """Made once a process: it takes longer than many records do."""
    from pydantic import TypeAdapter

    return TypeAdapter(Record)


def attachment_key(container_id: str, ifname: str) -> str:
    """What names an attachment on this node; container IDs have no `@`."""
    return f"{container_id}@{ifname}"


def boot_id() -> str:
    """The node's present boot."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()
