"""`macvlan-egress validate`: what a conflist or a pod manifest would be told by an ADD."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from ..model.annotations import PodAnnotations
from ..model.configuration import Configuration
from ..model.keys import POD_ANNOTATIONS_CAPABILITY
from ..protocol import environment, versions
from ..protocol.errors import DECODING_FAILURE, INVALID_CONFIGURATION, IO_FAILURE, CniError
from .launcher import NAME


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("conflist", nargs="*", help="CNI configuration files (.conflist, .conf, .json)")
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        default=[],
        metavar="MANIFEST",
        help="Kubernetes manifests (YAML or JSON)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check every file; 1 if anything is wrong."""
    if not arguments.conflist and not arguments.filename:
        sys.stderr.write("macvlan-egress validate: name a conflist, or a manifest with -f\n")
        return 2
    sound = True
    for path in arguments.conflist:
        sound &= _report(path, _conflist_findings(path))
    for path in arguments.filename:
        sound &= _report(path, _manifest_findings(path))
    return 0 if sound else 1


def _report(path: str, findings: Iterator[tuple[bool, str]]) -> bool:
    sound = True
    try:
        for good, text in findings:
            sound &= good
            print(f"{path}: {'ok' if good else 'error'}: {text}")
    except CniError as error:
        print(f"{path}: error: {error}")
        return False
    return sound


def _conflist_findings(path: str) -> Iterator[tuple[bool, str]]:
    try:
        conflist = json.loads(_read(path))
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
    ours = [(position, plugin) for position, plugin in enumerate(plugins) if plugin.get("type") == NAME]
    if not ours:
        yield False, f"no plugin of type {NAME!r} in it"
    for position, plugin in ours:
        Configuration.of(plugin)
        place = "chained" if position else "standalone"
        yield True, f"{place} entry {position + 1} of {len(plugins)}"
        if position and not (plugin.get("capabilities") or {}).get(POD_ANNOTATIONS_CAPABILITY):
            annotations = plugin.get("annotations", ["runtime", "kubernetes"])
            asked_otherwise = plugin.get("kubeconfig") or any(str(one).startswith("/") for one in annotations)
            yield (
                bool(asked_otherwise),
                f"the capability {POD_ANNOTATIONS_CAPABILITY} is not declared: the runtime will not pass annotations",
            )
        if position and not plugin.get("allow"):
            yield False, "there is no 'allow': no pod may use the plugin by annotation"


def _manifest_findings(path: str) -> Iterator[tuple[bool, str]]:
    import yaml

    try:
        documents = list(yaml.safe_load_all(_read(path)))
    except yaml.YAMLError as error:
        raise CniError(DECODING_FAILURE, f"not YAML: {' '.join(str(error).split())}") from None
    pods = [found for document in documents for found in pods_in(document)]
    if not pods:
        yield False, "no pod, and nothing that makes pods, in it"
    for name, given in pods:
        try:
            wanted = PodAnnotations.of(given)
        except CniError as error:
            yield False, f"{name}: {error}"
            continue
        if not wanted.attach:
            yield True, f"{name}: asks for nothing, would pass through"
        else:
            sources = ", ".join(map(str, wanted.sources)) or "a bare interface"
            yield True, f"{name}: asks for {sources}"


def pods_in(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401
    """Name and annotations of every pod or pod template in a manifest.

    Raises:
        CniError: DECODING_FAILURE for annotations that are no object.
    """
    if not isinstance(document, dict):
        return
    if document.get("kind") == "List":
        for item in document.get("items") or []:
            yield from pods_in(item)
        return
    metadata = document.get("metadata")
    name = f"{document.get('kind')} {metadata.get('name', '?') if isinstance(metadata, dict) else '?'}"
    pod = document if document.get("kind") == "Pod" else _template(document)
    if pod is None:
        return
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    if not isinstance(annotations, dict):
        raise CniError(DECODING_FAILURE, f"{name}: metadata.annotations is not an object")
    yield name, annotations


def _template(document: dict[str, Any]) -> dict[str, Any] | None:
    spec = document.get("spec")
    for key in ("jobTemplate", "template"):
        if isinstance(spec, dict) and isinstance(spec.get(key), dict):
            if key == "jobTemplate":
                return _template(spec[key])
            template: dict[str, Any] = spec[key]
            return template
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise CniError(IO_FAILURE, f"cannot read it: {error}") from None
