"""The documents of egress policies that the configuration names."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...attach.policies import Policies, broken
from ...model.configuration import Configuration
from ...protocol.errors import CniError
from ...sources import policy_directory
from .check import Check
from .finding import Finding, bad, good
from .node import Node


def _documents(node: Node) -> Iterator[Finding]:
    for entry in node.entries:
        try:
            settings = Configuration.of(entry.configuration).policy
        except CniError:  # what is wrong with the entry is found elsewhere
            continue
        if settings is None or settings.source_directory is None:
            continue
        directory = node.below_root(settings.source_directory)
        if not os.path.isdir(directory):
            yield bad("policy-directory", directory, path=directory)
            continue
        reading = policy_directory.read(directory)
        found = Policies(dict(reading.policies), list(reading.problems))
        problems = [*found.problems, *broken(found)]
        for problem in problems:
            yield bad("policy-documents", problem, path=directory)
        if not problems:
            yield good("policy-documents", f"{len(found.by_namespace)} namespaces have one in {directory}")


CHECKS = (Check("egress policy documents", _documents),)
