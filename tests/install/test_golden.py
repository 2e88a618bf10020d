"""The files of well-known main CNIs, as they stand on nodes, through everything that may happen to them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cni_macvlan_egress.model import conflist_names

from .installing import GOLDEN, HERE, Directory

OPTIONS = ("--namespaces", "egress", "team-*", "--cluster-networks", "10.244.0.0/16", "10.96.0.0/12")


def installed_name(name: str) -> str:
    return name if conflist_names.is_list(name) else conflist_names.derived(name)


@pytest.mark.parametrize("path", GOLDEN)
def test_installed_file_is_the_golden_one(directory: Directory, path: Path) -> None:
    directory.put(path.name, path.read_bytes().decode())
    directory.install(*OPTIONS)
    name = installed_name(path.name)
    assert directory.text(name) == (HERE / "installed" / name).read_bytes().decode()
    assert directory.text(path.name) == path.read_bytes().decode() or name == path.name


@pytest.mark.parametrize("path", GOLDEN)
def test_what_runtimes_read_is_the_former_chain_with_our_entry_at_its_end(
    directory: Directory, path: Path
) -> None:
    before = json.loads(path.read_bytes())
    directory.put(path.name, path.read_bytes().decode())
    directory.install(*OPTIONS)
    first = min((name for name in directory.names() if conflist_names.counts(name)), key=conflist_names.order)
    after = json.loads(directory.text(first))
    assert after["plugins"].pop() == directory.entry(first)
    if "plugins" not in before:  # libcni's ConfListFromConf
        before = {"cniVersion": before["cniVersion"], "name": before["name"], "plugins": [before]}
    assert after == before


@pytest.mark.parametrize("path", GOLDEN)
def test_files_are_what_they_were_after_all_that_may_happen(directory: Directory, path: Path) -> None:
    text = path.read_bytes().decode()
    rewritten = re.sub('("cniVersion": ?")[^"]+', r"\g<1>1.1.0", text, count=1)
    assert rewritten != text
    name = installed_name(path.name)
    directory.put(path.name, text)
    directory.install(*OPTIONS)
    entry = directory.entry(name)
    directory.put(path.name, rewritten)  # the main CNI is upgraded
    directory.install()
    assert directory.entry(name) == entry
    directory.install("--master", "eth1")
    assert directory.entry(name) == {**entry, "master": "eth1"}
    directory.uninstall()
    assert directory.names() == [path.name]
    assert directory.text(path.name) == rewritten
    assert list((directory.state / "install").iterdir()) == []


@pytest.mark.parametrize("path", GOLDEN)
def test_entry_leaves_no_trace_even_if_nothing_is_remembered(directory: Directory, path: Path) -> None:
    directory.put(path.name, path.read_bytes().decode())
    directory.install(*OPTIONS)
    for record in (directory.state / "install").iterdir():
        record.unlink()
    directory.uninstall()
    assert directory.names() == [path.name]
    assert directory.text(path.name) == path.read_bytes().decode()


@pytest.mark.parametrize("path", GOLDEN)
def test_disabled_check_comes_and_goes_with_the_entry(directory: Directory, path: Path) -> None:
    directory.put(path.name, path.read_bytes().decode())
    directory.install(*OPTIONS, "--disable-check")
    assert json.loads(directory.text(installed_name(path.name)))["disableCheck"] is True
    directory.uninstall()
    assert directory.text(path.name) == path.read_bytes().decode()
