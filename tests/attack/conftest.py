"""The scene that every attack is played in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from lab.needed import made_lab

from .scene import Scene


@pytest.fixture(scope="module")
def scene(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with (
        made_lab(bin_dir, tmp_path_factory) as lab,
        closing(Scene(lab)) as scene,
    ):
        yield scene
