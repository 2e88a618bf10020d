"""The directory of egress policies: real files, changed as admins and the kubelet change them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from cni_macvlan_egress.protocol.errors import IO_FAILURE, TRY_AGAIN_LATER, CniError
from cni_macvlan_egress.sources import documents, policy_directory
from cni_macvlan_egress.sources.policy_directory import fingerprint, read, read_paths
from cni_macvlan_egress.sources.regular_file import BYTES_MAX

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "conf" / "policies"


def document(namespace: str = "shop", cidr: str = "203.0.113.0/24") -> dict[str, Any]:
    return {
        "apiVersion": "network.openshift.io/v1",
        "kind": "EgressNetworkPolicy",
        "metadata": {"name": "policy", "namespace": namespace},
        "spec": {"egress": [{"type": "Deny", "to": {"cidrSelector": cidr}}]},
    }


def text(namespace: str = "shop", cidr: str = "203.0.113.0/24") -> str:
    return str(yaml.safe_dump(document(namespace, cidr)))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "policies.d"
    made.mkdir()
    return made


def networks(directory: Path, namespace: str = "shop") -> list[str]:
    policy = read(str(directory)).policies[namespace]
    assert policy.broken == ""
    return [str(rule.network) for rule in policy.rules]


def closed(directory: Path) -> tuple[set[str], str]:
    """The namespaces that a directory with trouble closes, and the one problem told."""
    reading = read(str(directory))
    (problem,) = reading.problems
    assert "\n" not in problem
    assert all(policy.broken for policy in reading.policies.values())
    return set(reading.policies), problem


# -- what is read


def test_yaml_and_json_are_read_and_other_files_are_not(directory: Path) -> None:
    for name in ("a.yaml", "b.yml"):
        (directory / name).write_text(text(name[0]))
    (directory / "c.json").write_text(json.dumps(document("c")))
    for name in (".hidden.yaml", "d.yaml.bak", "e.yaml~", "f.txt", "README", ".yaml"):
        (directory / name).write_text(text("nobody"))
    reading = read(str(directory))
    assert set(reading.policies) == {"a", "b", "c"}
    assert reading.problems == []
    assert reading.fingerprint == fingerprint(str(directory))
    assert reading.policies["c"].title == f"EgressNetworkPolicy policy in {directory}/c.json"


def test_file_holds_several_documents(directory: Path) -> None:
    (directory / "a.yaml").write_text(f"---\n# nothing\n---\n{text('a')}---\n{text('b')}---\n")
    reading = read(str(directory))
    assert [policy.title.partition(" in ")[2] for policy in reading.policies.values()] == [
        f"{directory}/a.yaml, document 1", f"{directory}/a.yaml, document 2",
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["", "\n", "# nothing yet\n", "---\n", "---\n---\n", "\ufeff"])
def test_empty_file_is_no_policy(directory: Path, content: str) -> None:
    (directory / "a.yaml").write_text(content)
    (directory / "b.json").write_text("")
    reading = read(str(directory))
    assert (reading.policies, reading.problems) == ({}, [])


def test_byte_order_mark_is_no_content(directory: Path) -> None:
    (directory / "a.json").write_bytes(json.dumps(document("a")).encode("utf-8-sig"))
    (directory / "b.yaml").write_bytes(text("b").encode("utf-8-sig"))
    reading = read(str(directory))
    assert (set(reading.policies), reading.problems) == ({"a", "b"}, [])


def test_two_files_of_a_namespace_close_it_naming_both_in_lexical_order(directory: Path) -> None:
    for name in ("b.yaml", "a.yaml", "B.yaml"):
        (directory / name).write_text(text())
    (directory / "other.yaml").write_text(text("bank"))
    found = read(str(directory)).policies
    titles = [f"EgressNetworkPolicy policy in {directory}/{name}" for name in ("B.yaml", "a.yaml", "b.yaml")]
    assert found["shop"].title == f"{titles[0]}, {titles[1]} and {titles[2]}"
    assert found["bank"].broken == ""


def test_missing_directory_has_no_policies(directory: Path) -> None:
    reading = read(f"{directory}/none")
    assert (reading.policies, reading.problems) == ({}, [])
    before = reading.fingerprint
    (directory / "none").mkdir()
    assert fingerprint(f"{directory}/none") != before


@pytest.mark.parametrize("name", ["file", "loop", "nul\0"])
def test_what_is_no_directory_cannot_be_read(directory: Path, name: str) -> None:
    (directory / "file").write_text("")
    (directory / "loop").symlink_to("loop")
    for function in (read, fingerprint):
        with pytest.raises(CniError) as caught:
            function(f"{directory}/{name}")
        assert caught.value.code == IO_FAILURE
        assert caught.value.msg.startswith("cannot read the egress policies in ")
        assert "\0" not in caught.value.msg


def test_examples_of_the_distribution_are_enforceable() -> None:
    reading = read(str(EXAMPLES))
    assert reading.problems == []
    assert {name: (policy.broken, bool(policy.rules)) for name, policy in reading.policies.items()} == {
        "shop": ("", True), "billing": ("", True), "batch": ("", True), "vault": ("", True),
    }  # fmt: skip


# -- what is no document


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (text()[:-40] + "\n\t}", "not YAML"),
        ("namespace: shop\nnamespace: bank\n", "line 2: the key 'namespace' stands there twice"),
        ("x: &a [1]\nnamespace: shop\n", "line 1: anchors (&) and aliases (*) are not accepted"),
        ("x: *a\nnamespace: shop\n", "line 1: anchors"),
        ("namespace: &a shop\n", "line 1: anchors"),
        ("x: &a shop\nmetadata: {namespace: *a}\n", "line 1: anchors"),
        ("&a namespace: shop\n", "line 1: a key is a string"),
        ("namespace: !!str shop\n", "line 1: tags (!) are not accepted"),
        ("x: !!python/object/apply:os.system [ls]\nnamespace: shop\n", "tags (!)"),
        ("? [a]\n: b\nnamespace: shop\n", "line 1: a key is a string"),
        (f"namespace: shop\nx: {'[' * 70}{']' * 70}\n", "line 2: nested more than 64 deep"),
        ("namespace: shop\nx: \x07\n", "not YAML"),
        ("- namespace: shop\n", "a list: an object with apiVersion"),
        ("a text of namespace: shop", "metadata.namespace: this key is required"),
        ("metadata: {name: shop, labels: {namespace: shop}}", "metadata.namespace: this key is required"),
    ],
)
def test_what_cannot_be_understood_closes_whom_it_names(directory: Path, content: str, words: str) -> None:
    (directory / "a.yaml").write_text(content)
    (directory / "b.yaml").write_text(text("other"))
    reading = read(str(directory))
    (problem,) = reading.problems
    assert problem.startswith(f"{directory}/a.yaml")
    assert words in problem, problem
    shop = reading.policies.pop("shop")
    assert shop.title == f"{directory}/a.yaml"
    assert shop.broken == f"the file names this namespace and cannot be understood: {problem}"
    assert reading.policies.pop("other").broken == ""
    assert set(reading.policies) <= {"bank", "namespace"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps(document())[:-3], "line 1: not JSON"),
        ('{"namespace": "shop"}{}', "not JSON: Extra data"),
        ('{"namespace": "shop", "namespace": "shop"}', "the key 'namespace' stands in one object twice"),
        ('{"namespace": "shop", "x": NaN}', "NaN is no number"),
        ('{"namespace": "shop", "x": 1' + "0" * 5000 + "}", "a number has at most 18 digits"),
        ('{"namespace": "shop", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "too many levels"),
        ("namespace: shop\n", "not JSON"),
    ],
)
def test_bad_json_closes_whom_it_names(directory: Path, content: str, words: str) -> None:
    (directory / "a.json").write_text(content)
    namespaces, problem = closed(directory)
    assert namespaces == {"shop"}
    assert words in problem, problem


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "latin-1"])
def test_other_encodings_close_whom_they_name(directory: Path, encoding: str) -> None:
    (directory / "a.yaml").write_bytes(f"# Ä\n{text()}".encode(encoding))
    namespaces, problem = closed(directory)
    assert namespaces == {"shop"}
    assert "UTF-8" in problem or "not YAML" in problem


def test_good_documents_of_a_file_stand_beside_one_of_nobody(directory: Path) -> None:
    nobody = document("Bad Name")
    nobody["metadata"]["labels"] = {"namespace": "meant"}
    (directory / "a.yaml").write_text(f"{text('shop')}---\n{yaml.safe_dump(nobody)}")
    reading = read(str(directory))
    assert {name: bool(policy.broken) for name, policy in reading.policies.items()} == {
        "shop": False, "meant": True,
    }  # fmt: skip
    assert "document 2: metadata.namespace: 'Bad Name'" in reading.problems[0]


def test_words_and_numbers_are_those_of_json() -> None:
    (found,) = documents.from_yaml(
        "{no: no, on: ON, date: 2001-01-01, octal: 0443, hex: 0x1bb, float: 1e3, sum: 1_000, empty: , '~': ~,"
        ' quoted: "443", port: 443, minus: -1, yes: true, nan: .nan, huge: 1234567890123456789, <<: x, 1: 2}'
    )
    assert found == {
        "no": "no", "on": "ON", "date": "2001-01-01", "octal": "0443", "hex": "0x1bb", "float": "1e3", "sum": "1_000",
        "empty": None, "~": None, "quoted": "443", "port": 443, "minus": -1, "yes": True, "nan": ".nan",
        "huge": "1234567890123456789", "<<": "x", "1": 2,
    }  # fmt: skip
    assert documents.from_yaml("a: |\n  443\nb: >-\n  true\n") == [{"a": "443\n", "b": "true"}]


def test_slow_parser_reads_the_same(mocker: MockerFixture) -> None:
    """Where PyYAML was built without libyaml."""
    examples = "".join(f"---\n{path.read_text()}" for path in sorted(EXAMPLES.glob("*.yaml")))
    fast = documents.from_yaml(examples)
    mocker.patch.object(documents, "_LOADER", yaml.SafeLoader)
    assert documents.from_yaml(examples) == fast
    assert len(fast) == 3


def test_alias_bomb_stays_small(directory: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    (directory / "a.yaml").write_text("\n".join((*rows, "namespace: shop")))
    assert closed(directory)[0] == {"shop"}


def test_file_that_is_too_large_closes_whom_it_names(directory: Path) -> None:
    filler = "#" * (BYTES_MAX - len(text()))
    (directory / "a.yaml").write_text(text() + filler)
    assert networks(directory) == ["203.0.113.0/24"]
    (directory / "a.yaml").write_text(text() + filler + "#")
    namespaces, problem = closed(directory)
    assert namespaces == {"shop"}
    assert "larger than 4 MiB" in problem


def test_pipes_and_directories_are_told_and_not_waited_for(directory: Path) -> None:
    os.mkfifo(directory / "a.yaml")
    (directory / "b.yaml").mkdir()
    (directory / "c.yaml").write_text(text())
    reading = read(str(directory))
    assert reading.problems == [
        f"{directory}/{name}: not a file; remove it from the directory" for name in ("a.yaml", "b.yaml")
    ]
    assert reading.policies["shop"].broken == ""


def test_odd_file_names_are_shown_as_ascii(directory: Path) -> None:
    name = os.fsdecode(b"a\n\xff.yaml")
    (directory / name).write_text(text())
    (title,) = (policy.title for policy in read(str(directory)).policies.values())
    assert title.isprintable()
    assert r"a\n\udcff.yaml" in title
    assert "\n" not in fingerprint(str(directory))
    fingerprint(str(directory)).encode()


# -- what changes


def _rewrite_in_place(directory: Path) -> None:
    """As many bytes, and the old time put back."""
    path = directory / "a.yaml"
    before = path.stat()
    with path.open("r+") as file:
        file.write(text(cidr="198.51.100.0/24")[: before.st_size])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(directory: Path) -> None:
    (directory / ".new").write_text(text())
    (directory / ".new").rename(directory / "a.yaml")


CHANGES: list[Callable[[Path], object]] = [
    _rewrite_in_place,
    _replace,
    lambda directory: (directory / "a.yaml").unlink(),
    lambda directory: (directory / "a.yaml").rename(directory / "b.yaml"),
    lambda directory: (directory / "b.json").write_text(""),
    lambda directory: (directory / "b.yml").symlink_to("a.yaml"),
    lambda directory: (directory / "b.yml").symlink_to("nowhere"),
    lambda directory: os.utime(directory / "a.yaml", (0, 0)),
    lambda directory: (directory.parent / "target").write_text("longer than before"),
    lambda directory: (directory.parent / "target").unlink(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_changes_with_whatever_is_read(directory: Path, change: Callable[[Path], object]) -> None:
    (directory / "a.yaml").write_text(text())
    (directory.parent / "target").write_text("")
    (directory / "linked.yaml").symlink_to("../target")
    before = fingerprint(str(directory))
    assert fingerprint(str(directory)) == before
    change(directory)
    assert fingerprint(str(directory)) != before


def test_fingerprint_stays_when_others_change(directory: Path) -> None:
    (directory / "a.yaml").write_text(text())
    before = fingerprint(str(directory))
    (directory / "notes.txt").write_text("x")
    (directory / ".a.yaml.swp").write_text("x")
    networks(directory)
    assert fingerprint(str(directory)) == before


def test_config_map_is_swapped_at_once(directory: Path) -> None:
    """As the kubelet does: data directories, the link ..data that is renamed over the old one, links to ..data/NAME."""
    for version, cidr in (("..1", "203.0.113.0/24"), ("..2", "198.51.100.0/24")):
        (directory / version).mkdir()
        (directory / version / "a.yaml").write_text(text(cidr=cidr))
    (directory / "..data").symlink_to("..1")
    (directory / "a.yaml").symlink_to("..data/a.yaml")
    before = read(str(directory))
    assert networks(directory) == ["203.0.113.0/24"]
    (directory / "..tmp").symlink_to("..2")
    (directory / "..tmp").rename(directory / "..data")
    assert fingerprint(str(directory)) != before.fingerprint
    assert networks(directory) == ["198.51.100.0/24"]


def test_change_while_reading_is_read_again(directory: Path, mocker: MockerFixture) -> None:
    """Never one file of before and another of after."""
    for name in ("a", "b"):
        (directory / f"{name}.yaml").write_text(text(name))
    real = policy_directory._read_files
    readings = []

    def change(paths: Any, seen: str) -> Any:
        found = real(paths, seen)
        if not readings:
            (directory / "b.yaml").write_text(text("b", "198.51.100.0/24"))
            (directory / "c.yaml").write_text(text("c"))
        readings.append(found)
        return found

    mocker.patch.object(policy_directory, "_read_files", change)
    reading = read(str(directory))
    assert len(readings) == 2
    assert set(reading.policies) == {"a", "b", "c"}
    assert str(reading.policies["b"].rules[0].network) == "198.51.100.0/24"
    assert reading.fingerprint == fingerprint(str(directory))


def test_files_that_never_rest_are_tried_again_later(directory: Path, mocker: MockerFixture) -> None:
    (directory / "a.yaml").write_text(text())
    real = policy_directory._read_files
    readings = []

    def change(paths: Any, seen: str) -> Any:
        readings.append(real(paths, seen))
        (directory / f"{len(readings)}.yaml").write_text("")
        return readings[-1]

    mocker.patch.object(policy_directory, "_read_files", change)
    with pytest.raises(CniError, match="keep changing") as caught:
        read(str(directory))
    assert caught.value.code == TRY_AGAIN_LATER
    assert len(readings) == policy_directory._TRIES


def test_link_that_leads_nowhere_is_an_error_naming_it(directory: Path) -> None:
    """Nobody knows which namespace it would have closed."""
    (directory / "a.yaml").write_text(text())
    (directory / "b.yaml").symlink_to("gone")
    with pytest.raises(CniError, match=re.escape(f"{directory}/b.yaml: No such file or directory")) as caught:
        read(str(directory))
    assert caught.value.code == IO_FAILURE


def test_link_that_leads_nowhere_for_a_moment_is_waited_for(directory: Path, mocker: MockerFixture) -> None:
    (directory / "a.yaml").symlink_to("..data/a.yaml")
    (directory / "..1").mkdir()
    (directory / "..1" / "a.yaml").write_text(text())
    sleep = mocker.patch("time.sleep", side_effect=lambda _: (directory / "..data").symlink_to("..1"))
    assert networks(directory) == ["203.0.113.0/24"]
    sleep.assert_called_once()


@pytest.mark.parametrize("call", ["open", "read"])
def test_file_that_cannot_be_read_is_an_error(directory: Path, mocker: MockerFixture, call: str) -> None:
    (directory / "a.yaml").write_text(text())
    mocker.patch(f"posix.{call}", side_effect=OSError(5, "Input/output error"))
    mocker.patch("time.sleep")
    with pytest.raises(CniError, match=r"a\.yaml: Input/output error") as caught:
        read(str(directory))
    assert caught.value.code == IO_FAILURE


# -- files by name


def test_named_files_are_read_whatever_they_are_called(directory: Path) -> None:
    (directory / "policy").write_text(text("a"))
    (directory / "more").mkdir()
    (directory / "more" / "b.yaml").write_text(text("b"))
    reading = read_paths([f"{directory}/policy", f"{directory}/more"])
    assert set(reading.policies) == {"a", "b"}
    assert (reading.problems, reading.fingerprint) == ([], "")
    assert read_paths(iter([f"{directory}/policy"] * 2)).policies["a"].broken


@pytest.mark.parametrize("name", ["none", "nul\0"])
def test_named_file_that_is_missing_is_an_error(directory: Path, name: str) -> None:
    with pytest.raises(CniError) as caught:
        read_paths([f"{directory}/{name}"])
    assert caught.value.code == IO_FAILURE


# -- cost

WATCH = """
import sys
before = set(sys.modules)
sys.path.append(sys.argv[1])
from cni_macvlan_egress.sources.policy_directory import fingerprint
print(fingerprint(sys.argv[2]))
print(*sorted(set(sys.modules) - before))
"""


def test_fingerprint_loads_nothing_but_the_package(directory: Path) -> None:
    (directory / "a.yaml").write_text(text())
    done = subprocess.run(
        [sys.executable, "-IBS", "-c", WATCH, str(REPOSITORY), str(directory)],
        capture_output=True,
        text=True,
        check=True,
    )
    found, modules = done.stdout.splitlines()
    assert found == fingerprint(str(directory))
    assert {name for name in modules.split() if not name.startswith("cni_macvlan_egress")} <= {"__future__"}


# -- properties

SAFE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_pieces = st.sampled_from(
    [text(), text("bank"), json.dumps(document()), "---\n", "- ", "  ", "\n", "{", "}", "[", "]", ": ", "&a ", "*a",
     "!x ", "namespace", "namespace: ", "shop", '"', "'", "#", "|", ">-", "? ", "\t", "\0", "\ufeff", "%YAML 1.1\n",
     "...\n",     "kind: List\nitems:\n", "9" * 5000, "\u2028", "\U0001f600", "\\ud800"]
)  # fmt: skip
_contents = (
    st.binary(max_size=60)
    | st.lists(_pieces | st.text(max_size=5), max_size=8).map(lambda parts: "".join(parts).encode())
    | st.tuples(st.sampled_from([text(), json.dumps(document())]), st.integers(0, 250)).map(
        lambda cut: cut[0][: cut[1]].encode()
    )
)


@settings(max_examples=300, deadline=None)
@given(_contents, st.sampled_from(["a.yaml", "a.json"]))
@example(b'{"metadata": {"namespace": "shop", "name": "\\ud800"}, "\\ud800": 1}', "a.json")
@example(b"\xff\xfe", "a.yaml")
def test_any_bytes_are_policies_or_told(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, name).write_bytes(content)
        reading = read(directory)
    for problem in reading.problems:
        assert problem.startswith(f"{directory}/{name}")
        assert problem.isprintable()
    for namespace, policy in reading.policies.items():
        assert namespace == policy.namespace
        assert SAFE.fullmatch(namespace)
        assert policy.title.isprintable()
        assert policy.broken.isprintable()
