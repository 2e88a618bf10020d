"""A state file: what an ADD has written down of an attachment."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from random import Random

from cni_macvlan_egress.attach.records import from_json, to_json
from cni_macvlan_egress.decide import renewal

from ..mutations.documents import Vocabulary, changed_text, choice, listed
from ..target import Target
from . import terms

_PLAN_KEYS = (
    "link", "forwards", "ruleset", "sysctls", "conflicts", "addresses", "routes", "rules", "renewal", "name",
    "master", "mode",
    "mtu", "mac", "key", "value", "before", "address", "prefix_route", "destination", "interface", "gateway", "table",
    "source",
    "onlink", "family", "priority", "oif", "iif", "suppress_prefix_length", "line", "text", "protocol", "ports",
    "target_port",
    "detection", "timeout_ms", "inside", "mtus", "only_destinations", "gateways", "cluster_networks", "retired",
)  # fmt: skip
VOCABULARY = Vocabulary(
    keys=(
        "schema_version",
        "phase",
        "network",
        "container_id",
        "ifname",
        "netns",
        "netns_device",
        "netns_inode",
        "boot_id",
        "pod",
        "plan",
        "ipam",
        "type",
        *_PLAN_KEYS,
    ),
    values=(
        *terms.ADDRESSES,
        *terms.NAMES,
        *terms.INTERFACES,
        *terms.PATHS,
        "tcp",
        "ready",
        "adding",
        4,
        6,
        7200,
    ),
    makers={
        "schema_version": choice(1, 2, "1", 1.0, True),
        "phase": choice("adding", "ready", "gone"),
        "addresses": listed(choice(terms.address, {"address": "192.168.12.99/24", "prefix_route": False})),
        "address": terms.address,
        "destination": terms.address,
        "gateway": terms.address,
        "family": choice(4, 6, 5, "4"),
        "ports": choice([1, 2], [443, 443], None, [1], [1, 2, 3], "12"),
        "netns": choice("/run/fuzz/netns/pod", "/run/fuzz/none", terms.path),
        "ipam": choice(
            {"type": "host-local"}, {"ipam": {"type": "host-local"}}, {"ipam": {"type": 1}}, {}, None
        ),
        "name": choice(terms.interface, terms.name),
        "mac": terms.mac,
        "key": choice("net/ipv4/conf/macvlan0/arp_ignore", "../../etc/passwd", "/etc/passwd", ""),
    },
)


def examine(data: bytes, _seen: Callable[[], list[str]]) -> None:
    try:
        record = from_json(data)
    except ValueError as error:
        assert str(error), "no reason"
        return
    try:
        text = to_json(record)
    except (
        UnicodeEncodeError
    ):  # "\ud800" is an escape like any other to JSON; it is refused when it is written
        return
    again = from_json(text.encode())
    assert again == record
    assert json.loads(to_json(again)) == json.loads(text)
    if record.plan is not None:
        with suppress(ValueError):  # a line that no ADD has written
            renewal.names(record.plan)


def mutate(data: bytes, random: Random) -> bytes:
    return changed_text(data.decode("utf-8", "replace"), random, VOCABULARY).encode("utf-8", "surrogatepass")


TARGET = Target("records", examine, mutate)
