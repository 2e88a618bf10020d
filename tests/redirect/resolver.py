"""A DNS server on a node's loopback, and a way to run the plugin so that the node's resolver asks it."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Sequence
from enum import Enum
from typing import Self

from lab import Answer, Node, Pod

_ADDRESS = ("127.0.0.1", 53)
_A, _AAAA = 1, 28
_IN = 1
_TTL = 30
_QUESTION_END = struct.Struct("!HH")
_HEADER = struct.Struct("!HHHHHH")
_RESPONSE, _AUTHORITATIVE, _RECURSION = 0x8000, 0x0400, 0x0180
_POINTER_TO_QUESTION = 0xC000 | _HEADER.size
# One question, one second: how long a resolver waits is its admin's business.
_RESOLV_CONF = "nameserver 127.0.0.1\nsearch cluster.example\noptions timeout:1 attempts:1\n"
_NSSWITCH_CONF = "hosts: files dns\n"


class Trouble(Enum):
    """Instead of an answer; the numbers are RCODEs (RFC 1035, section 4.1.1)."""

    SERVFAIL = 2
    NXDOMAIN = 3
    SILENCE = -1


class Resolver:
    """The node's resolver; a name that it was not given does not exist.

    Attributes:
        names: addresses or trouble, by name.
        asked: every name it was asked for.
        hosts: lines of the node's /etc/hosts.
        resolv_conf: what the node's /etc/resolv.conf says.
    """

    def __init__(self, node: Node) -> None:
        self.names: dict[str, Sequence[str] | Trouble] = {}
        self.asked: list[str] = []
        self.hosts = "127.0.0.1 localhost\n"
        self.resolv_conf = _RESOLV_CONF
        self._node = node
        self._socket = node.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(_ADDRESS)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", _ADDRESS)
        self._thread.join()
        self._socket.close()

    def add(self, pod: Pod, annotations: dict[str, str], *, conf: dict[str, object] | None = None) -> Answer:
        """ADD on a node that has this resolver; DEL and CHECK need none."""
        request = self._node.request(pod, annotations, conf=conf)
        answer = self._node.execute(
            {"CNI_COMMAND": "ADD", **request.environment}, request.stdin, wrapper=self._wrapper()
        )
        if answer.status == 0:
            pod.requests["eth0"] = request
        return answer

    def _wrapper(self) -> tuple[str, ...]:
        """A mount namespace with files of its own in /etc."""
        commands = []
        for name, content in (
            ("resolv.conf", self.resolv_conf),
            ("nsswitch.conf", _NSSWITCH_CONF),
            ("hosts", self.hosts),
        ):
            path = os.path.join(self._node.directory, name)
            with open(path, "w") as handle:
                handle.write(content)
            commands.append(f"mount --bind {path} /etc/{name}")
        return ("unshare", "--mount", "sh", "-ec", "; ".join([*commands, 'exec "$0"']))

    def _serve(self) -> None:
        while True:
            query, peer = self._socket.recvfrom(512)
            if not query:  # from __exit__
                return
            if answer := self._answer(query):
                self._socket.sendto(answer, peer)

    def _answer(self, query: bytes) -> bytes:
        (number,) = struct.unpack_from("!H", query)
        name, end = _name(query)
        kind, _ = _QUESTION_END.unpack_from(query, end)
        self.asked.append(name)
        found = self.names.get(name, Trouble.NXDOMAIN)
        if found is Trouble.SILENCE:
            return b""
        code = found.value if isinstance(found, Trouble) else 0
        records = [] if isinstance(found, Trouble) else [_record(text) for text in found]
        records = [data for its_kind, data in records if its_kind == kind]
        flags = _RESPONSE | _AUTHORITATIVE | _RECURSION | code
        header = _HEADER.pack(number, flags, 1, len(records), 0, 0)
        return header + query[_HEADER.size : end + _QUESTION_END.size] + b"".join(records)


def _name(query: bytes) -> tuple[str, int]:
    labels = []
    at = _HEADER.size
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels), at + 1


def _record(text: str) -> tuple[int, bytes]:
    address = ipaddress.ip_address(text)
    kind = _A if address.version == 4 else _AAAA
    data = address.packed
    return kind, struct.pack("!HHHIH", _POINTER_TO_QUESTION, kind, _IN, _TTL, len(data)) + data
