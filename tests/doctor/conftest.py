"""A node and its file system, for the doctor's tests; the node's LAN is made once a module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conftest import DEBIAN_PLUGINS
from lab import Lab, Node

from .patient import Patient


@pytest.fixture
def patient(bin_dir: str) -> Iterator[Patient]:
    # Not tmp_path: a socket's address takes 107 bytes.
    with TemporaryDirectory(prefix="cme-") as directory:
        yield Patient(Path(directory), bin_dir)


@pytest.fixture(scope="module")
def ward(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A LAN on which each test has a node of its own, or leaves the common one as it was."""
    if os.geteuid() != 0:
        pytest.skip("needs root: the lab is made of network namespaces")
    if not DEBIAN_PLUGINS.is_dir():
        pytest.skip(f"needs the package containernetworking-plugins: {DEBIAN_PLUGINS} is missing")
    with closing(Lab(bin_dir, lambda name: str(tmp_path_factory.mktemp(name)))) as lab:
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
