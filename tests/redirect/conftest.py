"""The parties of a redirect: a client in the cluster, the egress pod, the server outside."""

from __future__ import annotations

import pytest
from lab import Namespace, Node, Pod

# More addresses of the server behind the router.
MORE_OUTSIDE = (
    *(f"203.0.113.{number}" for number in (26, 27, 28)),
    *(f"2001:db8:113::{number}" for number in (26, 27, 28)),
)


@pytest.fixture
def pod(node: Node) -> Pod:
    """The pod that becomes the egress pod."""
    return node.pod()


@pytest.fixture
def client(node: Node) -> Pod:
    """A pod of the same node that uses it."""
    return node.pod()


@pytest.fixture
def outside(outside: Namespace) -> Namespace:
    """The server, with several addresses of each family."""
    outside.ip(
        *(f"address add {address}/{64 if ':' in address else 24} dev eth0" for address in MORE_OUTSIDE)
    )
    return outside
