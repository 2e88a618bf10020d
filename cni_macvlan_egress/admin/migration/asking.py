"""The annotations of a migrated pod, held against the model that an ADD reads them by."""

from __future__ import annotations

from collections.abc import Mapping

from ...decide.request import merge
from ...model import keys
from ...model.annotations import PodAnnotations
from ...model.configuration import Configuration
from ...protocol.errors import INVALID_ANNOTATION, CniError
from .report import Report

# What a cluster writes itself, and what means another cluster's business.
_WRITTEN_BY_CLUSTERS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubernetes.io/psp",
    "openshift.io/scc",
    "k8s.v1.cni.cncf.io/network-status",
    "k8s.v1.cni.cncf.io/networks-status",
    "k8s.ovn.org/pod-networks",
    "deployment.kubernetes.io/revision",
    "release.openshift.io/version",
)


def kept(annotations: Mapping[str, str]) -> dict[str, str]:
    """Those of an object that are the admin's own."""
    return {name: value for name, value in annotations.items() if name not in _WRITTEN_BY_CLUSTERS}


def annotate(
    annotations: Mapping[str, str], asked: Mapping[str, str], report: Report
) -> tuple[dict[str, str], PodAnnotations]:
    """The pod's own annotations with ours behind them, and what they ask for.

    Args:
        asked: values by our annotations' names without prefix; empty ones are left out.

    Raises:
        CniError: INVALID_ANNOTATION as an ADD would say it, or if the pod has ours already.
    """
    if present := sorted(name for name in annotations if name.startswith(keys.PREFIX)):
        raise CniError(
            INVALID_ANNOTATION,
            f"it has {', '.join(present)} already, beside the router's own settings; remove one or the other",
        )
    found = {
        **kept(annotations),
        keys.ASSIGN: annotations.get(keys.ASSIGN) or "true",
        **{keys.PREFIX + name: asked[name] for name in keys.ANNOTATIONS if asked.get(name)},
    }
    wanted = PodAnnotations.of(found)
    # As `plan` goes on; a node's own settings are not known here.
    request = merge(Configuration.of({}), {}, wanted, ifname="eth0", chained=True)
    report.sources = tuple(str(one.ip) for one in request.sources)
    return found, wanted


def tidy(text: str) -> str:
    """Lines of destinations as an annotation holds them: comments stay, space around them goes."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return "\n".join(lines) + ("\n" if len(lines) > 1 else "")
