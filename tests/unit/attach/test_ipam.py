"""How an IPAM plugin is found and called, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_macvlan_egress.attach.ipam import Delegate, delegated_configuration
from cni_macvlan_egress.protocol.errors import (
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    IPAM_FAILED,
    NOT_AVAILABLE,
    UNKNOWN_CONTAINER,
)

from ..refusals import refused
from .plugin import CONFIGURATION, VARIABLES, Plugin


@pytest.mark.parametrize(
    ("verb", "call"),
    [
        ("ADD", lambda delegate: delegate.add("1.1.0")),
        ("DEL", lambda delegate: delegate.delete()),
        ("CHECK", lambda delegate: delegate.check()),
        ("GC", lambda delegate: delegate.collect([])),
        ("STATUS", lambda delegate: delegate.status()),
    ],
)
def test_plugin_is_called_with_the_verb_and_otherwise_the_same(
    plugin: Plugin, bin_dir: str, verb: str, call: Any
) -> None:
    call(plugin.answers({"ips": [{"address": "192.168.12.66/24"}]}))
    arguments, environment, stdin = plugin.call()
    assert arguments == [f"{bin_dir}/pool"]
    assert environment == {**VARIABLES, "CNI_COMMAND": verb}
    assert {key: value for key, value in stdin.items() if not key.startswith("cni.dev/")} == CONFIGURATION
    assert ("cni.dev/valid-attachments" in stdin) is (verb == "GC")


def test_plugin_is_the_first_executable_of_that_name(plugin: Plugin, bin_dir: str, tmp_path: Path) -> None:
    for name in ("directory", "readable"):
        (tmp_path / name).mkdir()
    (tmp_path / "directory" / "pool").mkdir()
    (tmp_path / "readable" / "pool").write_text("")
    search = [f"{bin_dir}/directory", f"{bin_dir}/readable", bin_dir]
    plugin.answers({})
    Delegate(CONFIGURATION, VARIABLES, search).delete()
    assert plugin.call()[0] == [f"{bin_dir}/pool"]
    with refused(IPAM_FAILED, "'pool'", "CNI_PATH", ":".join(search[:2])):
        Delegate(CONFIGURATION, VARIABLES, search[:2]).delete()


@pytest.mark.parametrize("content", ["", "not a program\n", "#!/nowhere/interpreter\n", "\x7fELF"])
def test_file_that_cannot_be_executed_is_a_failure_of_the_plugin(tmp_path: Path, content: str) -> None:
    (tmp_path / "pool").write_text(content)
    (tmp_path / "pool").chmod(0o755)
    with refused(IPAM_FAILED, "'pool'"):
        Delegate(CONFIGURATION, VARIABLES, [str(tmp_path)]).delete()


@pytest.mark.parametrize("chained", [True, False])
def test_plugin_is_told_what_concerns_it(chained: bool) -> None:
    asked = {
        **CONFIGURATION,
        "args": {"cni": {}},
        "dns": {"nameservers": ["10.0.0.1"]},
        "runtimeConfig": {
            "ips": ["192.168.12.70/24"],
            "mac": "x",
            "io.kubernetes.cri.pod-annotations": {"a": "b"},
        },
        "prevResult": {"ips": []},
        "master": "eth0",
    }
    told = delegated_configuration(asked, chained=chained)
    # In a chain the main CNI may lease from the same pool for the same container.
    assert (told.pop("name") == "lan") is not chained
    assert told == {
        "cniVersion": "1.1.0",
        "type": "macvlan-egress",
        "ipam": CONFIGURATION["ipam"],
        "args": asked["args"],
        "dns": asked["dns"],
        "runtimeConfig": {"ips": ["192.168.12.70/24"]},
    }
    assert asked["runtimeConfig"]["mac"] == "x"


# -- plugins older than the configuration

VERBS: dict[str, Callable[[Delegate], object]] = {
    "STATUS": lambda delegate: delegate.status(),
    "GC": lambda delegate: delegate.collect([]),
    "DEL": lambda delegate: delegate.delete(),
    "CHECK": lambda delegate: delegate.check(),
}
# The errors that are borne with: the plugin is told a verb or a version that it does not know.
BORNE = {
    ("STATUS", INVALID_ENVIRONMENT),
    ("STATUS", UNKNOWN_CONTAINER),
    ("GC", INVALID_ENVIRONMENT),
    ("GC", UNKNOWN_CONTAINER),
    ("DEL", INCOMPATIBLE_VERSION),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "code",
    [
        INCOMPATIBLE_VERSION,
        UNKNOWN_CONTAINER,
        INVALID_ENVIRONMENT,
        INVALID_CONFIGURATION,
        NOT_AVAILABLE,
        "4",
        None,
    ],
)
def test_error_of_a_plugin_counts_unless_it_only_does_not_know_better(
    plugin: Plugin, verb: str, code: object
) -> None:
    delegate = plugin.answers({"code": code, "msg": "no"}, 1, to=verb)
    if (verb, code) in BORNE:
        VERBS[verb](delegate)
    else:
        with refused(IPAM_FAILED, "'pool'", verb, f"code {code}"):
            VERBS[verb](delegate)


@pytest.mark.parametrize(
    ("spoken", "able"),
    [(["1.0.0", "1.1.0"], True), (["0.4.0", "1.0.0"], False), ([], False), (None, True), ("1.0.0", True)],
)
def test_status_needs_a_plugin_that_speaks_the_version(plugin: Plugin, spoken: object, able: bool) -> None:
    delegate = plugin.answers({"cniVersion": "1.0.0", "supportedVersions": spoken}, to="VERSION")
    if able:
        delegate.status()
    else:
        with refused(IPAM_FAILED, "'pool'", "1.1.0", *(spoken or [])):
            delegate.status()
