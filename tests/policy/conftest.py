"""A node that reads policies from a directory."""

from __future__ import annotations

import pytest
from lab import Node

from .documents import Policies


@pytest.fixture
def policies(node: Node) -> Policies:
    return Policies(node)
