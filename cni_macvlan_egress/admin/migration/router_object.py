"""An EgressRouter (network.operator.openshift.io/v1), as the cluster network operator makes a pod of it."""

from __future__ import annotations

import re

from ...model import keys
from ...protocol.errors import UNSUPPORTED_FIELD, CniError
from . import asking, containers
from .manifest import Object, section, sections, strings, title, without, word
from .report import Report
from .router_pod import GRACE_PERIOD_SECONDS, Options, Template

API = "network.operator.openshift.io/"
# The operator's own pods bear this label, and Services select it.
_APP = {"app": "egress-router-cni"}
_NAME = "egress-router"
_LABEL_MAX = 63
_MODES = ("bridge", "private", "vepa", "passthru")


def migrate(document: Object, options: Options, report: Report) -> Template:
    """The pod that does what an object asks for.

    Raises:
        CniError: it cannot be carried over; says why and what to do.
    """
    metadata, spec = section(document, "metadata"), section(document, "spec")
    if (mode := word(spec, "mode")) not in ("", "Redirect"):
        raise CniError(UNSUPPORTED_FIELD, f"spec.mode: {mode!r}: only Redirect exists")
    macvlan = section(section(spec, "networkInterface"), "macvlan")
    interface_mode = word(macvlan, "mode").lower() or "bridge"
    if interface_mode not in _MODES:
        raise CniError(
            UNSUPPORTED_FIELD,
            f"spec.networkInterface.macvlan.mode: {interface_mode!r} is none of {', '.join(_MODES)}",
        )
    addresses = _one_a_family(sections(spec, "addresses"), report)
    asked = {
        "source": ",".join(word(one, "ip") for one in addresses),
        "gateway": ",".join(word(one, "gateway") for one in addresses),
        "destination": asking.tidy("\n".join(_lines(section(spec, "redirect"), report))),
        "mode": interface_mode if interface_mode != "bridge" else "",
    }
    own = {**strings(metadata, "annotations"), keys.ASSIGN: word(macvlan, "master") or "true"}
    annotations, wanted = asking.annotate(own, asked, report)
    labels = {**strings(metadata, "labels"), **_APP, _NAME: _label(word(metadata, "name"))}
    report.grant(word(metadata, "namespace"))
    report.note(f"delete {title(document)} first: its pod holds the address")
    pause = containers.idle({"name": "pause"}, options.image, alone=True, report=report)
    return Template(
        metadata={**without(metadata, "labels", "annotations"), "labels": labels, "annotations": annotations},
        spec={
            "terminationGracePeriodSeconds": GRACE_PERIOD_SECONDS,
            "securityContext": containers.as_nobody({}),
            "containers": [pause],
        },
        wanted=wanted,
    )


def _one_a_family(addresses: list[Object], report: Report) -> list[Object]:
    """The operator takes the first address alone; a second of the other family can be had here."""
    if not addresses:
        raise CniError(UNSUPPORTED_FIELD, "spec.addresses: there is none")
    found: dict[int, Object] = {}
    for number, one in enumerate(addresses):
        if not word(one, "gateway"):
            raise CniError(
                UNSUPPORTED_FIELD,
                f"spec.addresses[{number}].gateway: it is needed: the LAN's router as seen from {word(one, 'ip')!r}",
            )
        family = 6 if ":" in word(one, "ip") else 4
        if family in found:
            report.warning(
                f"address {word(one, 'ip')} is left out: a pod has one address a family, and the first counts"
            )
            continue
        found[family] = one
    return list(found.values())


def _lines(redirect: Object, report: Report) -> list[str]:
    lines, rest = [], []
    for number, rule in enumerate(sections(redirect, "redirectRules")):
        port, protocol = rule.get("port"), word(rule, "protocol").lower()
        target = word(rule, "destinationIP")
        if port and protocol:
            lines.append(
                " ".join(str(one) for one in (port, protocol, target, rule.get("targetPort")) if one)
            )
        else:
            # What the operator makes of it (pkg/controller/egress_router).
            report.warning(
                f"spec.redirect.redirectRules[{number}]: without port and protocol it takes all that others don't"
            )
            rest.append(target)
    if fallback := word(redirect, "fallbackIP"):
        rest.append(fallback)
    if not lines + rest:
        raise CniError(UNSUPPORTED_FIELD, "spec.redirect: there is neither a rule nor a fallbackIP")
    return lines + rest


def _label(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+$", "", name[:_LABEL_MAX])
