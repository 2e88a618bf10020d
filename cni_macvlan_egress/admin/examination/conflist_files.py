"""The files of a CNI configuration directory as runtimes read them (libcni conf.go, go-cni opts.go, ocicni)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...protocol.errors import CniError
from ...sources import conflists
from ..launcher import NAME

MULTUS = ("multus", "multus-shim")


@dataclass(frozen=True, slots=True)
class ConflistFile:
    """One file.

    Attributes:
        problem: why it cannot be used; empty if it can.
        document: what it holds; empty if that is no JSON object.
    """

    path: str
    problem: str = ""
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def plugins(self) -> list[dict[str, Any]]:
        """Its chain; a lone plugin is a chain of one."""
        if self.problem:
            return []
        plugins: list[dict[str, Any]] = self.document.get("plugins", [self.document])
        return plugins

    @property
    def types(self) -> list[str]:
        """The executables of its chain."""
        return [str(one.get("type", "")) for one in self.plugins]

    @property
    def is_multus(self) -> bool:
        """Whether it hands everything on to networks that are defined elsewhere."""
        return self.types[:1] != [] and self.types[0] in MULTUS

    def entries(self) -> Iterator[Entry]:
        """Our objects in it, also in networks that it delegates to."""
        chains = [self.plugins]
        for plugin in self.plugins:
            delegates = plugin.get("delegates")
            for one in delegates if isinstance(delegates, list) else []:
                chain = one.get("plugins", [one]) if isinstance(one, dict) else []
                if isinstance(chain, list):
                    chains.append([item for item in chain if isinstance(item, dict)])
        for chain in chains:
            for position, plugin in enumerate(chain):
                if plugin.get("type") == NAME:
                    yield Entry(self, plugin, position, [str(one.get("type", "")) for one in chain])


@dataclass(frozen=True, slots=True)
class Entry:
    """Our object in a chain.

    Attributes:
        position: its place, from 0.
        chain: the types of all plugins.
    """

    file: ConflistFile
    configuration: dict[str, Any]
    position: int
    chain: list[str]

    @property
    def chained(self) -> bool:
        """Whether it comes after another plugin; else it is the network itself."""
        return self.position > 0

    @property
    def asks_others(self) -> bool:
        """Whether somebody else than the runtime is asked for annotations: the API server, or a directory."""
        sources = self.configuration.get("annotations")
        named = sources if isinstance(sources, list) else []
        return bool(self.configuration.get("kubeconfig")) or any(str(one).startswith("/") for one in named)

    def path(self, key: str, default: str) -> str:
        """A path that it sets, if it is one at all."""
        value = self.configuration.get(key)
        usable = isinstance(value, str) and value.startswith("/") and "\0" not in value
        return str(value) if usable else default


def read_directory(directory: str) -> list[ConflistFile]:
    """Every file that a runtime would look at, in the order in which it does.

    Raises:
        CniError: IO_FAILURE if the directory cannot be read.
    """
    return [_read(directory, name) for name in conflists.names(directory)]


def _read(directory: str, name: str) -> ConflistFile:
    path = os.path.join(directory, name)
    try:
        found = conflists.read(directory, name)
    except CniError as error:
        return ConflistFile(path, error.msg)
    if found is None:
        return ConflistFile(path, "leads nowhere")
    try:
        document = json.loads(found.text)
    except ValueError as error:
        return ConflistFile(path, f"not JSON: {error}")
    except RecursionError:
        return ConflistFile(path, "JSON nested too deeply")
    if not isinstance(document, dict):
        return ConflistFile(path, "not a JSON object")
    return ConflistFile(path, _misshapen(path, document), document)


def _misshapen(path: str, document: dict[str, Any]) -> str:
    if not path.endswith(".conflist"):
        if document.get("type"):
            return ""
        return 'no "type"' + ("; a list of plugins belongs into a .conflist" if "plugins" in document else "")
    plugins = document.get("plugins")
    if not isinstance(plugins, list) or not plugins:
        return 'no "plugins"'
    if not all(isinstance(one, dict) and one.get("type") for one in plugins):
        return 'a plugin without "type"'
    return ""
