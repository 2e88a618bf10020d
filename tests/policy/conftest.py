"""A node that reads policies from a directory."""

from __future__ import annotations

import pytest
from lab import Node
from lab.needed import has_egress_hook

from .documents import Policies


@pytest.fixture
def policies(node: Node) -> Policies:
    if not has_egress_hook():
        pytest.skip("needs an nftables hook at egress (Linux 5.16)")
    return Policies(node)
