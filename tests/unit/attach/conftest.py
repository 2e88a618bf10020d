"""Fixtures of the delegation to an IPAM plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from .plugin import Plugin


@pytest.fixture
def bin_dir(tmp_path: Path) -> str:
    (tmp_path / "pool").write_text("#!/bin/false\n")
    (tmp_path / "pool").chmod(0o755)
    return str(tmp_path)


@pytest.fixture
def plugin(mocker: MockerFixture, bin_dir: str) -> Plugin:
    return Plugin(mocker, bin_dir)
