"""The configuration by which the daemon follows policies: read from the node's own CNI files, as they are now."""

from __future__ import annotations

import glob
import os

from ..model.configuration import Configuration
from .manifests import CONF_DIRECTORY, entries

AUTO = "auto"


class NodeConfiguration:
    """The plugin's entry in the node's CNI configuration, which may come, change and go.

    Args:
        path: a file, or `auto` for the first one of the node's directory that has an entry.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def fingerprint(self) -> str:
        """Changes with the files that are read."""
        return repr([(path, _stamp(path)) for path in self._files()])

    def read(self) -> Configuration | None:
        """The configuration, None if there is none with policies.

        Raises:
            CniError: a file cannot be read, or the entry is wrong.
        """
        for path in self._files():
            if found := entries(path):
                configuration = Configuration.of(found[0].configuration)
                return configuration if configuration.policy is not None else None
        return None

    def _files(self) -> list[str]:
        return sorted(glob.glob(f"{CONF_DIRECTORY}/*.conf*")) if self._path == AUTO else [self._path]


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
