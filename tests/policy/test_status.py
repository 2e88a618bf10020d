"""What STATUS and `macvlan-egress status` say of policies."""

from __future__ import annotations

import subprocess

from lab import Node, within

from .documents import Policies, deny


def status(node: Node) -> tuple[int, str]:
    argv = [
        f"{node.bin_dir}/macvlan-egress",
        "status",
        "--state-dir",
        node.state_dir,
        "--run-dir",
        node.run_dir,
    ]
    done = within(node.path, lambda: subprocess.run(argv, capture_output=True, text=True, check=False))
    return done.returncode, done.stdout


def test_status_names_policies_in_force_and_closed_namespaces(node: Node, policies: Policies) -> None:
    policies.write(deny("203.0.113.0/24"))
    pod = node.pod()
    policies.add(pod).ok()
    code, text = status(node)
    assert code == 0
    assert "policy of shop: EgressNetworkPolicy policy" in text
    policies.write_text('{"kind": "EgressNetworkPolicy", "metadata": {"namespace": "shop"}}', "shop.json")
    policies.sync()
    code, text = status(node)
    assert code == 1
    assert "policy of shop: ! closed: " in text


def test_broken_policy_of_a_namespace_does_not_close_the_node(node: Node, policies: Policies) -> None:
    policies.write_text('{"kind": "EgressNetworkPolicy", "metadata": {"namespace": "shop"}}', "shop.json")
    answer = node.status(policies.conf)
    answer.ok()
    assert "namespace shop is closed" in answer.stderr


def test_directory_that_cannot_be_read_makes_the_plugin_unavailable(node: Node, policies: Policies) -> None:
    policies.directory.rmdir()
    policies.directory.write_text("")
    node.status(policies.conf).refused(50, "policies")
