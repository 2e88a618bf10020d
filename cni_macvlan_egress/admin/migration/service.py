"""The Service in front of a migrated pod, with a port for each destination line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .manifest import Object, section, strings, title, word
from .report import Report
from .router_pod import Template

# A Service knows no ranges; more than that is better reached by the pod's own address.
_RANGE_MAX = 100


def of(name: str, namespace: str, selector: Mapping[str, str], template: Template, report: Report) -> Object:
    """A Service that leads to all ports that the pod sends on or serves.

    Without any it is headless, so that its name leads to the pod's own address.
    """
    ports = list(dict.fromkeys(_ports(template, report)))
    spec: Object = {"selector": dict(selector), **_families(template)}
    if ports:
        spec["ports"] = [
            {"name": f"{protocol}-{port}", "port": port, "protocol": protocol.upper()}
            for port, protocol in ports
        ]
    else:
        spec["clusterIP"] = "None"
        report.note(
            f"Service {name} is headless: a Service has no way to say 'all ports', the pod's address has them"
        )
    metadata: Object = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def leading_to(labels: Mapping[str, str], namespace: str, documents: Sequence[Object]) -> str:
    """The title of a Service in the input that selects these labels; empty if there is none."""
    for document in documents:
        if document["kind"] != "Service":
            continue
        own = word(section(document, "metadata"), "namespace")
        selector = strings(section(document, "spec"), "selector")
        if own == namespace and selector and selector.items() <= labels.items():
            return title(document)
    return ""


def _ports(template: Template, report: Report) -> Iterable[tuple[int, str]]:
    for line in template.wanted.destinations:
        if line.ports is None or line.protocol is None:
            if len(template.wanted.destinations) > 1 or template.listens:
                report.warning(
                    f"the Service has the ports that are named; all else, for {line.target}, has to go to the pod's "
                    "own address"
                )
            continue
        first, last = line.ports
        if last - first >= _RANGE_MAX:
            report.warning(
                f"the Service lacks ports {first} to {last}: it has no ranges; use the pod's own address"
            )
            continue
        for port in range(first, last + 1):
            yield port, line.protocol
    for port in template.listens:
        yield port, "tcp"


def _families(template: Template) -> Object:
    """Clients have to come in the family in which they are sent on."""
    if template.listens:
        return {}
    # A name may have addresses of any family that the pod has a gateway for.
    found = {one.version for one in template.wanted.gateways}
    if lines := [one.version for line in template.wanted.destinations for one in line.addresses]:
        found = set(lines) if all(line.addresses for line in template.wanted.destinations) else found
    if found == {4, 6}:
        return {"ipFamilyPolicy": "PreferDualStack"}
    return {"ipFamilies": ["IPv6"]} if found == {6} else {}
