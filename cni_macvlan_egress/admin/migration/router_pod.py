"""A pod with OpenShift's egress router in it, as a container of its own or as an init container beside a proxy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...model import keys
from ...model.annotations import PodAnnotations
from ...protocol.errors import UNSUPPORTED_FIELD, CniError
from . import asking, containers, environment
from .containers import Role
from .environment import ConfigMaps, Environment
from .manifest import Object, section, sections, strings, without, word
from .report import Report

# EGRESS_ROUTER_MODE (openshift/images, egress/router/egress-router.sh); without it the container stays and waits.
_REDIRECTS, _PROXIES = ("legacy", "init"), ("http-proxy", "dns-proxy")
_TOKEN_VOLUME = "kube-api-access-"  # noqa: S105  the volume that every pod gets
# A successor elsewhere waits for the address.
GRACE_PERIOD_SECONDS = 1


@dataclass(frozen=True)
class Options:
    """What the admin chose.

    Attributes:
        image: of containers that do nothing.
        deployment: a Deployment and a Service instead of the bare pod.
        drop_dns_proxy: destination lines instead of a DNS proxy.
    """

    image: str
    deployment: bool = False
    drop_dns_proxy: bool = False


@dataclass(frozen=True)
class Template:
    """A migrated pod without kind and name.

    Attributes:
        wanted: what its annotations ask for.
        listens: TCP ports that a proxy in it serves.
    """

    metadata: Object
    spec: Object
    wanted: PodAnnotations
    listens: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Part:
    container: Object
    role: Role
    environment: Environment
    init: bool

    @property
    def name(self) -> str:
        return word(self.container, "name") or "?"


def is_router(spec: Object, config_maps: ConfigMaps, namespace: str) -> bool:
    """Whether an egress router is among a pod's containers."""
    return any(part.role is Role.ROUTER for part in _parts(spec, config_maps, namespace))


def migrate(
    metadata: Object, spec: Object, namespace: str, config_maps: ConfigMaps, options: Options, report: Report
) -> Template:
    """The pod with annotations in the router's place.

    Raises:
        CniError: it cannot be carried over; says why and what to do.
    """
    if spec.get("hostNetwork") is True:
        raise CniError(
            UNSUPPORTED_FIELD,
            "hostNetwork: no CNI plugin is called for a pod in the node's own network; remove it",
        )
    parts = _parts(spec, config_maps, namespace)
    router = _only_router(parts)
    mode = router.environment.get("EGRESS_ROUTER_MODE") or "legacy"
    if mode not in _REDIRECTS + _PROXIES:
        known = ", ".join(_REDIRECTS + _PROXIES)
        raise CniError(UNSUPPORTED_FIELD, f"EGRESS_ROUTER_MODE: {mode!r} is none of {known}")
    destination = router.environment.get("EGRESS_DESTINATION") if mode in _REDIRECTS else ""
    if mode in _REDIRECTS and not destination:
        raise CniError(
            UNSUPPORTED_FIELD,
            f"container {router.name}: mode {mode} has no EGRESS_DESTINATION: there is nothing to redirect to",
        )
    dropped: list[_Part] = []
    if options.drop_dns_proxy and mode in _PROXIES:
        dropped = [part for part in parts if part.role is Role.DNS_PROXY and not part.init]
        destination = "\n".join(_lines_of_dns_proxy(part) for part in dropped)
    working = [part for part in parts if not part.init and _works(part) and part not in dropped]
    asked = {
        "source": _needed(router, "EGRESS_SOURCE"),
        "gateway": _needed(router, "EGRESS_GATEWAY"),
        "destination": asking.tidy(destination),
        "routes": "default" if working else "",
    }
    annotations, wanted = asking.annotate(strings(metadata, "annotations"), asked, report)
    if keys.ASSIGN not in strings(metadata, "annotations"):
        report.note(f"it had no annotation {keys.ASSIGN}; now it has")
    for name in ("EGRESS_SOURCE", "EGRESS_GATEWAY", "EGRESS_DESTINATION"):
        if config_map := router.environment.config_maps.get(name):
            report.note(
                f"{name} was copied from the ConfigMap {config_map}: from now on the annotation counts"
            )
    _say_what_moves(working, destination, namespace, report)
    return Template(
        metadata={**metadata, "annotations": annotations},
        spec=_spec(spec, parts, working, dropped, options, report),
        wanted=wanted,
        listens=tuple(sorted({port for part in working for port in _listens(part, report)})),
    )


def _parts(spec: Object, config_maps: ConfigMaps, namespace: str) -> list[_Part]:
    found = []
    for key in ("initContainers", "containers"):
        for container in sections(spec, key):
            variables = environment.of(container, config_maps, namespace)
            found.append(
                _Part(container, containers.role(container, variables), variables, key != "containers")
            )
    return found


def _only_router(parts: Sequence[_Part]) -> _Part:
    routers = [part for part in parts if part.role is Role.ROUTER]
    if len(routers) > 1:
        names = ", ".join(part.name for part in routers)
        raise CniError(UNSUPPORTED_FIELD, f"containers {names}: more than one egress router in a pod")
    return routers[0]


def _needed(router: _Part, name: str) -> str:
    if value := router.environment.get(name):
        return value
    raise CniError(
        UNSUPPORTED_FIELD, f"container {router.name}: {name} is not set; the router could not work without"
    )


def _works(part: _Part) -> bool:
    return part.role not in (Role.ROUTER, Role.WAITING)


def _lines_of_dns_proxy(part: _Part) -> str:
    """PORT TARGET [TARGETPORT], all TCP (egress/dns-proxy/egress-dns-proxy.sh), as our lines."""
    found = []
    for line in part.environment.get(containers.DNS_PROXY_DESTINATION).splitlines():
        port, *target = line.split() or [""]
        found.append(line if not port or port.startswith("#") else " ".join((port, "tcp", *target)))
    return "\n".join(found)


def _listens(part: _Part, report: Report) -> Iterable[int]:
    if part.role is Role.HTTP_PROXY:
        yield containers.HTTP_PROXY_PORT
    if part.role is Role.DNS_PROXY:
        try:
            text = part.environment.get(containers.DNS_PROXY_DESTINATION)
        except CniError as error:
            # Only a Service needs to know; the proxy itself gets the variable as ever.
            report.warning(f"container {part.name}: {error.msg}; its ports are not known")
            return
        for line in text.splitlines():
            port = (line.split() or [""])[0]
            if port.isascii() and port.isdigit():
                yield int(port)


def _say_what_moves(working: Sequence[_Part], destination: str, namespace: str, report: Report) -> None:
    report.grant(namespace)
    if not working:
        return
    names = ", ".join(part.name for part in working)
    report.note(
        f"routes default: what {names} sends leaves from {', '.join(report.sources)}, as behind the router; list the "
        "cluster's pod and service networks in the configuration's clusterNetworks, so that DNS and answers to "
        "clients stay on eth0"
    )
    if destination:
        report.warning(f"{names} runs beside a redirect: ports that the destinations take do not reach it")


def _spec(
    spec: Object,
    parts: Sequence[_Part],
    working: Sequence[_Part],
    dropped: Sequence[_Part],
    options: Options,
    report: Report,
) -> Object:
    """The pod's specification without what only the router needed."""
    idle = [part for part in parts if not part.init and part not in working]
    inits = [_kept(part, report) for part in parts if part.init and part.role is not Role.ROUTER]
    alone = not working and not inits
    made = []
    if not working or any(part.role in (Role.WAITING, Role.ROUTER) for part in idle):
        # The first one's name and ports stay, because a Service may refer to them.
        origin = {"name": "pause"} if not idle else _joined(idle, dropped)
        made = [containers.idle(origin, options.image, alone=alone, report=report)]
    kept = [_kept(part, report) for part in working]
    found = {**spec, "initContainers": inits, "containers": made + kept}
    if not inits:
        del found["initContainers"]
    if alone:
        found["securityContext"] = containers.as_nobody(section(spec, "securityContext"))
        found.setdefault("terminationGracePeriodSeconds", GRACE_PERIOD_SECONDS)
    elif working:
        report.note(
            'the namespace needs no more than Pod Security\'s level "baseline" for the router; what the other '
            "containers need is their own"
        )
    _say_whose_account(spec, report)
    return _without_leftovers(found, report)


def _joined(idle: Sequence[_Part], dropped: Sequence[_Part]) -> Object:
    first = (list(dropped) + [part for part in idle if part not in dropped])[0]
    ports = [port for part in idle for port in sections(part.container, "ports")]
    return {**first.container, **({"ports": ports} if ports else {})}


def _kept(part: _Part, report: Report) -> Object:
    found = containers.powers(part.container)
    if not found:
        return part.container
    if part.role in (Role.HTTP_PROXY, Role.DNS_PROXY):
        report.note(
            f"container {part.name}: {', '.join(found)} taken away: the proxy has nothing left to set up"
        )
        return containers.without_powers(part.container)
    report.warning(
        f"container {part.name} keeps {', '.join(found)}: it is not known what for; look whether it needs it"
    )
    return part.container


def _say_whose_account(spec: Object, report: Report) -> None:
    account = word(spec, "serviceAccountName") or word(spec, "serviceAccount")
    if account not in ("", "default"):
        report.note(
            f"service account {account} is kept; if a SecurityContextConstraint was granted to it for the "
            "privileged container, take that back"
        )


def _without_leftovers(spec: Object, report: Report) -> Object:
    """Less the node that it ran on, and volumes that nobody mounts any more."""
    if node := word(spec, "nodeName"):
        report.note(f"nodeName {node} is left out: the scheduler writes it; use nodeSelector to choose nodes")
    everyone = [
        {**one, "volumeMounts": [m for m in sections(one, "volumeMounts") if not _is_token(m)]}
        if "volumeMounts" in one
        else one
        for one in sections(spec, "containers") + sections(spec, "initContainers")
    ]
    mains = len(sections(spec, "containers"))
    used = {word(mount, "name") for one in everyone for mount in sections(one, "volumeMounts")}
    volumes = sections(spec, "volumes")
    if lost := [word(one, "name") for one in volumes if word(one, "name") not in used and not _is_token(one)]:
        report.note(f"volumes {', '.join(lost)} are left out: only the router mounted them")
    changed: Object = {
        "containers": everyone[:mains],
        "initContainers": everyone[mains:],
        "volumes": [one for one in volumes if word(one, "name") in used],
    }
    found = {key: changed.get(key, value) for key, value in without(spec, "nodeName").items()}
    return {key: value for key, value in found.items() if value or key not in changed}


def _is_token(named: Object) -> bool:
    return word(named, "name").startswith(_TOKEN_VOLUME)
