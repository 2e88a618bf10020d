"""What conf/ ships, for a runtime to be given; only directories are moved, so that tests run side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).resolve().parent.parent.parent / "conf"
BRIDGE, PTP = "10-bridge-macvlan-egress.conflist", "10-ptp-macvlan-egress.conflist"
STANDALONE = "standalone-macvlan.conflist"
EGRESS_POD, ROUTER_POD = "pod-egress.yaml", "pod-openshift-router.yaml"


def conflist(name: str, directory: str, **keys: Any) -> dict[str, Any]:
    """A conflist that keeps everything below a directory.

    Args:
        keys: change those of our own plugin, which is the last.
    """
    found: dict[str, Any] = json.loads((CONF / name).read_text())
    for plugin in found["plugins"]:
        if "ipam" in plugin:
            plugin["ipam"]["dataDir"] = f"{directory}/leases"
    found["plugins"][-1] |= {
        "stateDir": f"{directory}/plugin/state",
        "runDir": f"{directory}/plugin/run",
        "logFile": f"{directory}/plugin/log",
        **keys,
    }
    return found


def pod(name: str) -> tuple[str, dict[str, str]]:
    """Namespace and annotations of a manifest's pod."""
    documents = yaml.safe_load_all((CONF / name).read_text())
    (metadata,) = [one["metadata"] for one in documents if one["kind"] == "Pod"]
    return metadata["namespace"], metadata["annotations"]


def addresses(name: str) -> tuple[str, str]:
    """First and last address that a conflist's host-local gives."""
    ((pool,),) = json.loads((CONF / name).read_text())["plugins"][-1]["ipam"]["ranges"]
    return pool["rangeStart"], pool["rangeEnd"]
