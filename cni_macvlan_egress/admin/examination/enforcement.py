"""Whether the node's rules are those of the egress policies in force."""

from __future__ import annotations

from collections.abc import Iterator

from ...attach.enforcer import Enforcer, objects
from ...attach.policy_state import PolicyState
from ...decide.enforcement import TABLE
from .check import Check
from .finding import Finding, bad, good, listed
from .node import Node


def _in_force(node: Node) -> Iterator[Finding]:
    state = PolicyState(node.run_dir)
    enforced = state.load()
    if enforced is None:
        yield bad("policy-state", f"{node.run_dir}/policy")
        return
    there = bool(objects())
    configured = any("policy" in one.configuration for one in node.entries)
    if there and (enforced.empty or (node.entries and not configured)):
        why = "no policy is in force" if enforced.empty else "no entry has 'policy'"
        yield bad("policy-leftover", f"table {TABLE} is there, and {why}")
    differences = [] if enforced.empty else Enforcer(state).differences_on_node(enforced)
    if differences:
        yield bad("policy-differs", listed(differences))
    elif not enforced.empty:
        yield good("policy-differs", f"policies of {listed(sorted(enforced.namespaces))} are in force")


CHECKS = (Check("egress policies in force", _in_force, needs_root=True),)
