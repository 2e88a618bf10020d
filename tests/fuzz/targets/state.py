"""The files that the plugin keeps on a node, all of them, read by everything that reads them.

An input is some files, each after a line with its name. Some words stand for what only the machine knows.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from random import Random

from cni_macvlan_egress import entry
from cni_macvlan_egress.attach import pods
from cni_macvlan_egress.attach.policies import next_expiry
from cni_macvlan_egress.attach.policy_state import PolicyState
from cni_macvlan_egress.attach.records import Records, UnreadableRecord, boot_id
from cni_macvlan_egress.attach.roster import Roster
from cni_macvlan_egress.daemon.metrics import Metrics
from cni_macvlan_egress.decide import enforced
from cni_macvlan_egress.protocol import wire
from cni_macvlan_egress.protocol.call import Call
from cni_macvlan_egress.protocol.environment import read as read_environment
from cni_macvlan_egress.protocol.errors import INTERNAL, IO_FAILURE, CniError
from cni_macvlan_egress.sources import resolver

from .. import enclosure
from ..mutations import octets, words
from ..mutations.documents import Vocabulary, changed_text, choice, listed
from ..target import Target
from . import records, terms

_MARK = b"=== "
_FILES = {
    b"record": enclosure.STATE / "attachments" / "c1@eth0.json",
    b"claim": enclosure.STATE / "addresses" / "192.168.12.99",
    b"state": enclosure.RUN / "policy" / "state.json",
    b"names": enclosure.RUN / "policy" / "names.json",
    b"compiled": enclosure.RUN / "policy" / "compiled" / "shop.json",
    b"note": enclosure.RUN / "policy" / "pods" / "c1@eth0.json",
    b"mark": enclosure.RUN / "policy" / "enforced" / "c1@eth0",
    b"index": enclosure.RUN / "policy" / "index",
    b"annotations": enclosure.ANNOTATIONS / "c1.json",
    b"policy": enclosure.RUN / "policy",
    b"attachments": enclosure.STATE / "attachments",
    b"addresses": enclosure.STATE / "addresses",
}
_VARIABLES = {
    "CNI_CONTAINERID": "c1", "CNI_NETNS": str(enclosure.POD), "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere",
    "CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart",
}  # fmt: skip
_DOCUMENT = {
    "cniVersion": "1.1.0", "name": "cluster", "type": "macvlan-egress", "stateDir": str(enclosure.STATE),
    "runDir": str(enclosure.RUN), "logFile": str(enclosure.LOG), "policy": {"directory": str(enclosure.POLICIES)},
    "clusterNetworks": ["10.244.0.0/16"], "annotations": [str(enclosure.ANNOTATIONS)], "allow": [{"namespaces": ["*"]}],
    "prevResult": {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "mac": "02:00:5e:10:00:01", "sandbox": str(enclosure.POD)}],
        "ips": [{"address": "10.244.0.7/24", "interface": 0}],
    },
    "cni.dev/valid-attachments": [],
}  # fmt: skip
_LINK_MAX = 1000
_OF_GOOD_CALLS = ("socket", "setns", "unshare", "log")
_VOCABULARY = Vocabulary(
    keys=(
        *records.VOCABULARY.keys, "version", "namespaces", "mains", "guards", "generation", "title", "broken", "rules",
        "objects", "hits", "device", "side", "guests", "own", "networks", "vlans", "strict", "near", "index", "answers",
        "format", "expires", "error", "commands", "fixed", "namespace", "containerID", "netnsDevice", "netnsInode",
        "shop",
        "c1@eth0", "api.example.com", *terms.ANNOTATIONS,
    ),
    values=(*records.VOCABULARY.values, "host", "pod", "chain", "map", "shop", "c1@eth0"),
    makers={
        **records.VOCABULARY.makers,
        **terms.ANNOTATIONS,
        "version": choice(1, 2, "1"),
        "format": choice(1, 2, "1"),
        "objects": listed(choice(["map", "x"], ["chain"], "ab", 1, {})),
        "hits": choice({"1": [1, 2]}, {"1": [1]}, {"1": "12"}, {"1": [1e400, 2]}, {"1": 1}, []),
        "guests": listed(choice({"key": "c1@eth0", "namespace": "shop", "mac": "x", "addresses": [], "near": []}, {},
        1)),
        "expires": choice(0, 1e18, 10**400, -1, "1", 1e308),
        "netnsDevice": choice(4, "4", 1e400, -1, None),
        "answers": choice({}, [], {"a.b": {"addresses": ["192.0.2.1"], "expires": 1, "error": ""}}, {"a.b": 1}),
    },
)  # fmt: skip


def examine(data: bytes, seen: Callable[[], list[str]]) -> None:
    _write(data)
    _read_state()
    _read_policies()
    assert Metrics(str(enclosure.STATE), str(enclosure.RUN)).text()
    # Each of the last three may change everything, so that an input meets one of them.
    for verb in ("CHECK", "STATUS", ("ADD", "GC", "DEL")[zlib.crc32(data) % 3]):
        status, output, _ = entry.respond({"CNI_COMMAND": verb, **_VARIABLES}, lambda: _call().document)
        if status:
            body = json.loads(output)
            assert body["code"] != INTERNAL, f"{verb}: {body['msg']}"
    # These are good calls, which may ask the kernel and enter the pod. But no file elsewhere is any of their business.
    elsewhere = [
        line for line in seen() if line.startswith("outside") and line.split()[1] not in _OF_GOOD_CALLS
    ]
    assert not elsewhere, elsewhere


def _read_state() -> None:
    kept = Records(str(enclosure.STATE))
    try:
        assert len(list(kept.peek())) <= 1
    except CniError as error:
        assert error.code == IO_FAILURE, error
    Roster(str(enclosure.STATE)).scan()
    try:
        kept.load("c1", "eth0")
    except UnreadableRecord:
        assert os.listdir(enclosure.STATE / "unreadable") == ["c1@eth0.json"]
    except CniError as error:
        assert error.code == IO_FAILURE, error


def _read_policies() -> None:
    state = PolicyState(str(enclosure.RUN))
    try:
        found = state.load()
    except CniError as error:
        assert error.code == IO_FAILURE, error
        return
    if found is not None:
        assert isinstance(found.empty, bool)
        assert "c1@eth0" not in found.without("c1@eth0").keys
        assert found.tidied().on_node() == found.on_node()
    try:
        state.load_compiled("shop")
    except CniError as error:
        assert error.code == IO_FAILURE, error
    list(state.notes())
    state.notes_of("cluster")
    answers = resolver.load(state.names_path)
    assert resolver.load(state.names_path) == answers
    next_expiry(state)
    pods.is_free(_call())
    assert enforced.added({}, {}) == {}


def _call() -> Call:
    return Call(read_environment({"CNI_COMMAND": "ADD", **_VARIABLES}), wire.decode(json.dumps(_DOCUMENT)))


def _write(data: bytes) -> None:
    status = enclosure.POD.stat()
    known = {b"@BOOT@": boot_id(), b'"@DEVICE@"': str(status.st_dev), b'"@INODE@"': str(status.st_ino)}
    for name, content in _sections(data):
        path = _FILES.get(name)
        if path is None:
            continue
        for word, meaning in known.items():
            content = content.replace(word, meaning.encode())  # noqa: PLW2901
        with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):  # one is in another's place
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == b"claim":
                target = os.fsdecode(content.strip().replace(b"\0", b""))[:_LINK_MAX]
                path.symlink_to(target or "x")
            else:
                path.write_bytes(content)


def _sections(data: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    for part in (b"\n" + data).split(b"\n" + _MARK)[1:]:
        name, _, content = part.partition(b"\n")
        found.append((name, content))
    return found


def mutate(data: bytes, random: Random) -> bytes:
    found = _sections(data)
    if not found:
        return b"=== record\n{}"
    place = random.randrange(len(found))
    name, content = found[place]
    if random.random() < 0.06:
        found[place] = random.choice(sorted(_FILES)), content
    elif random.random() < 0.03:
        del found[place]
    elif content.lstrip().startswith((b"{", b"[")):
        text = changed_text(content.decode("utf-8", "replace"), random, _VOCABULARY)
        found[place] = name, text.encode("utf-8", "surrogatepass")
    elif random.random() < 0.5:
        text = words.changed(
            content.decode("utf-8", "replace"), random, ("shop", "absent", "/", "..", "c1@eth0.json", "\n")
        )
        found[place] = name, text.encode("utf-8", "replace")
    else:
        found[place] = name, octets.changed(content, random)
    return b"\n".join(_MARK + name + b"\n" + content for name, content in found)


TARGET = Target("state", examine, mutate, writes=True)
