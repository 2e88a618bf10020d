"""The container runtime, and whether it will do for the plugin."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from .check import Check
from .finding import Finding, bad, good
from .node import Node


def _presence(node: Node) -> Iterator[Finding]:
    if not node.runtimes:
        yield bad("runtime", f"no configuration, socket or executable of either below {node.places.root}")
    for runtime in node.runtimes:
        where = f"configuration {runtime.configuration or 'at its defaults'}"
        yield good("runtime", f"{runtime.name}: {runtime.version_evidence}; {where}")
        for path, reason in runtime.problems:
            yield bad("runtime-configuration", f"{path}: {reason}", path=path)
        if not runtime.cri:
            evidence = f"disabled_plugins in {runtime.configuration}"
            yield bad("runtime-cri", evidence, path=runtime.configuration)
        if runtime.socket_errno == errno.EACCES and not node.is_root:
            raise PermissionError(errno.EACCES, runtime.socket_problem)
        if runtime.socket_problem:
            yield bad("runtime-socket", runtime.socket_problem, runtime=runtime.name)
        else:
            yield good("runtime-socket", f"{runtime.name} listens")


def _annotations(node: Node) -> Iterator[Finding]:
    runtime = node.runtime
    if runtime is None:
        return
    least = ".".join(map(str, runtime.layout.passes_since))
    if runtime.passes_annotations is None:
        yield bad("runtime-version", runtime.version_evidence, runtime=runtime.name)
    elif runtime.passes_annotations:
        yield good("runtime-annotations", f"{runtime.name} passes them since {least}")
    elif node.entry is None or not node.entry.asks_others:
        yield bad(
            "runtime-annotations", f"{runtime.version_evidence}; {runtime.name} passes them since {least}"
        )
    else:
        yield good("runtime-annotations", f"{runtime.name} passes none, and the entry has another source")


def _directories(node: Node) -> Iterator[Finding]:
    runtime = node.runtime
    if runtime is None:
        return
    its_conf, its_bin = node.runtime_directories
    if (node.cni_dir, node.bin_dir) == (its_conf, its_bin):
        yield good("runtime-directories", f"{its_conf}, {its_bin}")
        return
    evidence = f"{runtime.name} uses {its_conf} and {its_bin}; examined are {node.cni_dir} and {node.bin_dir}"
    yield bad("runtime-directories", evidence, cni_dir=its_conf, bin_dir=its_bin)


CHECKS = (
    Check("the container runtime", _presence),
    Check("whether the runtime passes annotations", _annotations),
    Check("the runtime's directories", _directories),
)
