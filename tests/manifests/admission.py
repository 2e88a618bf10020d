"""Decides as the API server does by a ValidatingAdmissionPolicy, its expressions evaluated for real."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cel

from .kustomize import Object


@dataclass(frozen=True)
class Request:
    """A request that is admitted or refused.

    Attributes:
        resource: with its subresource, such as pods/status.
        former: the object before an update.
        namespace: the object of its namespace.
    """

    operation: str
    resource: str
    object: Object
    former: Object | None = None
    namespace: Object = field(default_factory=lambda: {"metadata": {"name": "shop"}})


class AdmissionPolicy:
    """A policy of the manifests."""

    def __init__(self, policy: Object) -> None:
        self._spec: Object = policy["spec"]
        assert self._spec["failurePolicy"] == "Fail"

    def concerns(self, request: Request) -> bool:
        """Whether the policy is asked at all."""
        return any(
            request.operation in rule["operations"] and request.resource in rule["resources"]
            for rule in self._spec["matchConstraints"]["resourceRules"]
        )

    def refusals(self, request: Request) -> list[str]:
        """The messages of the validations that fail; an expression that cannot be evaluated fails."""
        if not self.concerns(request):
            return []
        known: dict[str, Any] = {
            "object": request.object,
            "oldObject": request.former,
            "namespaceObject": request.namespace,
            "request": {"operation": request.operation},
        }
        variables: dict[str, Any] = {}
        for variable in self._spec["variables"]:
            variables[variable["name"]] = cel.evaluate(
                variable["expression"], {**known, "variables": variables}
            )
        return [
            one["message"]
            for one in self._spec["validations"]
            if cel.evaluate(one["expression"], {**known, "variables": variables}) is not True
        ]
