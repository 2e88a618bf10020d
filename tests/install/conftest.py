"""Fixtures of the installer's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .installing import Directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A node's directories; commands run in the test's own process."""
    return Directory(tmp_path)


@pytest.fixture
def node_directory(tmp_path: Path, bin_dir: str) -> Directory:
    """The same with an executable, for commands that run as processes."""
    return Directory(tmp_path, bin_dir)
