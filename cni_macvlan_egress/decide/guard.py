"""Where the traffic of macvlans is held: at the egress hook of the NIC that they sit on, as nft commands.

There a frame does not tell whose it is, but by its MAC address, and that is the word of whoever sent it. So each MAC
address goes with the IP addresses that are its holder's; and what bears the node's own has to come from a socket or by
a route of the node's (sockets of other namespaces do not count, for `meta skuid`), with a source that is the node's or
that it forwards. Whoever forges both hears no answer: that goes to the true holder.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .enforcement import KINDS, TABLE, fixed, quoted
from .interfaces import FORGED, PRIORITY, by_source, short

UNKNOWN = "unknown"
# LACP, 802.1X and LLDP: for the switch, which hands them on to nobody (IEEE 802.1Q, 8.6.3)
_FOR_THE_SWITCH = "{ 0x8809, 0x888e, 0x88cc }"


@dataclass(frozen=True, slots=True)
class Guest:
    """A macvlan on a NIC.

    Attributes:
        namespace: empty if no policy holds for it.
        addresses: those that it may send from; empty where the pod chooses for itself.
        near: IPv6 networks on its link.
    """

    key: str
    namespace: str
    mac: str
    addresses: tuple[str, ...] = ()
    near: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guard:
    """A NIC with its macvlans.

    Attributes:
        own: MAC addresses of the node itself.
        networks: sources that the node forwards through the NIC beside its own addresses.
        vlans: whether the node itself has VLANs on the NIC.
        strict: frames that come neither from a guest nor from the node are dropped.
    """

    index: int
    device: str
    guests: tuple[Guest, ...]
    own: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    vlans: bool = False
    strict: bool = True

    @property
    def name(self) -> str:
        """What its chains and maps begin with."""
        return f"guard-{self.index}"


def put_guard(guard: Guard, old: Guard | None = None) -> str:
    """Hold the macvlans of a NIC, in the place of what held them before.

    Raises:
        CniError: INVALID_CONFIGURATION for an interface name that nftables cannot write.
    """
    name, device = guard.name, quoted(guard.device)
    base = f"device {device} priority {PRIORITY}; policy accept;"
    lines = []
    for chain, hook in ((name, "egress"), (f"{name}-in", "ingress")):
        lines.append(f"add chain {TABLE} {chain} {{ type filter hook {hook} {base} }}")
        lines.append(f"flush chain {TABLE} {chain}")
    lines += [
        f"add chain {TABLE} {name}-own",
        f"flush chain {TABLE} {name}-own",
        *(f"add map {TABLE} {one} {{ type ether_addr : verdict; }}" for one in (name, f"{name}-in")),
        *(f"flush map {TABLE} {one}" for one in (name, f"{name}-in")),
    ]
    for family, (_, kind, _) in KINDS.items():
        if old is not None and old.networks == guard.networks:
            continue  # filled anew, it would be found empty by a packet that passes at that very moment
        lines += [
            f"add set {TABLE} {name}-from{family} {{ type {kind}; flags interval; }}",
            f"flush set {TABLE} {name}-from{family}",
        ]
        if found := _of_family(guard.networks, family):
            lines.append(f"add element {TABLE} {name}-from{family} {{ {', '.join(found)} }}")
    kept = {one.key for one in guard.guests}
    lines += [
        f"delete chain {TABLE} {_chain(one.key)}"
        for one in (old.guests if old else ())
        if one.key not in kept
    ]
    policed = [one for one in guard.guests if one.namespace]
    before = {one.key: one for one in old.guests} if old else {}
    for guest in guard.guests:
        if before.get(guest.key) == guest and (guest.namespace or guest.addresses):
            continue
        chain = _chain(guest.key)
        lines += [f"add chain {TABLE} {chain}", f"flush chain {TABLE} {chain}"]
        lines += [f"add rule {TABLE} {chain} {rule}" for rule in _rules(guest, policed)]
    lines += [f"add rule {TABLE} {name}-own {rule}" for rule in _own(guard)]
    known = {one.mac: _chain(one.key) for one in guard.guests}
    if guard.strict:  # a guest in mode passthru has the NIC's own address
        known = {**dict.fromkeys(guard.own, f"{name}-own"), **known}
    out = [f"{mac} : goto {chain}" for mac, chain in known.items()]
    into = [f"{one.mac} : goto {fixed(one.namespace, 'in')}" for one in policed]
    lines += [
        f"add element {TABLE} {name} {{ {', '.join(out)} }}",
        f"add element {TABLE} {name}-in {{ {', '.join(into)} }}",
        f"add rule {TABLE} {name} ether saddr vmap @{name}",
        f"add rule {TABLE} {name}-in ether daddr vmap @{name}-in",
    ]
    if guard.strict:
        lines.append(f"add rule {TABLE} {name} counter drop comment {quoted(UNKNOWN)}")
    return "\n".join((*lines, ""))


def drop_guard(guard: Guard) -> str:
    """Let a NIC be."""
    name = guard.name
    lines = [f"delete chain {TABLE} {name}", f"delete chain {TABLE} {name}-in"]
    lines += [f"delete map {TABLE} {name}", f"delete map {TABLE} {name}-in"]
    lines += [f"delete chain {TABLE} {name}-own"]
    lines += [f"delete set {TABLE} {name}-from{family}" for family in KINDS]
    lines += [f"delete chain {TABLE} {_chain(one.key)}" for one in guard.guests]
    return "\n".join((*lines, ""))


def _rules(guest: Guest, policed: Sequence[Guest]) -> Iterator[str]:
    if guest.namespace:
        verdicts = {family: f"goto {fixed(guest.namespace, f'ip{family}')}" for family in KINDS}
        yield from by_source(guest.mac, guest.addresses, verdicts, guest.near)
    elif guest.addresses:
        yield from by_source(guest.mac, guest.addresses, dict.fromkeys(KINDS, "accept"))
    else:
        for family, (word, _, _) in KINDS.items():
            if others := _of_family([address for one in policed for address in one.addresses], family):
                yield f"{word} saddr {{ {', '.join(others)} }} counter drop comment {quoted(FORGED)}"
        yield "accept"


def _own(guard: Guard) -> Iterator[str]:
    if guard.own:
        yield f"ether type arp meta protocol arp arp saddr ether {{ {', '.join(guard.own)} }} accept"
    yield f"ether type {_FOR_THE_SWITCH} accept"
    if guard.vlans:
        yield "ether type { 0x8100, 0x88a8 } accept"
    for family, (word, _, _) in KINDS.items():
        match = f"ether type {word} meta protocol {word}"
        yield f"{match} meta skuid >= 0 accept"
        if family == 6:
            yield f"{match} meta rtclassid >= 0 ip6 saddr {{ fe80::/10, :: }} accept"
        yield f"{match} meta rtclassid >= 0 {word} saddr @{guard.name}-from{family} accept"
        yield f"{match} meta rtclassid >= 0 fib saddr type local accept"
    yield f"counter drop comment {quoted(FORGED)}"


def _of_family(networks: Sequence[str], family: int) -> list[str]:
    found = [ipaddress.ip_network(one) for one in networks]
    mine = [one for one in found if one.version == family]
    return [str(one) for one in ipaddress.collapse_addresses(mine)]  # type: ignore[type-var]


def _chain(key: str) -> str:
    return f"lan-{short(key)}"
