"""What pods that are gone, killed calls and unreadable files have left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from ...model.keys import DEFAULT_IFNAME
from .check import Check
from .finding import Finding, bad, good, listed
from .node import Node

# A call that is going on is no leftover.
_PATIENCE_SECONDS = 120.0


def _records(node: Node) -> Iterator[Finding]:
    found, unreadable = node.attachments
    by_state: dict[str, list[str]] = {}
    for one in found:
        path = f"{node.state_dir}/attachments/{one.record.container_id}@{one.record.ifname}.json"
        who = one.record.pod or one.record.container_id[:12]
        if one.state == "interrupted" and not _is_old(path):
            continue
        by_state.setdefault(one.state, []).append(path)
        if one.state == "interrupted":
            yield bad("records-interrupted", f"pod {who}: {path}")
        elif one.state in ("drifted", "unknown"):
            yield bad("attachments-drifted", f"pod {who}: {listed(one.differences)}")
    if gone := by_state.get("gone"):
        yield bad("records-dead", f"{len(gone)}: {listed(map(os.path.basename, gone))}", paths=gone)
    if unreadable:
        yield bad("records-unreadable", listed(unreadable), paths=unreadable)
    if sound := by_state.get("attached"):
        yield good("attachments-drifted", f"{len(sound)} attachments are as ADD left them")


def _aside(node: Node) -> Iterator[Finding]:
    directory = f"{node.state_dir}/unreadable"
    if paths := [f"{directory}/{name}" for name in _names(directory)]:
        yield bad("records-aside", listed(paths), paths=paths)


def _claims(node: Node) -> Iterator[Finding]:
    directory = f"{node.state_dir}/addresses"
    paths = [f"{directory}/{name}" for name in _names(directory)]
    orphans = [path for path in paths if not os.path.exists(path)]
    if orphans:
        yield bad("claims-orphaned", listed(map(os.path.basename, orphans)), paths=orphans)
    elif paths:
        yield good("claims-orphaned", f"{len(paths)} addresses are held, each by an attachment with a record")


def _temporary(node: Node) -> Iterator[Finding]:
    directories = (f"{node.state_dir}/attachments", node.run_dir, f"{node.run_dir}/policy")
    paths = [
        path
        for directory in directories
        for name in _names(directory)
        if name.startswith(".") and name.endswith(".tmp") and _is_old(path := f"{directory}/{name}")
    ]
    if paths:
        yield bad("temporary-files", listed(paths), paths=paths)


def _macvlans(node: Node) -> Iterator[Finding]:
    plans = [one.record.plan for one in node.attachments[0] if one.record.plan is not None]
    macs = {plan.link.mac for plan in plans if plan.link.mode != "passthru"}
    names = {DEFAULT_IFNAME, *(entry.configuration.get("ifName") for entry in node.entries)}
    for link in node.facts.links:
        if link.kind != "macvlan":
            continue
        pods = link.name in names or link.mac in macs
        whose = "has a pod's name or MAC address" if pods else "may be the admin's own"
        evidence = f"{link.name} (mode {link.mode}, MAC {link.mac}) {whose}"
        yield bad("macvlans-on-node", evidence, severity="warning" if pods else None, link=link.name)


CHECKS = (
    Check("records of attachments", _records, needs_root=True),
    Check("state files that were moved aside", _aside, needs_root=True),
    Check("addresses that are held", _claims, needs_root=True),
    Check("unfinished files", _temporary, needs_root=True),
    Check("macvlans of the node", _macvlans, needs_root=True),
)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _is_old(path: str) -> bool:
    try:
        return time.time() - os.lstat(path).st_mtime > _PATIENCE_SECONDS
    except FileNotFoundError:  # the call has finished meanwhile
        return False
