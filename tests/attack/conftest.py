"""The scene that every attack is played in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from conftest import DEBIAN_PLUGINS
from lab import Lab

from .scene import Scene


@pytest.fixture(scope="module")
def scene(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if os.geteuid() != 0:
        pytest.skip("needs root: the lab is made of network namespaces")
    if not DEBIAN_PLUGINS.is_dir():
        pytest.skip(f"needs the package containernetworking-plugins: {DEBIAN_PLUGINS} is missing")
    with (
        closing(Lab(bin_dir, lambda name: str(tmp_path_factory.mktemp(name)))) as lab,
        closing(Scene(lab)) as scene,
    ):
        yield scene
