"""An attachment whose address an IPAM plugin leases."""

from __future__ import annotations

from lab import Node, Pod, Request


def leased(node: Node, pod: Pod) -> Request:
    """A standalone request; the leases are files below the node's directory."""
    pool = {"subnet": "192.168.12.0/24", "rangeStart": "192.168.12.200", "gateway": "192.168.12.1"}
    ipam = {"type": "host-local", "ranges": [[pool]], "dataDir": f"{node.directory}/leases"}
    conf = {"ipam": ipam, "conflictTimeoutMs": 20, "annotations": ["runtime"]}
    return node.standalone(pod, version="1.0.0", conf=conf)
