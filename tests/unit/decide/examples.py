"""A node with two NICs, pods as main CNIs leave them, and requests in the words of configuration and annotations."""

from __future__ import annotations

from typing import Any

from cni_macvlan_egress.decide import planning
from cni_macvlan_egress.decide.addressing import Addressing
from cni_macvlan_egress.decide.facts import AddressFact, HostFacts, LinkFact, RouteFact, RuleFact
from cni_macvlan_egress.decide.plan import Plan, Route, Rule
from cni_macvlan_egress.decide.request import Request, merge
from cni_macvlan_egress.model import keys
from cni_macvlan_egress.model.annotations import PodAnnotations
from cni_macvlan_egress.model.configuration import Configuration

ASSIGN = keys.ASSIGN
PREFIX = keys.PREFIX
DUAL = {
    PREFIX + "source": "192.168.12.99/24,fd00:12::99/64",
    PREFIX + "gateway": "192.168.12.1,fd00:12::1",
}


def source(addresses: str, gateways: str = "", **more: str) -> dict[str, str]:
    """The annotations of a pod with source addresses; further ones by their short names."""
    texts = {"source": addresses, "gateway": gateways, **more}
    return {PREFIX + name: text for name, text in texts.items() if text}


def request(
    annotations: dict[str, str] | None = None,
    *,
    chained: bool = True,
    ifname: str = "eth0",
    runtime: dict[str, Any] | None = None,
    args: dict[str, str] | None = None,
    **conf: Any,
) -> Request:
    """What a pod asks for."""
    return merge(
        Configuration.of(conf),
        runtime or {},
        PodAnnotations.of(annotations or {}),
        ifname=ifname,
        chained=chained,
        args=args,
    )


# -- the node

LOOPBACK = LinkFact(
    index=1, name="lo", mac="00:00:00:00:00:00", mtu=65536, up=True, hardware=772, loopback=True
)
NIC = LinkFact(index=2, name="eth0", mac="52:54:00:00:00:10", mtu=1500, up=True)
SECOND_NIC = LinkFact(index=3, name="eth1", mac="52:54:00:00:01:10", mtu=9000, up=True)
BRIDGE = LinkFact(index=4, name="cni0", mac="0a:58:0a:f4:00:01", mtu=1500, up=True, kind="bridge")
PORT = LinkFact(
    index=5,
    name="veth1",
    mac="d2:00:00:00:00:05",
    mtu=1500,
    up=True,
    kind="veth",
    controller="cni0",
    parent=2,
)
NODE = HostFacts(
    links=(LOOPBACK, NIC, SECOND_NIC, BRIDGE, PORT),
    addresses=(
        AddressFact("lo", "127.0.0.1/8"),
        AddressFact("lo", "::1/128"),
        AddressFact("eth0", "192.168.12.10/24"),
        AddressFact("eth0", "fd00:12::10/64"),
        AddressFact("eth0", "fe80::5054:ff:fe00:10/64"),
        AddressFact("eth1", "10.20.0.10/16"),
        AddressFact("cni0", "10.244.0.1/24"),
    ),
    routes=(
        RouteFact("0.0.0.0/0", "eth0", "192.168.12.1", metric=100),
        RouteFact("::/0", "eth0", "fd00:12::1", metric=1024),
        RouteFact("192.168.12.0/24", "eth0", source="192.168.12.10"),
        RouteFact("10.20.0.0/16", "eth1", source="10.20.0.10"),
        RouteFact("10.244.0.0/24", "cni0", source="10.244.0.1"),
    ),
)

# -- pods

_RULES = tuple(
    RuleFact(family, priority, table)
    for family in (4, 6)
    for priority, table in ((0, 255), (32766, 254), (32767, 253))
)
_LINKS = (
    LOOPBACK,
    LinkFact(index=2, name="eth0", mac="0a:58:0a:f4:00:05", mtu=1500, up=True, kind="veth", parent=5),
)
# Calico: /32, and a gateway that every pod has and no host, reached by a route of its own.
CALICO = HostFacts(
    links=_LINKS,
    addresses=(
        AddressFact("lo", "127.0.0.1/8"),
        AddressFact("eth0", "10.244.0.5/32"),
        AddressFact("eth0", "fd00:244::5/128"),
        AddressFact("eth0", "fe80::858:aff:fef4:5/64"),
    ),
    routes=(
        RouteFact("0.0.0.0/0", "eth0", "169.254.1.1"),
        RouteFact("169.254.1.1/32", "eth0"),
        RouteFact("fe80::/64", "eth0"),
        RouteFact("::/0", "eth0", "fe80::ecee:eeff:feee:eeee", metric=1024),
    ),
    rules=_RULES,
)
# bridge: the pod network's /24 on link, and a default route through its bridge.
BRIDGED = HostFacts(
    links=_LINKS,
    addresses=(AddressFact("lo", "127.0.0.1/8"), AddressFact("eth0", "10.244.0.5/24")),
    routes=(
        RouteFact("0.0.0.0/0", "eth0", "10.244.0.1"),
        RouteFact("10.244.0.0/24", "eth0", source="10.244.0.5"),
        RouteFact("10.96.0.0/12", "eth0", "10.244.0.2"),
    ),
    rules=_RULES,
)
# A container that has nothing but the macvlan to come.
EMPTY = HostFacts(links=(LOOPBACK,), addresses=(AddressFact("lo", "127.0.0.1/8"),), rules=_RULES)


# -- plans


def planned(
    asked: Request,
    pod: HostFacts = CALICO,
    *,
    addressing: Addressing | None = None,
    nic: LinkFact = NIC,
    node: HostFacts = NODE,
) -> Plan:
    """The plan of a request, with the addresses it names itself unless others are given."""
    return planning.plan(
        request=asked,
        addressing=addressing or Addressing(asked.sources, asked.gateways),
        forwards=(),
        master=nic,
        node=node,
        pod=pod,
        random_bytes=bytes,
    )


def shown_route(route: Route) -> str:
    """A route as ip(8) writes it."""
    parts = [route.destination]
    parts += ["via", route.gateway] if route.gateway else []
    parts += ["dev", route.interface]
    parts += ["table", str(route.table)] if route.table != 254 else []
    parts += ["src", route.source] if route.source else []
    parts += ["onlink"] if route.onlink else []
    return " ".join(parts)


def shown_rule(rule: Rule) -> str:
    """A rule as ip(8) writes it, with its family in front."""
    parts = [f"-{rule.family}", f"{rule.priority}:"]
    parts += ["from", rule.source or "all"]
    parts += ["oif", rule.oif] if rule.oif else []
    parts += ["lookup", "main" if rule.table == 254 else str(rule.table)]
    if rule.suppress_prefix_length is not None:
        parts += ["suppress_prefixlength", str(rule.suppress_prefix_length)]
    return " ".join(parts)


def shown(plan: Plan) -> dict[str, list[str]]:
    """The addresses, routes and rules of a plan."""
    return {
        "addresses": [
            f"{one.address}{'' if one.prefix_route else ' noprefixroute'}" for one in plan.addresses
        ],
        "routes": [shown_route(route) for route in plan.routes],
        "rules": [shown_rule(rule) for rule in plan.rules],
    }
