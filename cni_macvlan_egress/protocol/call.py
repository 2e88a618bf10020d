"""One CNI call: environment and stdin together, checked as far as every verb needs it."""

from __future__ import annotations

from . import environment, versions
from .errors import DECODING_FAILURE, INVALID_CONFIGURATION, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .environment import Environment
    from .wire import Document


class Call:
    """A request as the runtime made it.

    Attributes:
        environment: the CNI_… variables.
        document: stdin.
        version: the CNI version asked for.
        network: the network's name.
        previous: prevResult, None where the plugin is the first or only one of its chain.
        fetched: the annotations that the API server has for the pod, once it has been asked.
    """

    __slots__ = ("document", "environment", "fetched", "network", "previous", "version")

    def __init__(self, env: Environment, document: Document) -> None:
        self.environment = env
        self.document = document
        self.version = versions.check(document.values.get("cniVersion"), env.command)
        name = document.values.get("name")
        if not isinstance(name, str) or not environment.is_identifier(name):
            shown = "missing" if name in (None, "") else f"{name!r}"[:80]
            raise CniError(
                INVALID_CONFIGURATION,
                f"network name: {shown}; it starts with a letter or digit and has only letters, digits, "
                "'_', '.' and '-'",
            )
        self.network = name
        self.previous = self._object("prevResult")
        self.fetched: Mapping[str, Any] | None = None

    @property
    def configuration(self) -> dict[str, Any]:
        """The plugin's object of the conflist, as libcni completed it."""
        return self.document.values

    @property
    def chained(self) -> bool:
        """Whether another plugin came before this one."""
        return self.previous is not None

    @property
    def runtime_config(self) -> dict[str, Any]:
        """The values of the declared capabilities."""
        return self._object("runtimeConfig") or {}

    def _object(self, key: str) -> dict[str, Any] | None:
        value = self.document.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise CniError(DECODING_FAILURE, f"{key} is not a JSON object")
        return value
