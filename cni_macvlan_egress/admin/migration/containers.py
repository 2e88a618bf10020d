"""Which of a pod's containers does what for an egress router, and the container that needs to do nothing."""

from __future__ import annotations

import re
from enum import Enum

from .environment import Environment
from .manifest import Object, section, without, word, words
from .report import Report

HTTP_PROXY_DESTINATION, DNS_PROXY_DESTINATION = (
    "EGRESS_HTTP_PROXY_DESTINATION",
    "EGRESS_DNS_PROXY_DESTINATION",
)
HTTP_PROXY_PORT = 8080
_ROUTER = re.compile(r"(?:(?:origin|ose)-)?egress-router(?:-rhel\d+)?")
_HTTP_PROXY = re.compile(r".*egress-http-proxy(?:-rhel\d+)?")
_DNS_PROXY = re.compile(r".*egress-dns-proxy(?:-rhel\d+)?")
_WAITING = re.compile(r"(?:origin|ose)-pod(?:-rhel\d+)?|pause(?:-\w+)?")
_NOBODY = {
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_NO_POWER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
# What a router needed, and Pod Security's level "baseline" forbids.
_POWERS = ("ALL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN")
_KEPT = ("ports", "resources")
# What a manifest says of the router's container and needs no word when it goes.
_OBVIOUS = (
    *_KEPT, "name", "image", "imagePullPolicy", "securityContext", "env", "envFrom", "command", "args",
    "volumeMounts", "terminationMessagePath", "terminationMessagePolicy",
)  # fmt: skip


class Role(Enum):
    """What a container is there for."""

    ROUTER = "router"
    HTTP_PROXY = "HTTP proxy"
    DNS_PROXY = "DNS proxy"
    WAITING = "waiting"
    OTHER = "other"


def role(container: Object, environment: Environment) -> Role:
    """By its variables, else by its image's name."""
    image = word(container, "image").rpartition("/")[2].partition("@")[0].partition(":")[0]
    if HTTP_PROXY_DESTINATION in environment or _HTTP_PROXY.fullmatch(image):
        return Role.HTTP_PROXY
    if DNS_PROXY_DESTINATION in environment or _DNS_PROXY.fullmatch(image):
        return Role.DNS_PROXY
    if "EGRESS_SOURCE" in environment.values or _ROUTER.fullmatch(image):
        return Role.ROUTER
    if _WAITING.fullmatch(image) and not container.get("command"):
        return Role.WAITING
    return Role.OTHER


def idle(container: Object, image: str, *, alone: bool, report: Report) -> Object:
    """A container in another's place that needs no power and does nothing.

    Args:
        alone: the pod has no others, so that its own security context says who runs.
    """
    name = word(container, "name") or "pause"
    if lost := [key for key in container if key not in _OBVIOUS]:
        report.warning(f"container {name}: {', '.join(lost)} went with its program; nothing runs there now")
    kept = {key: container[key] for key in _KEPT if key in container}
    context = _NO_POWER if alone else {**_NOBODY, **_NO_POWER}
    return {"name": name, "image": image, **kept, "securityContext": context}


def as_nobody(context: Object) -> Object:
    """A pod's security context in which nothing can run as root; the rest of it stays."""
    return {**context, **_NOBODY}


def powers(container: Object) -> list[str]:
    """What of a container's security context a hardened namespace would refuse."""
    context = section(container, "securityContext")
    added = words(section(context, "capabilities"), "add")
    found = ["privileged"] if context.get("privileged") is True else []
    return found + [one for one in _POWERS if one in added]


def without_powers(container: Object) -> Object:
    """The same container with the rights that only the router's work needed taken away."""
    context = without(section(container, "securityContext"), "privileged")
    capabilities = section(context, "capabilities")
    left = [one for one in words(capabilities, "add") if one not in _POWERS]
    kept = {**without(capabilities, "add"), **({"add": left} if left else {})}
    context = {**without(context, "capabilities"), **({"capabilities": kept} if kept else {})}
    return {**without(container, "securityContext"), **({"securityContext": context} if context else {})}
