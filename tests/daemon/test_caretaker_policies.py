"""The daemon keeps egress policies in force, as `policy sync --follow` does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import Namespace, Node
from lab.network import OUTSIDE4
from lab.traffic import exchange
from policy.documents import Policies, deny

from cni_macvlan_egress.admin.node_configuration import NodeConfiguration
from cni_macvlan_egress.protocol.errors import CniError

from .running import Daemon, eventually


class Conflist:
    """The node's CNI configuration."""

    def __init__(self, node: Node, policies: Policies) -> None:
        self.path = Path(node.directory) / "10-test.conflist"
        self._node, self._policies = node, policies

    def write(self, **keys: Any) -> None:
        """Put it there as a careful program does."""
        ours = self._node.configuration(**{**self._policies.conf, **keys})
        del ours["name"], ours["cniVersion"]
        document = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp"}, ours]}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(document))
        new.rename(self.path)


@pytest.fixture
def policies(node: Node) -> Policies:
    return Policies(node)


@pytest.fixture
def conflist(node: Node, policies: Policies) -> Conflist:
    return Conflist(node, policies)


def test_policy_that_is_written_holds_for_pods_that_are_there(
    node: Node, outside: Namespace, policies: Policies, conflist: Conflist, make_daemon: Callable[..., Daemon]
) -> None:
    conflist.write()
    daemon = make_daemon("--policies", str(conflist.path)).start()
    pod = node.pod()
    node.add(pod, {}, conf=policies.conf).ok()
    assert exchange("udp", pod, (OUTSIDE4, 80), outside, 80).target == OUTSIDE4
    eventually(lambda: daemon.metric('policy_syncs_total{result="ok"}') >= 1, "nothing is brought into force")
    policies.write(deny(f"{OUTSIDE4}/32"))
    eventually(lambda: daemon.metric("policies") == 1, "the policy is not followed")
    eventually(
        lambda: not exchange("udp", pod, (OUTSIDE4, 80), outside, 80, timeout=0.1).target, "it does not hold"
    )
    assert daemon.metric("policies_followed") == 1
    (line,) = daemon.told(lambda line: line["msg"] == "egress policies have changed")
    assert "in force now" in line["changes"][0]
    policies.remove()
    eventually(lambda: daemon.metric("policies") == 0, "that it is gone is not followed")
    assert exchange("udp", pod, (OUTSIDE4, 80), outside, 80).target == OUTSIDE4


def test_configuration_may_come_and_change(
    policies: Policies, conflist: Conflist, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon("--policies", str(conflist.path)).start()
    eventually(lambda: daemon.metric('policy_syncs_total{result="failed"}') >= 1, "its absence is not told")
    assert daemon.metric("policies_followed") == 0
    conflist.write()
    eventually(lambda: daemon.metric("policies_followed") == 1, "it is not found")
    conflist.write(policy=None)
    eventually(
        lambda: daemon.metric("policies_followed") == 0, "that it says nothing of policies is not seen"
    )
    conflist.write(policy={"directory": "relative"})
    eventually(
        lambda: any("policy.directory" in str(line.get("reason")) for line in daemon.log),
        "its fault is not told",
    )


def test_broken_policy_is_told_and_counted(
    node: Node, policies: Policies, conflist: Conflist, make_daemon: Callable[..., Daemon]
) -> None:
    conflist.write()
    daemon = make_daemon("--policies", str(conflist.path)).start()
    policies.write_text("kind: [", "shop.yaml")
    eventually(lambda: daemon.metric("policy_problems") == 1, "it is not told")
    assert daemon.told(lambda line: line["msg"] == "egress policies need attention")
    policies.write_text("", "shop.yaml")
    eventually(lambda: daemon.metric("policy_problems") == 0, "that it is mended is not seen")


def test_policies_are_not_followed_if_nobody_wants_it(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon("--policies", "off", "--drift-every", "1").start()
    eventually(daemon.caretaker, "there is none")
    assert daemon.metric("policies_followed") == 0
    assert daemon.metric('policy_syncs_total{result="failed"}') == 0


# -- where the configuration is found


def test_node_without_our_entry_has_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cni_macvlan_egress.admin import node_configuration

    monkeypatch.setattr(node_configuration, "CONF_DIRECTORY", str(tmp_path))
    found = NodeConfiguration("auto")
    empty = found.fingerprint()
    assert found.read() is None
    other = tmp_path / "10-other.conflist"
    other.write_text(json.dumps({"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "bridge"}]}))
    assert found.fingerprint() != empty
    assert found.read() is None
    entry = {"type": "macvlan-egress", "policy": {}, "clusterNetworks": ["10.0.0.0/8"]}
    ours = tmp_path / "20-ours.conflist"
    ours.write_text(
        json.dumps({"cniVersion": "1.0.0", "name": "ours", "plugins": [{"type": "bridge"}, entry]})
    )
    configuration = found.read()
    assert configuration is not None
    assert configuration.policy is not None


def test_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CniError):
        NodeConfiguration(str(tmp_path / "missing.conflist")).read()
