"""The CNI configuration directory: which file the runtime takes, and whether our entry in it can be used."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...model.configuration import Configuration
from ...model.keys import POD_ANNOTATIONS_CAPABILITY
from ...protocol import environment, versions
from ...protocol.errors import CniError
from .check import Check
from .conflist_files import Entry
from .executables import writable_by_others
from .finding import Finding, bad, good, listed
from .kind import Severity
from .node import Node

# Main plugins of which the CHECK looks for every address of the result on its own interface.
_JEALOUS = ("bridge", "ptp", "ipvlan", "macvlan", "host-device", "vlan")
_MAIN = (
    *_JEALOUS, "calico", "cilium-cni", "flannel", "kindnet", "weave-net", "ovn-k8s-cni-overlay", "openshift-sdn",
    "antrea", "aws-cni", "azure-vnet", "kube-router", "loopback",
)  # fmt: skip


def _files(node: Node) -> Iterator[Finding]:
    try:
        os.listdir(node.cni_dir)
    except OSError as error:
        yield bad("cni-dir", f"{node.cni_dir}: {error.strerror}", path=node.cni_dir)
        return
    node.require_readable_files()
    if not node.files:
        yield bad("conflist-none", f"no .conf, .conflist or .json in {node.cni_dir}", path=node.cni_dir)
        return
    yield good("cni-dir", f"{node.cni_dir} has {listed(os.path.basename(one.path) for one in node.files)}")
    used = node.used
    for file in node.files:
        if file.problem:
            severity: Severity | None = "error" if file is used else None
            yield bad("conflist-invalid", f"{file.path}: {file.problem}", severity=severity, path=file.path)
            continue
        yield from writable_by_others("conflist-writable", file.path, os.stat(file.path))
    if used is not None and not used.problem:
        yield good("conflist-invalid", f"the runtime takes {used.path}: {' → '.join(used.types)}")
        if used.is_multus:
            yield bad("multus", f"{used.path} is Multus' own", path=used.path)


def _place(node: Node) -> Iterator[Finding]:
    node.require_readable_files()
    if not node.files:
        return
    if not node.entries:
        yield bad("entry", f"none of {listed(one.path for one in node.files)}")
        return
    used, file = node.used, node.entries[0].file
    if used is not None and file is not used and not used.is_multus:
        yield bad(
            "entry-shadowed", f"it is in {file.path}, and the runtime takes {used.path}", first=used.path
        )
    else:
        yield good("entry", f"it is in {file.path}")
    names = [one.configuration.get("ifName") for one in node.entries if one.chained]
    if len(names) != len(set(map(str, names))):
        yield bad("entry-twice", f"{file.path}: {' → '.join(node.entries[0].chain)}", path=file.path)
    for entry in node.entries:
        behind = [one for one in entry.chain[entry.position + 1 :] if one in _MAIN]
        if behind or (not entry.chained and len(entry.chain) > 1):
            main = (behind or entry.chain[1:])[-1]
            yield bad("entry-order", f"{file.path}: {' → '.join(entry.chain)}", plugin=main, path=file.path)


def _frame(node: Node) -> Iterator[Finding]:
    """What belongs to the conflist as a whole."""
    entry = node.entry
    if entry is None:
        return
    document, path = entry.file.document, entry.file.path
    try:
        version = versions.check(document.get("cniVersion"), "ADD")
        yield good("conflist-version", f"{path} is of version {version}")
    except CniError as error:
        yield bad("conflist-version", f"{path}: {error.msg}", path=path)
    name = document.get("name")
    if not isinstance(name, str) or not environment.is_identifier(name):
        yield bad("conflist-name", f'{path}: "name" is {name!r}', path=path)
    main = entry.chain[0]
    if entry.chained and main in _JEALOUS and document.get("disableCheck") is not True:
        severity: Severity | None = "warning" if node.runtime and node.runtime.name == "crio" else None
        evidence = f"{path}: {main} looks for all addresses on its own interface"
        yield bad("entry-check", evidence, severity=severity, path=path)


def _entry(node: Node) -> Iterator[Finding]:
    for entry in node.entries:
        given, path = entry.configuration, entry.file.path
        yield from _networks(entry)
        try:
            Configuration.of({**given, "clusterNetworks": given.get("clusterNetworks") or ["192.0.2.0/32"]})
        except CniError as error:
            yield bad("entry-keys", f"{path}: {error.msg}", path=path)
        else:
            yield good("entry-keys", "every key is known, and has a value that can be")
        if not entry.chained:
            continue
        if given.get("allow"):
            yield good("entry-allow", f"{len(given['allow'])} grants")
        else:
            yield bad("entry-allow", f'{path}: "allow" is {given.get("allow")!r}', path=path)
        capabilities = given.get("capabilities")
        declared = isinstance(capabilities, dict) and capabilities.get(POD_ANNOTATIONS_CAPABILITY) is True
        if declared or entry.asks_others:
            yield good(
                "entry-annotations", "the runtime passes them" if declared else "another source has them"
            )
        else:
            yield bad("entry-annotations", f'{path}: "capabilities" is {capabilities!r}', path=path)


def _networks(entry: Entry) -> Iterator[Finding]:
    given, path = entry.configuration, entry.file.path
    if given.get("clusterNetworks"):
        return
    if given.get("policy") is not None:
        yield bad("entry-cluster-networks", f'{path}: "policy" is set', severity="error", path=path)
    elif given.get("routes") == "default" and entry.chained:
        yield bad("entry-cluster-networks", f'{path}: "routes" is "default"', path=path)


def _sources(node: Node) -> Iterator[Finding]:
    """What the entry names outside of itself."""
    for entry in node.entries:
        kubeconfig = entry.path("kubeconfig", "")
        if kubeconfig:
            path = node.below_root(kubeconfig)
            if os.path.isfile(path) and os.access(path, os.R_OK):
                yield good("entry-kubeconfig", f"{path} can be read")
            else:
                yield bad("entry-kubeconfig", f"{path} is no file that can be read", path=path)


CHECKS = (
    Check("the CNI configuration files", _files),
    Check("the entry's place", _place),
    Check("the entry's conflist", _frame),
    Check("the entry's keys", _entry),
    Check("the entry's sources", _sources),
)
