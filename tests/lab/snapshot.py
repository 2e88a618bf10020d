"""What a namespace looks like, in lines that can be compared before and after."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .namespace import Namespace

Snapshot = dict[str, list[str]]
SETTLE_SECONDS = 3
SHOWN = 20  # differences in a failure's message

_COMMANDS = {
    "links": "link show",
    "addresses": "address show",
    "routes4": "-4 route show table all",
    "routes6": "-6 route show table all",
    "rules4": "-4 rule show",
    "rules6": "-6 rule show",
}
_LINK_KEYS = (
    "ifindex", "ifname", "link", "link_index", "address", "mtu", "flags", "operstate", "promiscuity",
    "allmulti", "master", "group", "linkmode", "inet6_addr_gen_mode", "ifalias", "altnames", "qdisc",
)  # fmt: skip
_ADDRESS_KEYS = ("family", "local", "prefixlen", "scope", "label", "broadcast", "protocol")


def take(namespace: Namespace) -> Snapshot:
    """Links, addresses, routes, rules, sysctls and nftables."""
    found = _settled(namespace)
    snapshot = {
        "links": [_line({**_only(link, _LINK_KEYS), **_kind(link)}) for link in found["links"]],
        "addresses": [
            _line(
                {
                    "dev": link["ifname"],
                    **_only(item, _ADDRESS_KEYS),
                    "noprefixroute": item.get("noprefixroute"),
                }
            )
            for link in found["addresses"]
            for item in link["addr_info"]
        ],
    }
    for name in ("routes4", "routes6", "rules4", "rules6"):
        snapshot[name] = [_line(item) for item in found[name]]
    sysctls, ruleset = _inside(namespace)
    snapshot["sysctls"] = sysctls
    snapshot["nftables"] = ruleset
    return {name: sorted(lines) for name, lines in snapshot.items()}


@contextmanager
def unchanged(*namespaces: Namespace) -> Iterator[None]:
    """Whatever happens inside, the namespaces are afterwards what they were before."""
    before = [namespace.snapshot() for namespace in namespaces]
    yield
    for namespace, snapshot in zip(namespaces, before, strict=True):
        found = differences(snapshot, namespace.snapshot())
        assert not found, f"{namespace.name} is not what it was:\n" + "\n".join(found[:SHOWN])


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """The lines that have gone (-) and come (+)."""
    lines = []
    for name in before:
        lines += [f"- {name}: {line}" for line in before[name] if line not in after[name]]
        lines += [f"+ {name}: {line}" for line in after[name] if line not in before[name]]
    return lines


def files(*directories: str) -> list[str]:
    """The files below some directories with their content."""
    lines = []
    for directory in directories:
        for folder, _, names in os.walk(directory):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.islink(path):
                    lines.append(f"{path} -> {os.readlink(path)}")
                    continue
                with open(path, errors="replace") as handle:
                    lines.append(f"{path}: {handle.read()}")
    return sorted(lines)


def _settled(namespace: Namespace) -> dict[str, list[dict[str, Any]]]:
    """What the commands show when the kernel has done what comes a moment after an IPv6 address."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        found = {name: namespace.show(command) for name, command in _COMMANDS.items()}
        local = {(route["dev"], route["dst"]) for route in found["routes6"] if route.get("type") == "local"}
        waiting = [
            item["local"]
            for link in found["addresses"]
            if "LOWER_UP" in link["flags"]
            for item in link["addr_info"]
            if item["family"] == "inet6" and (link["ifname"], item["local"]) not in local
        ]
        if not waiting or time.monotonic() > deadline:
            return found


def _inside(namespace: Namespace) -> tuple[list[str], list[str]]:
    from .namespace import within

    return within(namespace.path, lambda: (list(_sysctls()), _ruleset()))


def _sysctls() -> list[str]:
    lines = []
    for root in ("/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf", "/proc/sys/net/ipv4/neigh"):
        for folder, _, names in os.walk(root):
            for name in names:
                try:
                    with open(os.path.join(folder, name)) as handle:
                        lines.append(f"{folder}/{name} = {handle.read().strip()}")
                except OSError:
                    continue  # stable_secret cannot be read before it is set
    with open("/proc/sys/net/ipv4/ip_forward") as handle:
        lines.append(f"ip_forward = {handle.read().strip()}")
    return lines


def _ruleset() -> list[str]:
    done = subprocess.run(
        ["nft", "--stateless", "list", "ruleset"], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def _kind(link: dict[str, Any]) -> dict[str, Any]:
    info = link.get("linkinfo", {})
    data = info.get("info_data", {}) if info.get("info_kind") in ("macvlan", "macvtap") else {}
    return {"kind": info.get("info_kind"), "mode": data.get("mode")}


def _only(item: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: item[key] for key in keys if key in item}


def _line(item: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in item.items() if value is not None}, sort_keys=True)
