"""Fixtures of the integration tests: the executable as an installation makes it, and a lab to run it in."""

from __future__ import annotations

import compileall
from collections.abc import Iterator

import pytest
from lab import Lab, Lan, Namespace, Node
from lab.needed import REPOSITORY, made_bin_dir, made_lab


@pytest.fixture(scope="session")
def bin_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CNI bin directory: our executable beside Debian's plugins."""
    # The launcher runs without writing byte code; without any, the tests would time the compiler.
    compileall.compile_dir(REPOSITORY / "cni_macvlan_egress", quiet=2)
    return made_bin_dir(tmp_path_factory.mktemp("bin"))


@pytest.fixture
def lab(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A node, a LAN with a router, and a host behind the router."""
    with made_lab(bin_dir, tmp_path_factory) as lab:
        yield lab


@pytest.fixture
def node(lab: Lab) -> Node:
    return lab.node


@pytest.fixture
def lan(lab: Lab) -> Lan:
    return lab.lan


@pytest.fixture
def outside(lab: Lab) -> Namespace:
    return lab.outside
