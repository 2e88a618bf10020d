"""Who may use the plugin: `allow` in the configuration against what a pod asks for."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ..model.addresses import IPNetwork, parse_network
from ..model.configuration import Configuration, Grant
from ..protocol.errors import NOT_ALLOWED, CniError
from .request import Pod, Request

# Policies for the MAC address by which it is nobody else's.
_DERIVED = ("kernel", "address")


def check(configuration: Configuration, request: Request, pod: Pod, master: str) -> None:
    """Let a request pass if one grant covers all of it.

    What the configuration itself sets is the admin's own word and needs no grant.

    Args:
        master: the NIC that the request ended up with.

    Raises:
        CniError: NOT_ALLOWED, saying what to add.
    """
    if not request.annotated:
        return
    who = f"namespace {pod.namespace!r}" if pod.namespace else "a pod without namespace"
    if not configuration.allow:
        raise CniError(
            NOT_ALLOWED,
            f"no pod may use this plugin by annotation yet: the configuration has no 'allow'; to serve {who} add "
            f'"allow": [{{"namespaces": ["{pod.namespace or "*"}"]}}]',
        )
    reasons = []
    nearest = ""
    for number, grant in enumerate(configuration.allow, 1):
        reason = _refusal(
            grant, request, pod, master, chosen_mac=request.mac not in (*_DERIVED, configuration.mac)
        )
        if not reason:
            return
        reasons.append(f"grant {number}: {reason}")
        if not nearest or _names(grant, pod):
            nearest = reason
    raise CniError(NOT_ALLOWED, f"no grant in 'allow' covers {who}: {nearest}", "; ".join(reasons))


def _names(grant: Grant, pod: Pod) -> bool:
    return any(fnmatchcase(pod.namespace, pattern) for pattern in grant.namespaces)


def _refusal(grant: Grant, request: Request, pod: Pod, master: str, *, chosen_mac: bool) -> str:
    if not _names(grant, pod):
        return f"namespace {pod.namespace!r} matches none of {', '.join(grant.namespaces)}"
    if grant.masters is not None and master not in grant.masters:
        return f"NIC {master!r} is none of {', '.join(grant.masters)}"
    limits = [name for name in ("sources", "destinations") if getattr(grant, name) is not None]
    if limits and request.bare:
        return f"it limits {limits[0]}, and whoever runs in the pod could set any address on a bare interface"
    if limits and request.mode == "passthru":
        return f"it limits {limits[0]}, and a passthru interface takes all that the NIC receives"
    if limits and chosen_mac:
        return f"it limits {limits[0]}, and a MAC address of the pod's own choice may be another host's ({request.mac})"
    if grant.sources is not None and request.sources_annotated:
        for source in request.sources:
            if not any(source.ip in network for network in grant.sources):
                return f"source {source.ip} is in none of {', '.join(map(str, grant.sources))}"
    if grant.destinations is not None:
        return _destination_refusal(grant.destinations, request)
    return ""


def _destination_refusal(granted: tuple[str, ...], request: Request) -> str:
    if not request.destinations:
        return "it limits destinations, and the pod names none"
    if request.routes == "default":
        return "it limits destinations, and with routes 'default' the pod could reach any"
    networks = [network for one in granted if (network := _network(one)) is not None]
    names = [one.lower().removesuffix(".") for one in granted if _network(one) is None]
    for line in request.destinations:
        # A name's addresses are its owner's to change: only a name covers a name.
        covered = (
            any(fnmatchcase(line.name, pattern) for pattern in names)
            if line.name
            else all(any(address in network for network in networks) for address in line.addresses)
        )
        if not covered:
            return f"destination {line.target} (line {line.line}) is in none of {', '.join(granted)}"
    return ""


def _network(text: str) -> IPNetwork | None:
    try:
        return parse_network(text)
    except ValueError:
        return None
