"""One attachment as the specification writes it in each version of a result.

SPEC.md of 0.2.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0, section "Result".
"""

from __future__ import annotations

from typing import Any

FIRST = ("0.1.0", "0.2.0")
MIDDLE = ("0.3.0", "0.3.1", "0.4.0")
VERSIONS = (*FIRST, *MIDDLE, "1.0.0", "1.1.0")

_DNS = {
    "nameservers": ["10.1.0.1"],
    "domain": "cluster.local",
    "search": ["svc.cluster.local"],
    "options": ["ndots:5"],
}
_ROUTES = [
    {"dst": "0.0.0.0/0", "gw": "10.1.0.1"},
    {"dst": "192.168.0.0/16", "gw": "10.1.0.2"},
    {"dst": "::/0", "gw": "fd00::1"},
]
_IP4 = {"address": "10.1.0.5/16", "gateway": "10.1.0.1"}
_IP6 = {"address": "fd00::5/64", "gateway": "fd00::1"}
_INTERFACES = [
    {"name": "cni0", "mac": "00:11:22:33:44:55"},
    {"name": "veth3243", "mac": "55:44:33:22:11:11"},
    {"name": "eth0", "mac": "99:88:77:66:55:44", "sandbox": "/var/run/netns/blue"},
]

_FIRST_FORM: dict[str, Any] = {
    "ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1", "routes": _ROUTES[:2]},
    "ip6": {"ip": "fd00::5/64", "gateway": "fd00::1", "routes": _ROUTES[2:]},
    "dns": _DNS,
}
_ADDRESSES_ONLY: dict[str, dict[str, Any]] = {
    "0.3.0": {
        "ips": [{"version": "4", **_IP4}, {"version": "6", **_IP6}],
        "routes": _ROUTES,
        "dns": _DNS,
    },
    "1.0.0": {"ips": [_IP4, _IP6], "routes": _ROUTES, "dns": _DNS},
}
_WITH_INTERFACES: dict[str, dict[str, Any]] = {
    "0.3.0": {
        "interfaces": _INTERFACES,
        "ips": [{"version": "4", **_IP4, "interface": 2}, {"version": "6", **_IP6, "interface": 2}],
        "routes": _ROUTES,
        "dns": _DNS,
    },
    "1.0.0": {
        "interfaces": _INTERFACES,
        "ips": [{**_IP4, "interface": 2}, {**_IP6, "interface": 2}],
        "routes": _ROUTES,
        "dns": _DNS,
    },
}
_ALL: dict[str, Any] = {
    "interfaces": [
        {**_INTERFACES[0], "mtu": 1500},
        {**_INTERFACES[1], "mtu": 1500, "pciID": "0000:00:1f.6"},
        {**_INTERFACES[2], "mtu": 1450, "socketPath": "/run/vhost.sock"},
    ],
    "ips": _WITH_INTERFACES["1.0.0"]["ips"],
    "routes": [
        {**_ROUTES[0], "mtu": 1400, "advmss": 1360, "priority": 10, "table": 100, "scope": 253},
        {**_ROUTES[1], "scope": 0},
        _ROUTES[2],
    ],
    "dns": _DNS,
}


def result(version: str, known_to: str | None = None) -> dict[str, Any]:
    """The attachment in a version's words, as far as another version could tell of it."""
    least = min(version, known_to or version, key=VERSIONS.index)
    if least in FIRST:
        by_form = {"first": _FIRST_FORM, "0.3.0": _ADDRESSES_ONLY["0.3.0"], "1.0.0": _ADDRESSES_ONLY["1.0.0"]}
    else:
        by_form = {"0.3.0": _WITH_INTERFACES["0.3.0"], "1.0.0": _WITH_INTERFACES["1.0.0"]}
    if least == "1.1.0":
        return {"cniVersion": "1.1.0", **_ALL}
    form = "first" if version in FIRST else "0.3.0" if version in MIDDLE else "1.0.0"
    return {"cniVersion": version, **by_form[form]}
