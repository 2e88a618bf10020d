"""Two configurations on one NIC, of which only one has policies."""

from __future__ import annotations

from lab import Node, source, unchanged

from .documents import Policies, deny
from .sink import DENIED

KERNEL_REFUSED = 105
QUICK = {"conflictTimeoutMs": 20}


def test_network_without_policies_is_told_what_it_needs(node: Node, policies: Policies) -> None:
    policies.write(deny(f"{DENIED}/32"))
    node.add(node.pod(), source("192.168.12.99/24"), conf={**policies.conf, **QUICK}).ok()
    other = node.pod()
    with unchanged(node, other):
        answer = node.add(other, source("192.168.12.98/24"), conf=QUICK)
    answer.refused(KERNEL_REFUSED, "'policy' as well", "unknownMacs")
    node.add(other, source("192.168.12.98/24"), conf={**policies.conf, **QUICK}).ok()


def test_network_without_policies_passes_where_unknown_macvlans_do(node: Node, policies: Policies) -> None:
    policies.write(deny(f"{DENIED}/32"))
    policies.settings["unknownMacs"] = "pass"
    node.add(node.pod(), source("192.168.12.99/24"), conf={**policies.conf, **QUICK}).ok()
    node.add(node.pod(), source("192.168.12.98/24"), conf=QUICK).ok()
