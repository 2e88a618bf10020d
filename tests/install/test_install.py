"""`install`: which file it takes, what it writes into it, and what it refuses."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from .installing import CHAIN, TYPE, Directory, normalised

LONE = '{"cniVersion": "0.4.0", "name": "pods", "type": "bridge"}\n'
CAPABILITIES = {"io.kubernetes.cri.pod-annotations": True}


def refuses(directory: Directory, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What install says when it refuses; nothing may have changed."""
    before = {name: directory.text(name) for name in directory.names()}
    assert directory.run("install", *(options or ("--namespaces", "egress"))) == 1
    assert {name: directory.text(name) for name in directory.names()} == before
    assert not (directory.state / "install").exists()
    return normalised(capsys.readouterr().err)


# -- which file


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["20-b.conflist", "10-a.conflist"], "10-a.conflist"),
        (["10-a.conflist.bak", "10-a.conflist.cilium_bak", "20-b.conflist"], "20-b.conflist"),
        (["9-a.conflist", "10-b.conflist"], "10-b.conflist"),
        (["A.conflist", "a.conflist"], "A.conflist"),
        ([".hidden.conflist", "10-a.conflist"], ".hidden.conflist"),
        (["10-a.yaml", "99-z.conflist"], "99-z.conflist"),
        (["é.conflist", "z.conflist"], "z.conflist"),
    ],
)
def test_file_is_the_one_that_runtimes_take(directory: Directory, names: list[str], taken: str) -> None:
    for name in names:
        directory.put(name, CHAIN)
    (directory.cni / "00-directory.conflist").mkdir()
    directory.install("--namespaces", "egress")
    changed = [name for name in names if directory.text(name) != CHAIN]
    assert changed == [taken]


def test_named_file_is_taken_and_the_admin_told_that_runtimes_take_another(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.put("20-b.conflist", CHAIN)
    directory.install("--namespaces", "egress", "--name", "20-b.conflist")
    assert directory.types("20-b.conflist") == ["calico", TYPE]
    assert directory.text("10-a.conflist") == CHAIN
    assert "runtimes use the first file, 10-a.conflist" in normalised(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["10-bridge.conf", "10-bridge.json"])
def test_lone_configuration_stays_and_its_list_is_found_first(directory: Directory, name: str) -> None:
    directory.put(name, LONE)
    directory.put("05-not-read.txt", LONE)
    before = (directory.cni / name).stat()
    directory.install("--namespaces", "egress")
    after = (directory.cni / name).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    made = "10-bridge+macvlan-egress.conflist"
    assert directory.types(made) == ["bridge", TYPE]
    assert sorted([made, name]) == [made, name]


def test_lone_configuration_that_changes_changes_its_list(directory: Directory) -> None:
    directory.put("10-bridge.conf", LONE)
    directory.install("--namespaces", "egress")
    directory.put("10-bridge.conf", LONE.replace('"bridge"', '"ptp"'))
    directory.install()
    assert directory.types("10-bridge+macvlan-egress.conflist") == ["ptp", TYPE]
    directory.uninstall("--name", "10-bridge.conf")
    assert directory.names() == ["10-bridge.conf"]


def test_list_whose_configuration_is_gone_goes_too(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    lone = directory.put("10-bridge.conf", LONE)
    directory.install("--namespaces", "egress")
    lone.unlink()
    assert directory.run("install") == 1
    assert "no CNI configuration yet" in normalised(capsys.readouterr().err)
    assert directory.names() == []
    directory.put("20-new.conflist", CHAIN)
    directory.install()  # as it was before
    assert directory.entry("20-new.conflist")["allow"] == [{"namespaces": ["egress"]}]


def test_list_may_not_take_somebody_elses_place(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.put("10-bridge.conf", LONE)
    directory.put("10-bridge-too.conflist", CHAIN)
    said = refuses(directory, capsys, "--namespaces", "egress", "--name", "10-bridge.conf")
    assert "would come before 10-bridge-too.conflist" in said


def test_entry_moves_with_the_main_cni(directory: Directory) -> None:
    directory.put("20-old.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    entry = directory.entry("20-old.conflist")
    directory.put("10-new.conflist", CHAIN.replace("calico", "cilium-cni"))
    directory.install()
    assert directory.entry("10-new.conflist") == entry
    assert directory.text("20-old.conflist") == CHAIN  # so that a chain of chains does not meet it twice


def test_entry_in_a_named_file_stays_where_it_is(directory: Directory) -> None:
    directory.put("20-old.conflist", CHAIN)
    directory.install("--namespaces", "egress", "--name", "20-old.conflist")
    directory.put("10-new.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    assert directory.types("20-old.conflist") == directory.types("10-new.conflist") == ["calico", TYPE]


# -- what is written


def test_options_make_the_entry(directory: Directory) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install(
        "--namespaces", "egress", "team-*",
        "--master", "eth1",
        "--cluster-networks", "10.244.0.0/16,fd00::/8",
        "--policy", "/etc/policies", "kubernetes",
        "--set", 'mode="private"',
        "--set", "conflictTimeoutMs=300",
    )  # fmt: skip
    assert directory.entry("10-a.conflist") == {
        "type": TYPE,
        "capabilities": CAPABILITIES,
        "allow": [{"namespaces": ["egress", "team-*"]}],
        "master": "eth1",
        "clusterNetworks": ["10.244.0.0/16", "fd00::/8"],
        "policy": {"directory": "/etc/policies", "kubernetes": True},
        "mode": "private",
        "conflictTimeoutMs": 300,
    }


def test_policies_alone_need_no_namespaces(directory: Directory) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--policy", "--cluster-networks", "10.0.0.0/8")
    assert directory.entry("10-a.conflist")["policy"] == {}
    assert "allow" not in directory.entry("10-a.conflist")


def test_file_is_the_whole_entry(directory: Directory, tmp_path: Path) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress", "--master", "eth1")
    file = tmp_path / "entry.json"
    file.write_text(json.dumps({"allow": [{"namespaces": ["*"]}], "capabilities": {"ips": True}}))
    directory.install("--config", str(file))
    assert directory.entry("10-a.conflist") == {
        "type": TYPE,
        "capabilities": {"ips": True, **CAPABILITIES},
        "allow": [{"namespaces": ["*"]}],
    }


def test_options_change_the_keys_they_name(directory: Directory) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress", "--master", "eth1", "--set", "mtu=1400")
    directory.install("--namespaces", "other", "--set", "master=null")
    entry = directory.entry("10-a.conflist")
    assert entry["allow"] == [{"namespaces": ["other"]}]
    assert entry["mtu"] == 1400
    assert "master" not in entry


def test_second_time_nothing_is_touched(directory: Directory, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    record = directory.state / "install/10-a.conflist.json"
    before = [(file.stat().st_ino, file.stat().st_mtime_ns) for file in (path, record)]
    capsys.readouterr()
    directory.install("--namespaces", "egress")
    assert before == [(file.stat().st_ino, file.stat().st_mtime_ns) for file in (path, record)]
    assert capsys.readouterr().out == f"{path}: up to date\n"


def test_entry_written_by_hand_is_taken_over(directory: Directory) -> None:
    by_hand = CHAIN.replace(
        '{"type": "calico"}', '{"type": "calico"},\n    {"type": "macvlan-egress", "mode": "vepa"}'
    )
    directory.put("10-a.conflist", by_hand)
    directory.install()
    assert directory.entry("10-a.conflist") == {"type": TYPE, "capabilities": CAPABILITIES, "mode": "vepa"}
    directory.uninstall()
    assert directory.text("10-a.conflist") == CHAIN


def test_mode_owner_and_labels_are_kept(directory: Directory) -> None:
    path = directory.put("10-a.conflist", CHAIN)
    path.chmod(0o640)
    os.chown(path, 1234, 4321)
    label = b"system_u:object_r:container_file_t:s0\0"
    os.setxattr(path, "security.selinux", label)
    os.setxattr(path, "trusted.note", b"x")
    directory.install("--namespaces", "egress")
    directory.uninstall()
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 1234, 4321)
    assert os.getxattr(path, "security.selinux") == label
    assert os.getxattr(path, "trusted.note") == b"x"


def test_list_gets_the_attributes_of_what_it_is_made_from(directory: Directory) -> None:
    path = directory.put("10-bridge.conf", LONE)
    path.chmod(0o600)
    os.chown(path, 1234, 4321)
    os.setxattr(path, "security.selinux", b"label\0")
    directory.install("--namespaces", "egress")
    made = directory.cni / "10-bridge+macvlan-egress.conflist"
    status = made.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o600, 1234, 4321)
    assert os.getxattr(made, "security.selinux") == b"label\0"


def test_link_stays_a_link(directory: Directory, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    real = elsewhere / "calico"
    real.write_text(CHAIN)
    link = directory.cni / "10-a.conflist"
    link.symlink_to(real)
    directory.install("--namespaces", "egress")
    assert link.is_symlink()
    assert directory.types("10-a.conflist") == ["calico", TYPE]
    directory.uninstall()
    assert link.is_symlink()
    assert real.read_text() == CHAIN
    assert sorted(elsewhere.iterdir()) == [real]


def test_former_content_is_for_root_alone(directory: Directory) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    record = directory.state / "install/10-a.conflist.json"
    assert json.loads(record.read_text())["former"] == CHAIN
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert stat.S_IMODE(record.parent.stat().st_mode) == 0o700


def test_executable_comes_first_and_once(directory: Directory, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory.put("10-a.conflist", CHAIN)
    options = ("--namespaces", "egress", "--bin-dir", str(directory.bin))
    directory.install(*options)
    executable = directory.bin / TYPE
    assert os.access(executable, os.X_OK)
    written = capsys.readouterr().out.split("\n")
    assert written[0] == f"{executable}: written"
    assert written[1].startswith(str(path))
    directory.install(*options)
    assert str(executable) not in capsys.readouterr().out


def test_missing_bin_directory_is_told_before_the_conflist_is_touched(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.put("10-a.conflist", CHAIN)
    said = refuses(directory, capsys, "--namespaces", "egress", "--bin-dir", f"{directory.bin}/none")
    assert "--bin-dir" in said
    assert "--no-executable" in said


def test_chain_with_a_check_that_would_fail_is_pointed_out(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.put("10-a.conflist", CHAIN.replace("calico", "bridge"))
    directory.install("--namespaces", "egress")
    assert "--disable-check" in capsys.readouterr().out
    directory.install("--disable-check")
    assert json.loads(directory.text("10-a.conflist"))["disableCheck"] is True
    assert "--disable-check" not in capsys.readouterr().out


# -- what is refused


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not JSON"),
        (CHAIN[:-10], "is it just being written?"),
        (CHAIN.replace("calico", TYPE), "nothing to chain after"),
        (CHAIN.replace('"name"', '"label"'), "network name"),
    ],
)
def test_unusable_file_is_left_alone(
    directory: Directory, capsys: pytest.CaptureFixture[str], text: str, word: str
) -> None:
    directory.put("10-a.conflist", text)
    directory.put("20-b.conflist", CHAIN)  # containerd does not go on to the next file
    assert word in refuses(directory, capsys)


def test_file_that_is_not_utf_8_is_left_alone(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory.cni / "10-a.conflist"
    path.write_bytes(CHAIN.encode().replace(b"pods", b"p\xffds"))
    assert directory.run("install", "--namespaces", "egress") == 1
    assert "byte 40 is not UTF-8" in normalised(capsys.readouterr().err)
    assert b"macvlan-egress" not in path.read_bytes()


def test_pipe_in_the_directory_is_not_waited_for(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(directory.cni / "10-a.conflist")
    assert directory.run("install", "--namespaces", "egress") == 1
    assert "not a regular file" in normalised(capsys.readouterr().err)


def test_thin_multus_is_not_given_itself_as_main_cni(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.put("00-multus.conf", '{"cniVersion": "0.3.1", "name": "m", "type": "multus", "delegates": []}')
    directory.put("10-a.conflist", CHAIN)
    said = refuses(directory, capsys)
    assert "thin" in said
    assert "--name" in said
    directory.install("--namespaces", "egress", "--name", "10-a.conflist")
    assert directory.types("10-a.conflist") == ["calico", TYPE]


def test_node_without_main_cni_is_told_what_to_do(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--watch" in refuses(directory, capsys, "--namespaces", "egress", "--bin-dir", str(directory.bin))
    assert list(directory.bin.iterdir()) == []
    directory.cni.rmdir()
    assert directory.run("install", "--namespaces", "egress") == 1
    assert "--watch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--namespaces", "egress", "--set", 'mod="private"'], ["'mod'", "'mode'"]),
        (["--namespaces", "egress", "--set", 'mode="privat"'], ["mode", "'privat'"]),
        (["--namespaces", "egress", "--master", "a/b"], ["master", "'a/b'"]),
        (["--namespaces", "egress", "--policy"], ["clusterNetworks"]),
        (["--namespaces", "egress", "--policy", "/a", "/b"], ["only one directory"]),
        (["--namespaces", "egress", "--cluster-networks", "10.0.0.1/8"], ["clusterNetworks"]),
        (["--namespaces", "egress", "--set", "capabilities=[]"], ["capabilities"]),
        (["--config", "/nonexistent"], ["/nonexistent", "No such file"]),
        ([], ["--namespaces", "--config"]),
    ],
)
def test_bad_entry_is_refused_before_anything_is_written(
    directory: Directory, capsys: pytest.CaptureFixture[str], options: list[str], words: list[str]
) -> None:
    directory.put("10-a.conflist", CHAIN)
    said = refuses(directory, capsys, "--bin-dir", str(directory.bin), *options)
    assert not [word for word in words if word not in said], said
    assert list(directory.bin.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"type": "bridge"}', '{"x": 1}'])
def test_bad_entry_file_is_refused(
    directory: Directory, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str
) -> None:
    directory.put("10-a.conflist", CHAIN)
    file = tmp_path / "entry.json"
    file.write_text(content)
    assert refuses(directory, capsys, "--config", str(file))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "mode"], "KEY=JSON"),
        (["--set", "mode=private"], 'mode="private"'),
        (["--name", "a/b.conflist"], "a/b.conflist"),
        (["--name", "a.yaml"], ".conflist"),
    ],
)
def test_malformed_option_is_a_usage_error(
    directory: Directory, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        directory.run("install", *words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_record_that_cannot_be_understood_is_moved_aside(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    record = directory.state / "install/10-a.conflist.json"
    record.write_text("{")
    directory.install()
    assert "cannot be understood" in capsys.readouterr().err
    assert record.with_name(record.name + ".unusable").read_text() == "{"
    directory.uninstall()
    assert directory.text("10-a.conflist") == CHAIN


def test_dry_run_writes_nothing(directory: Directory, capsys: pytest.CaptureFixture[str]) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress", "--dry-run", "--bin-dir", str(directory.bin))
    shown = capsys.readouterr().out
    assert "+++ " in shown
    assert '+      "allow": [{"namespaces": ["egress"]}]' in shown
    assert directory.text("10-a.conflist") == CHAIN
    assert list(directory.bin.iterdir()) == []
    assert not directory.state.exists()


def understood(directory: Directory) -> Any:
    return json.loads(directory.text("10-a.conflist"))


def test_windows_line_ends_are_kept(directory: Directory) -> None:
    directory.put("10-a.conflist", CHAIN.replace("\n", "\r\n"))
    directory.install("--namespaces", "egress")
    assert directory.text("10-a.conflist").count("\n") == directory.text("10-a.conflist").count("\r\n")
    assert understood(directory)["plugins"][0] == {"type": "calico"}
