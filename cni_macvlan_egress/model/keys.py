"""Every key and annotation name there is. Light: the pass-through path checks against these."""

from __future__ import annotations

from ..protocol.errors import INVALID_CONFIGURATION, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

CONFIGURATION = frozenset(
    (
        "master", "mode", "mtu", "ifName", "mac", "ipam", "allow", "conflictDetection", "conflictTimeoutMs",
        "routes", "clusterNetworks", "policy", "annotations", "kubeconfig", "stateDir", "runDir",
        "logFile", "logLevel",
    )
)  # fmt: skip
# What the specification and libcni themselves put beside a plugin's keys; `cni.dev/…` is reserved too.
ENVELOPE = frozenset(
    (
        "cniVersion", "cniVersions", "name", "type", "args", "capabilities", "runtimeConfig", "prevResult", "dns",
        "disableCheck", "disableGC", "ipMasq",
    )
)  # fmt: skip

POD_ANNOTATIONS_CAPABILITY = "io.kubernetes.cri.pod-annotations"
ASSIGN = "pod.network.openshift.io/assign-macvlan"
PREFIX = "macvlan-egress/"
ANNOTATIONS = ("source", "gateway", "destination", "routes", "mac", "mtu", "mode")

DEFAULT_STATE_DIR = "/var/lib/cni/macvlan-egress"
DEFAULT_RUN_DIR = "/run/macvlan-egress"
DEFAULT_LOG_FILE = "/var/log/macvlan-egress.log"
DEFAULT_POLICY_DIRECTORY = "/etc/cni/macvlan-egress/policies.d"
DEFAULT_IFNAME = "macvlan0"


def check_known(configuration: Mapping[str, Any]) -> None:
    """Refuse a key that nobody reads.

    Raises:
        CniError: INVALID_CONFIGURATION, with the nearest known key.
    """
    for key in configuration:
        if key not in CONFIGURATION and key not in ENVELOPE and not key.startswith("cni.dev/"):
            raise CniError(INVALID_CONFIGURATION, f"unknown key {key!r}{nearest(key, CONFIGURATION)}")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for an error: the known words nearest to one that is not."""
    import difflib

    matches = difflib.get_close_matches(word.lower(), [name.lower() for name in known], n=1, cutoff=0.5)
    by_lower = {name.lower(): name for name in known}
    return (
        f"; did you mean {by_lower[matches[0]]!r}?" if matches else f"; known are {', '.join(sorted(known))}"
    )


def asks_to_attach(annotations: Mapping[str, Any]) -> bool:
    """Whether any annotation is meant for this plugin; whether it is a good one is found out later."""
    assign = annotations.get(ASSIGN)
    if assign is not None and (not isinstance(assign, str) or assign.strip() not in ("", "false")):
        return True
    return any(key.startswith(PREFIX) for key in annotations)
