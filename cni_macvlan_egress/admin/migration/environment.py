"""A container's environment variables as the kubelet would set them, as far as the manifest tells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...protocol.errors import INVALID_CONFIGURATION, CniError
from .manifest import Object, section, sections, strings, word

# $(NAME) is the value of a variable further up; $$ is a dollar sign (Kubernetes, EnvVar).
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")


@dataclass
class Environment:
    """The variables of one container.

    Attributes:
        values: those that are known.
        unknown: the others, with why they are not known.
        config_maps: the ConfigMaps that some of the values come from.
    """

    values: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    config_maps: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """A variable's value without space around it, empty if it is not set.

        Raises:
            CniError: INVALID_CONFIGURATION if it is set to what the manifest does not tell.
        """
        if name in self.unknown:
            raise CniError(INVALID_CONFIGURATION, f"{name}: {self.unknown[name]}")
        return self.values.get(name, "").strip()

    def __contains__(self, name: str) -> bool:
        return name in self.values or name in self.unknown


class ConfigMaps:
    """The ConfigMaps that came with the manifest."""

    def __init__(self, documents: Sequence[Object]) -> None:
        self._found = [one for one in documents if one["kind"] == "ConfigMap"]

    def data(self, name: str, namespace: str) -> dict[str, str] | None:
        """What one of them holds; None if it is not here."""
        for one in self._found:
            metadata = section(one, "metadata")
            own = word(metadata, "namespace")
            # A manifest without namespace is applied to whichever its pods are applied to.
            if word(metadata, "name") == name and (own == namespace or not own or not namespace):
                return strings(one, "data")
        return None


def of(container: Object, config_maps: ConfigMaps, namespace: str) -> Environment:
    """Every variable of a container.

    Raises:
        CniError: DECODING_FAILURE for what is no list of variables.
    """
    found = Environment()
    for origin in sections(container, "envFrom"):
        _add_all(found, origin, config_maps, namespace)
    for variable in sections(container, "env"):
        name = word(variable, "name")
        found.config_maps.pop(name, None)
        value, reason = _value(variable, config_maps, namespace, found)
        found.values.pop(name, None)
        found.unknown.pop(name, None)
        if reason:
            found.unknown[name] = reason
        elif value is not None:
            found.values[name] = value
    return found


def _add_all(found: Environment, origin: Object, config_maps: ConfigMaps, namespace: str) -> None:
    prefix, name = word(origin, "prefix"), word(section(origin, "configMapRef"), "name")
    data = config_maps.data(name, namespace) if name else None
    for key, value in (data or {}).items():
        found.values[prefix + key] = value
        found.config_maps[prefix + key] = name
    if name and data is None:
        _add_unknown(found, prefix, _missing(name))
    if secret := word(section(origin, "secretRef"), "name"):
        _add_unknown(found, prefix, _secret(secret))


def _add_unknown(found: Environment, prefix: str, reason: str) -> None:
    """Any of the router's variables may come from there."""
    for name in ("EGRESS_SOURCE", "EGRESS_GATEWAY", "EGRESS_DESTINATION", "EGRESS_ROUTER_MODE"):
        if name.startswith(prefix):
            found.unknown[name] = reason


def _value(
    variable: Object, config_maps: ConfigMaps, namespace: str, found: Environment
) -> tuple[str | None, str]:
    """Value and, if it cannot be told, why."""
    given: Any = variable.get("value")
    origin = section(variable, "valueFrom")
    if not origin:
        if given is not None and not isinstance(given, str):
            return None, 'a string is expected; put the value into quotes, like "1"'
        return _expanded(given or "", found)
    if reference := section(origin, "configMapKeyRef"):
        name, key = word(reference, "name"), word(reference, "key")
        data = config_maps.data(name, namespace)
        if data is not None and key in data:
            found.config_maps[word(variable, "name")] = name
            return data[key], ""
        if reference.get("optional") is True and data is not None:
            return None, ""
        return None, _missing(name) if data is None else f"there is no key {key!r} in the ConfigMap {name}"
    if reference := section(origin, "secretKeyRef"):
        return None, _secret(word(reference, "name"))
    return (
        None,
        f"its value comes from {', '.join(sorted(origin))}, which only the cluster knows; write it out",
    )


def _expanded(text: str, found: Environment) -> tuple[str | None, str]:
    for name in _REFERENCE.findall(text):
        if name in found.unknown:
            return None, f"it refers to {name}: {found.unknown[name]}"

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return found.values.get(match[1], match[0])

    return _REFERENCE.sub(one, text), ""


def _missing(name: str) -> str:
    return (
        f"its value comes from the ConfigMap {name}, which is not in the input; add it "
        f"(kubectl get configmap {name} -o yaml)"
    )


def _secret(name: str) -> str:
    return f"its value comes from the Secret {name}, which no annotation should show; if it may be seen, write it out"
