"""A runtime that calls wrongly is told so, and nothing is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest
from lab import Node, Pod, Request, source, unchanged

INCOMPATIBLE, ENVIRONMENT, DECODING, CONFIGURATION, NETNS = 1, 4, 6, 7, 8
SOURCE = source("192.168.12.99/24")
VARIABLES = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")


@pytest.fixture
def pod(node: Node) -> Iterator[Pod]:
    """A pod that is, with its node, the same after the test as before, and of which no file tells."""
    pod = node.pod()
    with unchanged(pod, node):
        yield pod
    assert [path for path in node.written_files() if path != node.log_file and "/run/" not in path] == []


@pytest.fixture
def request_(node: Node, pod: Pod) -> Request:
    return node.request(pod, SOURCE)


@pytest.mark.parametrize("missing", VARIABLES)
def test_missing_variable_is_named(node: Node, request_: Request, missing: str) -> None:
    environment = {"CNI_COMMAND": "ADD", **request_.environment, missing: ""}
    node.execute(environment, request_.stdin).refused(ENVIRONMENT, f"[{missing}]")


def test_all_missing_variables_are_named_at_once(node: Node, request_: Request) -> None:
    answer = node.execute({"CNI_COMMAND": "ADD", "CNI_PATH": ""}, request_.stdin)
    answer.refused(
        ENVIRONMENT, "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing"
    )


@pytest.mark.parametrize("verb", ["", "add", "REMOVE", "ADD ", "ADD\nDEL"])
def test_unknown_verb_is_named_with_the_known_ones(node: Node, request_: Request, verb: str) -> None:
    node.execute({**request_.environment, "CNI_COMMAND": verb}, request_.stdin).refused(
        ENVIRONMENT, "ADD", "DEL"
    )


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK"])
@pytest.mark.parametrize(
    "container_id",
    ["../../etc/passwd", "a/b", "a b", "-a", ".a", "a\nb", "é", "a@b", "\udcff", "a;b", "a" * 300],
)
def test_hostile_container_id_is_refused(node: Node, request_: Request, verb: str, container_id: str) -> None:
    asked = request_.but({"CNI_CONTAINERID": container_id})
    node.send(verb, asked).refused(ENVIRONMENT, "CNI_CONTAINERID")


@pytest.mark.parametrize(
    "ifname",
    ["sixteen-bytes-if", "éééééééé", "..", ".", "a/b", "a:b", "a b", "a\tb", "a\nb", "../x", "\udcff\udcfe/"],
)
def test_hostile_interface_name_is_refused(node: Node, request_: Request, ifname: str) -> None:
    for verb in ("ADD", "DEL"):
        node.send(verb, request_.but({"CNI_IFNAME": ifname})).refused(ENVIRONMENT, "CNI_IFNAME")


@pytest.mark.parametrize("args", ["novalue", "UNKNOWN=1", "=x", "IgnoreUnknown=0;UNKNOWN=1"])
def test_bad_cni_args_are_refused(node: Node, request_: Request, args: str) -> None:
    node.send("ADD", request_.but({"CNI_ARGS": args})).refused(ENVIRONMENT, "CNI_ARGS")


# -- CNI_NETNS


def _missing(node: Node) -> str:
    return "/run/netns/cme-nosuch"


def _regular_file(node: Node) -> str:
    path = f"{node.directory}/file"
    with open(path, "w") as handle:
        handle.write("no namespace")
    return path


def _empty_mount_point(node: Node) -> str:
    """What is left when a namespace was unmounted and its file not removed."""
    path = f"{node.directory}/empty"
    with open(path, "w"):
        return path


def _fifo(node: Node) -> str:
    path = f"{node.directory}/fifo"
    os.mkfifo(path)
    return path


def _directory(node: Node) -> str:
    return node.directory


def _own(node: Node) -> str:
    return node.path


def _namespace_of_another_kind(_: Node) -> str:
    return "/proc/self/ns/mnt"


def _dangling_link(node: Node) -> str:
    path = f"{node.directory}/dangling"
    os.symlink("nowhere", path)
    return path


def _device(_: Node) -> str:
    return "/dev/null"


def _relative(_: Node) -> str:
    return "netns"


UNUSABLE = [
    _missing,
    _regular_file,
    _empty_mount_point,
    _fifo,
    _directory,
    _own,
    _namespace_of_another_kind,
    _dangling_link,
    _device,
    _relative,
]


@pytest.mark.parametrize("unusable", UNUSABLE)
def test_add_into_what_is_no_pods_namespace_is_refused(
    node: Node, request_: Request, unusable: Callable[[Node], str]
) -> None:
    path = unusable(node)
    node.send("ADD", request_.but({"CNI_NETNS": path})).refused(NETNS, path)


@pytest.mark.parametrize("unusable", [one for one in UNUSABLE if one is not _own])
def test_delete_from_what_is_no_namespace_succeeds(
    node: Node, request_: Request, unusable: Callable[[Node], str]
) -> None:
    node.send("DEL", request_.but({"CNI_NETNS": unusable(node)})).ok()


def test_delete_in_the_nodes_own_namespace_leaves_it_alone(node: Node, request_: Request) -> None:
    answer = node.send("DEL", request_.but({"CNI_NETNS": node.path}))
    assert answer.status == 0 or answer.json["code"] == NETNS


# -- stdin


@pytest.mark.parametrize(
    "stdin",
    [
        b"", b" \n", b"{", b"}", b"null", b"[]", b'"x"', b"17", b"{} {}", b"{'a': 1}",
        b'{"cniVersion": "1.1.0",}', b'{"cniVersion": NaN}', b"\xff\xfe", b'{"name": "\xff"}', b"\x00",
        b"[" * 100_000, b'{"a":' * 100_000, b'{"prevResult": {"ips": [}}', b"%PDF-1.4",
    ],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_stdin_that_is_no_json_object_is_refused(node: Node, request_: Request, stdin: bytes) -> None:
    for verb in ("ADD", "DEL"):
        answer = node.execute({"CNI_COMMAND": verb, **request_.environment}, stdin)
        answer.refused(DECODING, "stdin")


def test_huge_stdin_is_refused(node: Node, request_: Request) -> None:
    document = {**request_.document, "x": "x" * (20 << 20)}
    answer = node.execute({"CNI_COMMAND": "ADD", **request_.environment}, json.dumps(document))
    answer.refused(DECODING, "stdin", "MiB")


@pytest.mark.parametrize("version", ["0.0.1", "1.2.0", "2.0.0", "1.1", "latest", 1, [], {}])
def test_unknown_version_is_refused_with_the_known_ones(
    node: Node, request_: Request, version: object
) -> None:
    node.send("ADD", request_.but(cniVersion=version)).refused(INCOMPATIBLE, "1.1.0", "0.1.0")


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "-a", "é", "a\u0000b", "a\nb", 5, ["a"], None])
def test_bad_network_name_is_refused(node: Node, request_: Request, name: object) -> None:
    node.send("ADD", request_.but(name=name)).refused(CONFIGURATION, "name")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prevResult", 5),
        ("prevResult", []),
        ("prevResult", {"cniVersion": "9.9.9"}),
        ("prevResult", {"cniVersion": "1.0.0", "ips": "x"}),
        ("prevResult", {"cniVersion": "1.1.0", "ips": [5]}),
        ("prevResult", {"cniVersion": "1.1.0", "ips": [{"interface": 0}]}),
        ("prevResult", {"cniVersion": "1.1.0", "interfaces": {"name": "eth0"}}),
        ("prevResult", {"cniVersion": "1.1.0", "interfaces": [None]}),
        ("prevResult", {"cniVersion": "1.1.0", "routes": [{"gw": "10.0.0.1"}]}),
        ("runtimeConfig", "x"),
        ("runtimeConfig", [1]),
    ],
    ids=str,
)
def test_malformed_part_of_stdin_is_named(node: Node, request_: Request, key: str, value: object) -> None:
    answer = node.send("ADD", request_.but(**{key: value}))
    answer.refused(DECODING, key)
