"""A record of a finished attachment, in which a test changes what it is about."""

from __future__ import annotations

from typing import Any

from cni_macvlan_egress.attach.records import Record
from cni_macvlan_egress.decide.plan import Address, Link, Plan, Route, Rule, Sysctl

PLAN = Plan(
    link=Link(name="macvlan0", master="eth0", mode="bridge", mtu=1500, mac="06:6d:c0:a8:0c:63"),
    sysctls=(Sysctl(key="net/ipv4/conf/macvlan0/arp_ignore", value="1"),),
    addresses=(Address(address="192.168.12.99/24", prefix_route=False),),
    routes=(Route(destination="192.168.12.0/24", interface="macvlan0", table=7200, source="192.168.12.99"),),
    rules=(Rule(family=4, priority=7200, table=7200, source="192.168.12.99/32"),),
)


def record(container_id: str = "c1", **changed: Any) -> Record:
    """A record as ADD leaves it."""
    fields: dict[str, Any] = {
        "phase": "ready",
        "network": "cluster",
        "container_id": container_id,
        "ifname": "eth0",
        "netns": "/run/netns/pod",
        "netns_device": 4,
        "netns_inode": 4026532281,
        "boot_id": "8b9c3f2e-0000-4000-8000-000000000000",
        "pod": "shop/cart",
        "addresses": ("192.168.12.99",),
        "plan": PLAN,
        **changed,
    }
    return Record(**fields)
