"""`uninstall`: what was there before comes back, whoever has written what in the meantime."""

from __future__ import annotations

import pytest

from .installing import CHAIN, TYPE, Directory, normalised

STANDALONE = '{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "macvlan-egress"}]}\n'


def test_what_others_have_changed_meanwhile_stays(directory: Directory) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    edited = directory.text("10-a.conflist").replace("pods", "pods-2")
    directory.put("10-a.conflist", edited.replace('{"type": "calico"}', '{"type": "calico", "mtu": 1e3}'))
    directory.uninstall()
    assert directory.text("10-a.conflist") == (
        CHAIN.replace("pods", "pods-2").replace('{"type": "calico"}', '{"type": "calico", "mtu": 1e3}')
    )


def test_plugin_that_somebody_has_put_behind_ours_stays(directory: Directory) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    text = directory.text("10-a.conflist")
    head, bracket, tail = text.rpartition("\n  ]")
    directory.put("10-a.conflist", f'{head},\n    {{"type": "istio-cni"}}{bracket}{tail}')
    directory.uninstall()
    assert directory.types("10-a.conflist") == ["calico", "istio-cni"]


def test_list_that_somebody_has_added_to_is_not_removed(directory: Directory) -> None:
    directory.put("10-b.conf", '{"cniVersion": "1.0.0", "name": "b", "type": "bridge"}')
    directory.install("--namespaces", "egress")
    made = "10-b+macvlan-egress.conflist"
    directory.put(made, directory.text(made).replace('"plugins": [', '"plugins": [\n    {"type": "first"},'))
    directory.uninstall()
    assert directory.types(made) == ["first", "bridge"]


def test_list_is_removed_also_if_what_it_was_made_from_has_changed(directory: Directory) -> None:
    directory.put("10-b.conf", '{"cniVersion": "1.0.0", "name": "b", "type": "bridge"}')
    directory.install("--namespaces", "egress")
    directory.put("10-b.conf", '{"cniVersion": "1.0.0", "name": "b", "type": "ptp"}')
    directory.uninstall()
    assert directory.names() == ["10-b.conf"]


def test_file_that_the_main_cni_has_removed_is_forgotten(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    path.unlink()
    directory.uninstall()
    assert "gone already" in capsys.readouterr().out
    assert list((directory.state / "install").iterdir()) == []


def test_entry_that_the_main_cni_has_removed_is_forgotten(directory: Directory) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    rewritten = directory.put("10-a.conflist", CHAIN.replace("pods", "other"))
    before = rewritten.stat().st_ino
    directory.uninstall()
    assert rewritten.stat().st_ino == before
    assert list((directory.state / "install").iterdir()) == []


def test_directory_that_is_gone_is_forgotten(directory: Directory) -> None:
    path = directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    path.unlink()
    directory.cni.rmdir()
    directory.uninstall()
    assert list((directory.state / "install").iterdir()) == []


def test_networks_of_our_own_and_files_of_others_are_left_alone(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.put("20-lan.conflist", STANDALONE)
    directory.put("30-broken.conflist", "{")
    directory.install("--namespaces", "egress")
    directory.uninstall()
    assert directory.text("10-a.conflist") == CHAIN
    assert directory.text("20-lan.conflist") == STANDALONE
    assert directory.text("30-broken.conflist") == "{"
    said = normalised(capsys.readouterr().out)
    assert "20-lan.conflist is left alone" in said
    assert "30-broken.conflist is left alone" in said


def test_installed_file_that_cannot_be_read_is_an_error(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress")
    directory.put("10-a.conflist", directory.text("10-a.conflist")[:-5])
    assert directory.run("uninstall") == 1
    assert "not JSON" in capsys.readouterr().err
    assert TYPE in directory.text("10-a.conflist")


def test_executable_stays_for_the_del_of_running_pods(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress", "--bin-dir", str(directory.bin))
    attachments = directory.state / "attachments"
    attachments.mkdir()
    (attachments / "abc@macvlan0.json").write_text("{}")
    directory.uninstall()
    said = normalised(capsys.readouterr().out)
    assert "1 pod has an egress interface still" in said
    assert f"{directory.bin / TYPE}: stays" in said
    assert (directory.bin / TYPE).exists()
    directory.uninstall("--executable")
    assert list(directory.bin.iterdir()) == []


def test_dry_run_changes_nothing(directory: Directory, capsys: pytest.CaptureFixture[str]) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.install("--namespaces", "egress", "--bin-dir", str(directory.bin))
    installed = directory.text("10-a.conflist")
    capsys.readouterr()
    directory.uninstall("--dry-run", "--executable")
    assert '-      "allow": [{"namespaces": ["egress"]}]' in capsys.readouterr().out
    assert directory.text("10-a.conflist") == installed
    assert (directory.bin / TYPE).exists()
    assert (directory.state / "install/10-a.conflist.json").exists()


def test_second_time_there_is_nothing_to_do(directory: Directory, capsys: pytest.CaptureFixture[str]) -> None:
    directory.put("10-a.conflist", CHAIN)
    directory.uninstall()
    assert "nothing is installed" in capsys.readouterr().out
    assert directory.text("10-a.conflist") == CHAIN
