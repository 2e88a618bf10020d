"""A kernel without nftables' hook at egress: pods without a policy are served, others refused in words that help."""

from __future__ import annotations

import pytest
from lab import Namespace, Node, source
from lab.needed import has_egress_hook
from policy.documents import Policies, deny

OUTSIDE = "203.0.113.25"
WISH = source("192.168.12.99/24", "192.168.12.1", destination=OUTSIDE)
KERNEL_REFUSED = 105


def test_policy_that_cannot_be_enforced_refuses_its_pods_and_no_others(
    node: Node, outside: Namespace
) -> None:
    if has_egress_hook():
        pytest.skip("this kernel has the hook: bin/test-kernel --suite bullseye")
    policies = Policies(node)
    free, client, policed = node.pod(), node.pod(), node.pod()
    policies.write(deny("198.51.100.0/24"), namespace="bank")
    policies.add(free, WISH).ok()
    assert client.reach(outside, free.address) == "192.168.12.99"
    policies.write(deny("198.51.100.0/24"))
    before = node.snapshot(), policed.snapshot()
    policies.add(policed).refused(KERNEL_REFUSED, "no nftables hook", "5.16", "'policy'")
    assert (node.snapshot(), policed.snapshot()) == before
    node.check(free).ok()
    node.delete(free).ok()
