"""One attachment as a runtime would ask for it: the environment and the configuration on stdin."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

POD_ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
ASSIGN = "pod.network.openshift.io/assign-macvlan"


@dataclass(frozen=True)
class Request:
    """Environment and stdin of one attachment; the verb is chosen when it is sent.

    Attributes:
        environment: the CNI_… variables, without CNI_COMMAND and CNI_PATH.
        document: the object on stdin.
    """

    environment: dict[str, str] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def stdin(self) -> str:
        return json.dumps(self.document)

    def but(self, environment: dict[str, str] | None = None, **keys: Any) -> Request:
        """The same with some keys of the configuration changed; None takes a key or variable away."""
        return replace(
            self,
            environment=_merged(self.environment, environment or {}),
            document=_merged(self.document, keys),
        )

    def annotated(self, annotations: dict[str, str] | None) -> Request:
        runtime = {**self.document.get("runtimeConfig", {}), POD_ANNOTATIONS: annotations}
        return self.but(runtimeConfig=runtime)


def source(address: str, gateway: str = "192.168.12.1", **others: str) -> dict[str, str]:
    """The annotations of a pod that asks for an address; other words become macvlan-egress/WORD."""
    given = {"source": address, "gateway": gateway, **others}
    return {ASSIGN: "true", **{f"macvlan-egress/{word}": value for word, value in given.items() if value}}


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**old, **new}.items() if value is not None}
