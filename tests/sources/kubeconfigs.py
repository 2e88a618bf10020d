"""Kubeconfigs of the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from api_server import TOKEN
from authority import data


class Kubeconfig:
    """A kubeconfig with one cluster and one user, to be changed and written.

    Attributes:
        cluster, user: their objects.
        document: the whole.
    """

    def __init__(self, directory: Path, server: str, authority: str) -> None:
        self._directory = directory
        self.cluster: dict[str, Any] = {"server": server, "certificate-authority-data": data(authority)}
        self.user: dict[str, Any] = {"token": TOKEN}
        self.document: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "node",
            "contexts": [
                {"name": "other", "context": {"cluster": "elsewhere", "user": "nobody"}},
                {"name": "node", "context": {"cluster": "cluster", "user": "plugin"}},
            ],
            "clusters": [
                {"name": "elsewhere", "cluster": {"server": "https://192.0.2.1:6443"}},
                {"name": "cluster", "cluster": self.cluster},
            ],
            "users": [
                {"name": "nobody", "user": {"token": "another"}},
                {"name": "plugin", "user": self.user},
            ],
        }

    def write(self, text: str | bytes | None = None, name: str = "kubeconfig") -> str:
        """Write the document as JSON, or some text; returns the path."""
        if text is None:
            text = json.dumps(self.document)
        path = self._directory / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return str(path)

    def file(self, name: str, content: str | bytes) -> Path:
        """A file beside it."""
        path = self._directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path
