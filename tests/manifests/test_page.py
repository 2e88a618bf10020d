"""docs/kubernetes.md says what the manifests do, and its example works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from cni_macvlan_egress.model.configuration import Configuration

from .kustomize import FILE, KUBERNETES, find, render

REPOSITORY = KUBERNETES.parents[1]
PAGE = (REPOSITORY / "docs/kubernetes.md").read_text()


def test_example_is_a_kustomization(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "cni-macvlan-egress").symlink_to(REPOSITORY)
    kustomization, entry = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (own / FILE).write_text(kustomization)
    (own / "entry.yaml").write_text(entry)
    objects = render(own)
    assert find(objects, "PodMonitor")
    assert Configuration.of(json.loads(find(objects, "ConfigMap")["data"]["entry.json"])).allow
    (image,) = yaml.safe_load(kustomization)["images"]
    for container in find(objects, "DaemonSet")["spec"]["template"]["spec"]["containers"]:
        assert container["image"] == f"{image['newName']}:{image['newTag']}"


def test_every_part_has_its_row() -> None:
    rows = set(re.findall(r"^\| `([a-z0-9/]+)` \|", PAGE, re.MULTILINE))
    parts = {str(path.parent.relative_to(KUBERNETES)) for path in KUBERNETES.rglob(FILE)}
    assert parts <= rows


def test_privileges_are_the_manifests() -> None:
    pod = find(render(KUBERNETES / "base"), "DaemonSet")["spec"]["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        (row,) = re.findall(rf"^\| `{container['name']}`.*$", PAGE, re.MULTILINE)
        _, _, _, capabilities, places, _ = row.split("|")
        assert sorted(capabilities.strip().split(", ")) == sorted(
            container["securityContext"]["capabilities"]["add"]
        )
        writable = {
            one["mountPath"]
            for one in container["volumeMounts"]
            if not one.get("readOnly") and "mountPropagation" not in one
        }
        assert set(re.findall("`([^`]+)`", places)) == writable
