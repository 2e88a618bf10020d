"""Renders conf/kubernetes as kustomize does; whatever of kustomize is not used there is an error.

Patches are strategic merges: objects by key, the lists that Kubernetes gives a merge key by that, others as a whole.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
KUBERNETES = Path(__file__).resolve().parents[2] / "conf/kubernetes"
FILE = "kustomization.yaml"
DIRECTIVE = "$patch"
# `patchMergeKey` of Kubernetes' API.
MERGE_KEYS = {
    "containers": "name", "initContainers": "name", "volumes": "name", "volumeMounts": "mountPath", "env": "name",
    "ports": "containerPort",
}  # fmt: skip
_KNOWN = {"apiVersion", "kind", "resources", "components", "patches", "images"}


def render(directory: Path, *components: str) -> list[Object]:
    """The objects of a kustomization, with some more components of conf/kubernetes."""
    objects = _accumulate(directory, [])
    for name in components:
        objects = _accumulate(KUBERNETES / "components" / name, objects)
    return objects


def names(directory: Path) -> set[str]:
    """The files and directories that a kustomization reads, relative to it."""
    kustomization = _read(directory)
    return {
        *kustomization.get("resources", ()),
        *kustomization.get("components", ()),
        *(patch["path"] for patch in kustomization.get("patches", ())),
    }


def find(objects: list[Object], kind: str, name: str = "macvlan-egress") -> Object:
    (found,) = (one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def merge(base: Any, patch: Any, key: str = "") -> Any:
    """The result of a strategic merge patch; `key` says which list it is, if it is one."""
    if isinstance(base, dict) and isinstance(patch, dict):
        merged = dict(base)
        for name, value in patch.items():
            if isinstance(value, dict) and value.get(DIRECTIVE) == "delete":
                merged.pop(name)
            elif value is None:
                merged.pop(name, None)
            else:
                merged[name] = merge(merged[name], value, name) if name in merged else _plain(value)
        return merged
    if isinstance(base, list) and isinstance(patch, list) and key in MERGE_KEYS:
        return _merge_lists(base, patch, MERGE_KEYS[key])
    return _plain(patch)


def _plain(value: Any) -> Any:
    assert DIRECTIVE not in str(value), f"there is nothing to do this to: {value}"
    return copy.deepcopy(value)


def _merge_lists(base: list[Object], patch: list[Object], key: str) -> list[Object]:
    merged = {one[key]: one for one in base}
    added = {}
    for one in patch:
        if one.get(DIRECTIVE) == "delete":
            del merged[one[key]]
        elif one[key] in merged:
            merged[one[key]] = merge(merged[one[key]], one)
        else:
            added[one[key]] = _plain(one)
    return [*added.values(), *merged.values()]


def _read(directory: Path) -> Object:
    kustomization: Object = yaml.safe_load((directory / FILE).read_text())
    assert not kustomization.keys() - _KNOWN, "teach this module that"
    return kustomization


def _accumulate(directory: Path, objects: list[Object]) -> list[Object]:
    kustomization = _read(directory)
    component = kustomization["kind"] == "Component"
    assert kustomization["apiVersion"] == f"kustomize.config.k8s.io/{'v1alpha1' if component else 'v1beta1'}"
    for name in kustomization.get("resources", ()):
        path = directory / name
        assert path.is_dir() or path.resolve().parent == directory.resolve(), f"kustomize refuses {name}"
        objects += _accumulate(path, []) if path.is_dir() else _documents(path)
    for name in kustomization.get("components", ()):
        objects = _accumulate(directory / name, objects)
    for patch in kustomization.get("patches", ()):
        assert patch.keys() == {"path"}, "teach this module that"
        for document in _documents(directory / patch["path"]):
            objects = _patched(objects, document)
    for image in kustomization.get("images", ()):
        for one in objects:
            _set_image(one, image)
    _check_unique(objects)
    return objects


def _documents(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text()))


def _identity(one: Object) -> tuple[str, str, str, str]:
    metadata = one["metadata"]
    return one["apiVersion"], one["kind"], metadata.get("namespace", ""), metadata["name"]


def _patched(objects: list[Object], patch: Object) -> list[Object]:
    (target,) = (one for one in objects if _identity(one) == _identity(patch))
    others = [one for one in objects if one is not target]
    return others if patch.get(DIRECTIVE) == "delete" else [*others, merge(target, patch)]


def _set_image(one: Any, image: Object) -> None:
    if isinstance(one, dict):
        if str(one.get("image")).partition(":")[0] == image["name"]:
            one["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
        for value in one.values():
            _set_image(value, image)
    elif isinstance(one, list):
        for value in one:
            _set_image(value, image)


def _check_unique(objects: list[Object]) -> None:
    identities = [_identity(one) for one in objects]
    assert len(identities) == len(set(identities)), f"an object is there twice: {sorted(identities)}"
