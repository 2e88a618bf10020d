"""State files: what was written is read again, and what cannot be understood stands in nobody's way."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cni_macvlan_egress.attach.records import Record, Records, UnreadableRecord, attachment_key, to_json
from cni_macvlan_egress.protocol.errors import IO_FAILURE, CniError

from .. import json_values
from ..refusals import refused
from .examples import PLAN, record


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(f"{tmp_path}/state")


def file_of(records: Records, container_id: str = "c1") -> Path:
    return Path(records.state_dir) / "attachments" / f"{container_id}@eth0.json"


def files_in(records: Records) -> list[str]:
    """Every file below the state directory."""
    state = Path(records.state_dir)
    return sorted(str(path.relative_to(state)) for path in state.rglob("*") if not path.is_dir())


def test_record_that_was_written_is_read_again(records: Records) -> None:
    assert records.load("c1", "eth0") is None
    for written in (
        record(phase="adding", plan=None, addresses=()),
        record(),
        record(ipam={"type": "x", "n": [1]}),
    ):
        records.save(written)
        assert records.load("c1", "eth0") == written
    assert files_in(records) == ["attachments/c1@eth0.json"]


@st.composite
def any_records(draw: st.DrawFn) -> Record:
    text = st.text(max_size=10)
    return record(
        phase=draw(st.sampled_from(["adding", "ready"])),
        network=draw(text),
        ifname="eth0",
        netns=draw(text),
        netns_device=draw(st.integers(0, 2**64)),
        netns_inode=draw(st.integers(0, 2**64)),
        pod=draw(text),
        addresses=tuple(draw(st.lists(st.ip_addresses().map(str), max_size=2))),
        plan=draw(st.sampled_from([None, PLAN])),
        ipam=draw(st.none() | json_values.objects),
    )


@settings(max_examples=25)
@given(any_records() | st.builds(lambda text: record(netns=text, pod=text), json_values.any_text))
@example(record(netns="/run/netns/\udcff"))
@example(record(pod="shop/\udcff"))
@example(record(ipam={"type": "x", "note": "\ud800"}))
def test_any_record_is_read_as_it_was_written_or_refused_at_once(written: Record) -> None:
    with tempfile.TemporaryDirectory() as directory:
        records = Records(directory)
        try:
            records.save(written)
        except CniError:
            assert files_in(records) == []
            return
        assert records.load("c1", "eth0") == written


def test_nobody_but_root_can_look_into_it(records: Records) -> None:
    records.save(record())
    path = file_of(records)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


# -- what cannot be understood

WHOLE = to_json(record())


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(WHOLE), **fields})


def without(name: str) -> str:
    return json.dumps({key: value for key, value in json.loads(WHOLE).items() if key != name})


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "zeros": (bytes(200), "JSON"),
    "deep": (b"[" * 100_000, "JSON"),
    "other kind": (b'["x"]', "JSON"),
    "torn": (WHOLE[: len(WHOLE) // 2].encode(), "JSON"),
    "something behind": (f"{WHOLE}x".encode(), "JSON"),
    "octet flipped": (WHOLE.replace("/run/netns/pod", "/run/netns/p~d").encode().replace(b"~", b"\xff"), ""),
    "newer schema": (changed(schema_version=2).encode(), "schema_version"),
    "newer field": (changed(policy={}).encode(), "policy"),
    "newer field of the plan": (changed(plan={**asdict(PLAN), "later": 1}).encode(), "plan.later"),
    "unknown phase": (changed(phase="leaving").encode(), "phase"),
    "no netns": (without("netns").encode(), "netns"),
    "inode that is no number": (changed(netns_inode="x").encode(), "netns_inode"),
    "plan without a link": (changed(plan={"routes": []}).encode(), "plan.link"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_record_is_moved_aside_whole(records: Records, name: str) -> None:
    content, reason = UNREADABLE[name]
    records.save(record())
    records.save(record("c2"))
    file_of(records).write_bytes(content)
    aside = Path(records.state_dir) / "unreadable" / "c1@eth0.json"
    with pytest.raises(UnreadableRecord) as caught:
        records.load("c1", "eth0")
    assert str(aside) in str(caught.value)
    assert reason in str(caught.value)
    assert aside.read_bytes() == content
    assert records.load("c1", "eth0") is None
    assert records.load("c2", "eth0") == record("c2")
    assert list(records.keys()) == [("c2", "eth0")]


def test_record_torn_anywhere_is_never_taken_for_whole(records: Records) -> None:
    records.save(record())
    for length in (*range(1, len(WHOLE), 9), len(WHOLE) - 1):
        file_of(records).write_text(WHOLE[:length])
        with pytest.raises(UnreadableRecord):
            records.load("c1", "eth0")


def test_empty_record_is_none_and_can_be_removed(records: Records) -> None:
    """A power cut leaves it so, and with it went all that it would tell of."""
    records.save(record())
    file_of(records).write_bytes(b"")
    assert records.load("c1", "eth0") is None
    assert list(records.peek()) == []
    assert list(records.keys()) == [("c1", "eth0")]  # GC finds it
    records.remove("c1", "eth0")
    assert files_in(records) == []


def test_only_a_record_with_a_lease_is_forced_onto_the_disk(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    records.save(record())
    assert forced == []
    records.save(record("c2", ipam={"type": "host-local"}))
    assert len(forced) == 2  # the file and its directory


def test_second_unreadable_record_of_the_same_name_is_moved_aside_too(records: Records) -> None:
    for content in ("first", "second"):
        records.save(record())
        file_of(records).write_text(content)
        with pytest.raises(UnreadableRecord):
            records.load("c1", "eth0")
    assert (Path(records.state_dir) / "unreadable" / "c1@eth0.json").read_text() == "second"


# -- listing and removing


def test_keys_are_those_of_the_records_alone(records: Records) -> None:
    assert list(records.keys()) == []
    for written in (record("c2"), record("c1"), record("c1", ifname="net1"), record("a.b_c-d", ifname="x@y")):
        records.save(written)
    directory = file_of(records).parent
    for stray in (".c9@eth0.json.tmp", "readme", "c9.json", "c9@eth0", "@", ".json"):
        (directory / stray).write_text("")
    assert list(records.keys()) == [("a.b_c-d", "x@y"), ("c1", "eth0"), ("c1", "net1"), ("c2", "eth0")]


def test_records_can_be_looked_at_without_touching_them(records: Records) -> None:
    assert list(records.peek()) == []
    for written in (record(), record("c2"), record("c3")):
        records.save(written)
    file_of(records, "c1").write_text("{")
    file_of(records, "c3").unlink()
    file_of(records, "c3").mkdir()
    before = files_in(records)
    found = dict(records.peek())
    assert found == {
        str(file_of(records, "c1")): None,
        str(file_of(records, "c2")): record("c2"),
        str(file_of(records, "c3")): None,
    }
    assert files_in(records) == before


def test_record_goes_with_the_rest_of_a_killed_write(records: Records) -> None:
    records.save(record())
    records.save(record("c2"))
    rest = file_of(records).with_name(".c1@eth0.json.tmp")
    rest.write_text("{")
    records.remove("c1", "eth0")
    records.remove("c1", "eth0")
    assert files_in(records) == ["attachments/c2@eth0.json"]


def test_unfinished_writes_go_one_by_one_and_records_stay(records: Records) -> None:
    assert list(records.unfinished()) == []  # there is no directory yet
    records.save(record())
    for name in (".c1@eth0.json.tmp", ".c9@net1.json.tmp"):
        (file_of(records).parent / name).write_text("{")
    assert list(records.unfinished()) == [("c1", "eth0"), ("c9", "net1")]
    records.remove_unfinished("c9", "net1")
    assert files_in(records) == ["attachments/.c1@eth0.json.tmp", "attachments/c1@eth0.json"]
    records.remove_unfinished("c1", "eth0")
    assert files_in(records) == ["attachments/c1@eth0.json"]


def obstacles(records: Records) -> Iterator[None]:
    """A state directory that is a file, then a record that is a directory."""
    state = Path(records.state_dir)
    state.write_text("")
    yield
    state.unlink()
    file_of(records).mkdir(parents=True)
    yield


def test_obstacle_in_the_file_system_is_named(records: Records) -> None:
    for _ in obstacles(records):
        with refused(IO_FAILURE, records.state_dir):
            records.load("c1", "eth0")
        with refused(IO_FAILURE, records.state_dir):
            records.save(record())
        with refused(IO_FAILURE, records.state_dir):
            records.remove("c1", "eth0")
    assert os.path.isdir(file_of(records))


def test_list_of_a_directory_that_is_none_is_refused(records: Records) -> None:
    Path(records.state_dir).mkdir()
    file_of(records).parent.write_text("")
    with refused(IO_FAILURE, "attachments"):
        list(records.keys())


@pytest.mark.parametrize(
    ("container_id", "ifname", "key"), [("c1", "eth0", "c1@eth0"), ("c1", "a@b", "c1@a@b")]
)
def test_attachment_is_named_by_container_and_interface(container_id: str, ifname: str, key: str) -> None:
    assert attachment_key(container_id, ifname) == key
    assert record(container_id, ifname=ifname).key == key
