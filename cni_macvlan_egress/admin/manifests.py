"""Pods in Kubernetes manifests, and our entry in CNI configuration files, as the admin commands read them."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..protocol import environment, versions
from ..protocol.errors import DECODING_FAILURE, INVALID_CONFIGURATION, IO_FAILURE, CniError
from .launcher import NAME

CONF_DIRECTORY = "/etc/cni/net.d"


@dataclass(frozen=True, slots=True)
class PodManifest:
    """A pod, or the template of one.

    Attributes:
        title: kind and name, as an admin would say them.
    """

    title: str
    namespace: str
    name: str
    annotations: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """Our object in a conflist.

    Attributes:
        position: its place among the plugins, from 0; the first one is standalone.
        configuration: completed with the conflist's name and version, as libcni does.
    """

    position: int
    length: int
    configuration: dict[str, Any]


def pods(path: str) -> list[PodManifest]:
    """Every pod, or template of pods, in a file of YAML or JSON documents.

    Raises:
        CniError: IO_FAILURE, DECODING_FAILURE.
    """
    return [found for document in _documents(path) for found in _pods_in(document)]


def entries(path: str) -> list[Entry]:
    """Our entries in a .conflist, or the one in a .conf.

    Raises:
        CniError: IO_FAILURE, DECODING_FAILURE, INVALID_CONFIGURATION.
    """
    return _entries_in(_read(path))


def node_entry(path: str | None) -> Entry:
    """Our entry in a file, or in the first file of the node's CNI directory that has one.

    Raises:
        CniError: as entries(); INVALID_CONFIGURATION if there is none.
    """
    for one in [path] if path else sorted(glob.glob(f"{CONF_DIRECTORY}/*.conf*")):
        if found := entries(one):
            return found[0]
    raise CniError(
        INVALID_CONFIGURATION,
        f"no plugin of type {NAME!r} in {path or CONF_DIRECTORY}; name a file with --conflist",
    )


def networks(path: str) -> list[tuple[str, list[Entry]]]:
    """Title and our entries of every NetworkAttachmentDefinition in a manifest.

    Raises:
        CniError: IO_FAILURE, DECODING_FAILURE, INVALID_CONFIGURATION.
    """
    found = []
    for document in _documents(path):
        if isinstance(document, dict) and document.get("kind") == "NetworkAttachmentDefinition":
            title = f"NetworkAttachmentDefinition {_object(document, 'metadata').get('name', '?')}"
            found.append((title, _entries_in(str(_object(document, "spec").get("config", "")))))
    return found


def _entries_in(text: str) -> list[Entry]:
    try:
        conflist = json.loads(text)
    except ValueError as error:
        raise CniError(DECODING_FAILURE, f"not JSON: {error}") from None
    if not isinstance(conflist, dict):
        raise CniError(DECODING_FAILURE, "not a JSON object")
    versions.check(conflist.get("cniVersion"), "ADD")
    if not environment.is_identifier(str(conflist.get("name", ""))):
        raise CniError(
            INVALID_CONFIGURATION, f"network name {conflist.get('name')!r} is missing or malformed"
        )
    plugins = conflist.get("plugins", [conflist])
    if not isinstance(plugins, list) or not all(isinstance(plugin, dict) for plugin in plugins):
        raise CniError(INVALID_CONFIGURATION, "plugins: a list of objects is expected")
    given = {key: conflist[key] for key in ("cniVersion", "name") if key in conflist}
    return [
        Entry(position, len(plugins), {**plugin, **given})
        for position, plugin in enumerate(plugins)
        if plugin.get("type") == NAME
    ]


def _documents(path: str) -> list[Any]:
    import yaml

    try:
        return list(yaml.safe_load_all(_read(path)))
    except yaml.YAMLError as error:
        raise CniError(DECODING_FAILURE, f"not YAML: {' '.join(str(error).split())}") from None


def _pods_in(document: Any) -> Iterator[PodManifest]:  # noqa: ANN401
    if not isinstance(document, dict):
        return
    if document.get("kind") == "List":
        for item in document.get("items") or []:
            yield from _pods_in(item)
        return
    pod = document if document.get("kind") == "Pod" else _template(document)
    if pod is None:
        return
    outer, inner = _object(document, "metadata"), _object(pod, "metadata")
    title = f"{document.get('kind')} {outer.get('name', '?')}"
    annotations = inner.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise CniError(DECODING_FAILURE, f"{title}: metadata.annotations is not an object")
    namespace = outer.get("namespace") or "default"
    yield PodManifest(title, str(namespace), str(outer.get("name", "")), annotations)


def _template(document: dict[str, Any]) -> dict[str, Any] | None:
    spec = document.get("spec")
    for key in ("jobTemplate", "template"):
        if isinstance(spec, dict) and isinstance(spec.get(key), dict):
            if key == "jobTemplate":
                return _template(spec[key])
            template: dict[str, Any] = spec[key]
            return template
    return None


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise CniError(IO_FAILURE, f"cannot read it: {error}") from None
