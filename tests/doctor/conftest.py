"""A node and its file system, for the doctor's tests; the node's LAN is made once a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from lab import Lab, Node
from lab.needed import made_lab

from .patient import Patient


@pytest.fixture
def patient(bin_dir: str) -> Iterator[Patient]:
    # Not tmp_path: a socket's address takes 107 bytes.
    with TemporaryDirectory(prefix="cme-") as directory:
        yield Patient(Path(directory), bin_dir)


@pytest.fixture(scope="module")
def ward(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A LAN on which each test has a node of its own, or leaves the common one as it was."""
    with made_lab(bin_dir, tmp_path_factory) as lab:
        yield lab


@pytest.fixture
def well(ward: Lab) -> Node:
    """The common node; not to be changed."""
    return ward.node


@pytest.fixture
def ill(ward: Lab) -> Iterator[Node]:
    """A node of the test's own."""
    node = ward.another_node("192.168.12.20", "fd00:12::20")
    yield node
    node.remove()
