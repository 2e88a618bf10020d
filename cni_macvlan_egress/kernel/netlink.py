"""The only module that speaks rtnetlink.

A Netlink is bound to the namespace of the thread that opens it and used in that thread alone. Errors of the kernel
become CniError here, with what was being tried.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from socket import if_indextoname, inet_ntop, inet_pton
from struct import Struct
from types import TracebackType
from typing import Self

from ..decide.facts import MAIN_TABLE, AddressFact, HostFacts, LinkFact, RouteFact, RuleFact
from ..decide.plan import PROTOCOL, Address, Link, Route, Rule
from ..model.addresses import parsed
from ..protocol.errors import INTERFACE_EXISTS, KERNEL_REFUSED, MASTER_UNUSABLE, CniError
from ..turns import waiting
from . import sysctl
from .messages import (
    NESTED,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Attributes,
    NetlinkError,
    Rtnetlink,
    attribute,
    attributes,
    read_text,
    read_u32,
    text,
    u32,
)

# linux/rtnetlink.h, if_link.h, if_addr.h, fib_rules.h
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_GETNSID = 90
_NETNSA_NSID, _NETNSA_FD = 1, 3
_LINK = Struct("=BxHiII")  # family, ARPHRD_ number, index, flags, change
_ADDRESS = Struct("=BBBBi")  # family, prefix length, flags, scope, index
# family, dst_len, src_len, tos, table, protocol, scope, type, flags; of rules the eighth is the action
_ROUTE = Struct("=BBBBBBBBI")
_HOP = Struct("=HBBi")  # length, flags, hops, index
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_EXT_MASK, _IFLA_CARRIER, _IFLA_LINK_NETNSID = 18, 28, 29, 33, 37
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_MACVLAN_MODE = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH = 1, 4, 5, 6, 7, 9
_RTA_TABLE, _RTA_VIA = 15, 18
_FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE = 2, 3, 6, 14, 15
_FRA_OIFNAME, _FRA_PROTOCOL = 17, 21
_RTEXT_FILTER_SKIP_STATS = 8
_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
_MODE_NAMES = {number: name for name, number in _MODES.items()}
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFA_F_NODAD = 0x02
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_IFA_F_NOPREFIXROUTE = 0x200
_RTM_F_CLONED = 0x200
_RTN_UNICAST = 1
_RTNH_F_ONLINK = 4
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RT_TABLE_UNSPEC = 0
_FR_ACT_TO_TBL = 1
_FAMILIES = {4: 2, 6: 10}  # AF_INET, AF_INET6
_UNSET = 0xFFFFFFFF
_GONE = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO)


class Netlink:
    """A netlink socket in the calling thread's namespace."""

    def __init__(self) -> None:
        with _asking("open a netlink socket"):
            self._route = Rtnetlink()
        self._indexes: dict[str, int] = {}

    def close(self) -> None:
        """Close the socket."""
        self._route.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what is there ---------------------------------------------------------------------------------------

    def facts(self, *, rules: bool = False) -> HostFacts:
        """Links, addresses, unicast routes and, if asked, rules of the namespace."""
        links = self.links()
        names = {link.index: link.name for link in links}
        return HostFacts(
            links=links,
            addresses=_address_facts(self._address_messages(), names),
            routes=self._routes(names),
            rules=self._rules() if rules else (),
            ipv6=sysctl.has_ipv6(),
        )

    def links(self) -> tuple[LinkFact, ...]:
        """Every interface."""
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_EXT_MASK, u32(_RTEXT_FILTER_SKIP_STATS))
        with _asking("list the interfaces"):
            messages = [(one, attributes(one, _LINK.size)) for one in self._route.dump(_GETLINK, body)]
        names = {_LINK.unpack_from(one)[2]: read_text(found.get(_IFLA_IFNAME)) for one, found in messages}
        return tuple(_link_fact(one, found, names) for one, found in messages)

    def addresses(
        self, versions: Iterable[int] = tuple(_FAMILIES), *, at: int = 0
    ) -> tuple[AddressFact, ...]:
        """Every address that others could reach: all but link-local IPv6 ones, of which each pod's veth has one.

        Args:
            versions: of IP.
            at: index of an interface, if only its own are wanted.
        """
        kept = []
        for version in versions:
            for message in self._address_messages(_FAMILIES[version], at):
                family, _, _, scope, index = _ADDRESS.unpack_from(message)
                # A kernel before 4.20 does not choose by the interface.
                if (family, scope) != (_FAMILIES[6], _RT_SCOPE_LINK) and at in (0, index):
                    kept.append(message)
        return _address_facts(kept, _names({_ADDRESS.unpack_from(one)[4] for one in kept}))

    def link(self, name: str) -> LinkFact | None:
        """One interface, None if there is none of that name."""
        return self._one_link(f"interface {name}", 0, attribute(_IFLA_IFNAME, text(name)))

    def link_at(self, index: int) -> LinkFact | None:
        """One interface, None if there is none of that index."""
        return self._one_link(f"interface number {index}", index, b"")

    def netns_id(self, fd: int) -> int | None:
        """The ID that this namespace has for another one (ip-netns(8), list-id), None if it has none."""
        with _asking("look up a namespace's ID"):
            (found,) = self._route.request(_GETNSID, bytes(4) + attribute(_NETNSA_FD, u32(fd)))
        number = int.from_bytes(
            attributes(found, 4).get(_NETNSA_NSID, b"\xff" * 4), sys.byteorder, signed=True
        )
        return None if number < 0 else number

    def _one_link(self, what: str, index: int, wanted: bytes) -> LinkFact | None:
        body = _LINK.pack(0, 0, index, 0, 0) + wanted
        body += attribute(_IFLA_EXT_MASK, u32(_RTEXT_FILTER_SKIP_STATS))
        try:
            with _asking(f"look up {what}"):
                (found,) = self._route.request(_GETLINK, body)
        except KernelError as error:
            if error.number in _GONE:
                return None
            raise
        return _link_fact(found, attributes(found, _LINK.size), {})

    def _address_messages(self, family: int = 0, index: int = 0) -> list[bytes]:
        with _asking("list the addresses"):
            return self._route.dump(_GETADDR, _ADDRESS.pack(family, 0, 0, 0, index))

    def default_routes(self) -> tuple[RouteFact, ...]:
        """Those alone, of every table; IPv6 ones only if there are no others, because each link has IPv6 routes."""
        kept: list[bytes] = []
        for family in _FAMILIES.values():
            # The second byte is the length of the destination's prefix.
            kept = kept or [one for one in self._route_messages(family) if one[1] == 0]
        indexes = {index for one in kept for index, _ in _hops(attributes(one, _ROUTE.size))}
        return _route_facts(kept, _names(indexes))

    def _routes(self, names: dict[int, str]) -> tuple[RouteFact, ...]:
        messages = [one for family in _FAMILIES.values() for one in self._route_messages(family)]
        return _route_facts(messages, names)

    def _route_messages(self, family: int) -> list[bytes]:
        with _asking("list the routes"):
            body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, _RTN_UNICAST, 0)
            return self._route.dump(_GETROUTE, body)

    def _rules(self) -> tuple[RuleFact, ...]:
        found = []
        for family, message in self._rule_messages():
            _, _, length, _, table, *_ = _ROUTE.unpack_from(message)
            held = attributes(message, _ROUTE.size)
            source = held.get(_FRA_SRC)
            suppress = read_u32(held.get(_FRA_SUPPRESS_PREFIXLEN), _UNSET)
            found.append(
                RuleFact(
                    family=family,
                    priority=read_u32(held.get(_FRA_PRIORITY)),
                    table=read_u32(held.get(_FRA_TABLE), table),
                    source=f"{inet_ntop(_FAMILIES[family], source)}/{length}" if source else None,
                    oif=read_text(held.get(_FRA_OIFNAME)) or None,
                    iif=read_text(held.get(_FRA_IIFNAME)) or None,
                    suppress_prefix_length=None if suppress == _UNSET else suppress,
                )
            )
        return tuple(found)

    def _rule_messages(self) -> Iterator[tuple[int, bytes]]:
        for family, number in _FAMILIES.items():
            with _asking("list the policy routing rules"):
                messages = self._route.dump(_GETRULE, _ROUTE.pack(number, 0, 0, 0, 0, 0, 0, 0, 0))
            for message in messages:
                yield family, message

    # -- links -----------------------------------------------------------------------------------------------

    def create_macvlan(self, link: Link, master_index: int, netns_fd: int) -> None:
        """Create a macvlan straight inside another namespace, under its final name, still down.

        Raises:
            CniError: INTERFACE_EXISTS, MASTER_UNUSABLE, KERNEL_REFUSED.
        """
        try:
            with _asking(f"create macvlan {link.name} on {link.master} (mode {link.mode})"):
                data = attribute(_IFLA_MACVLAN_MODE, u32(_MODES[link.mode]))
                info = attribute(_IFLA_INFO_KIND, b"macvlan") + attribute(_IFLA_INFO_DATA | NESTED, data)
                body = b"".join(
                    (
                        _LINK.pack(0, 0, 0, 0, 0),
                        attribute(_IFLA_IFNAME, text(link.name)),
                        attribute(_IFLA_LINK, u32(master_index)),
                        attribute(_IFLA_MTU, u32(link.mtu)),
                        attribute(_IFLA_ADDRESS, bytes.fromhex(link.mac.replace(":", ""))),
                        attribute(_IFLA_NET_NS_FD, u32(netns_fd)),
                        attribute(_IFLA_LINKINFO | NESTED, info),
                    )
                )
                self._route.request(_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)
        except KernelError as error:
            if error.number == errno.EEXIST:
                raise CniError(
                    INTERFACE_EXISTS,
                    f"an interface {link.name!r} appeared in the pod meanwhile; set another 'ifName'",
                ) from None
            if error.number in (errno.EBUSY, errno.EINVAL) and link.mode == "passthru":
                raise CniError(
                    MASTER_UNUSABLE,
                    f"NIC {link.master!r} already carries a macvlan; mode passthru takes a NIC alone",
                    str(error),
                ) from None
            if error.number in (errno.EBUSY, errno.EINVAL, errno.ENODEV):
                raise CniError(
                    MASTER_UNUSABLE,
                    f"NIC {link.master!r} cannot carry a macvlan now: {os.strerror(error.number)}; it may be in use "
                    "by a passthru macvlan, ipvlan, bridge or bond, or be gone",
                    str(error),
                ) from None
            raise

    def set_up(self, name: str) -> None:
        """Set an interface up.

        Raises:
            CniError: MASTER_UNUSABLE if another macvlan of the NIC has the same MAC address, KERNEL_REFUSED.
        """
        try:
            with _asking(f"set {name} up"):
                self._route.request(_NEWLINK, _LINK.pack(0, 0, self._index(name), _IFF_UP, _IFF_UP))
        except KernelError as error:
            if error.number in (errno.EBUSY, errno.EADDRINUSE):
                raise CniError(
                    MASTER_UNUSABLE,
                    f"cannot set {name} up: another macvlan on the same NIC has its MAC address",
                    error.details,
                ) from None
            raise

    def announce(self, name: str, mac: str) -> None:
        """Have the kernel tell the LAN every address of an interface.

        It does so when the MAC address is set, be it to what it is, where arp_notify and ndisc_notify are on. A
        packet socket of our own would cost an RCU grace period (10 ms) to close.
        """
        with _asking(f"announce the addresses of {name}"):
            body = _LINK.pack(0, 0, self._index(name), 0, 0)
            body += attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
            self._route.request(_NEWLINK, body)

    def delete_link(self, name: str) -> None:
        """Delete an interface; one that is gone is no error."""
        link = self.link(name)
        if link is not None:
            # The kernel waits for an RCU grace period.
            with _asking(f"delete interface {name}"), _gone_is_fine(), waiting():
                self._route.request(_DELLINK, _LINK.pack(0, 0, link.index, 0, 0))

    # -- addresses, routes, rules ----------------------------------------------------------------------------

    def add_address(self, name: str, address: Address, *, kernel_dad: bool) -> None:
        """Add an address; without the kernel's DAD it is usable at once."""
        interface = parsed(address.address)
        flags = 0 if address.prefix_route else _IFA_F_NOPREFIXROUTE
        if interface.version == 6 and not kernel_dad:
            flags |= _IFA_F_NODAD
        length = interface.network.prefixlen
        packed = interface.ip.packed
        with _asking(f"add address {interface} to {name}"):
            body = _ADDRESS.pack(_FAMILIES[interface.version], length, 0, 0, self._index(name))
            body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
            body += attribute(_IFA_FLAGS, u32(flags))
            if interface.version == 4 and length < 31:
                body += attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
            self._route.request(_NEWADDR, body, NLM_F_CREATE | NLM_F_EXCL)

    def delete_address(self, name: str, address: str) -> None:
        """Delete an address, given with its prefix length; one that is gone is no error."""
        interface = parsed(address)
        body = _ADDRESS.pack(
            _FAMILIES[interface.version], interface.network.prefixlen, 0, 0, self._index(name)
        )
        with _gone_is_fine(), _asking(f"delete address {interface} of {name}"):
            self._route.request(_DELADDR, body + attribute(_IFA_LOCAL, interface.ip.packed))

    def add_route(self, route: Route) -> None:
        """Add a route, marked as ours."""
        with _asking(f"add route {describe(route)}"):
            self._route.request(_NEWROUTE, self._route_body(route), NLM_F_CREATE | NLM_F_EXCL)

    def delete_route(self, route: Route) -> None:
        """Delete a route of ours; one that is gone, or has lost its interface, is no error."""
        with _gone_is_fine(), _asking(f"delete route {describe(route)}"):
            self._route.request(_DELROUTE, self._route_body(route))

    def add_rule(self, rule: Rule) -> None:
        """Add a policy routing rule, marked as ours."""
        with _asking(f"add rule priority {rule.priority}"):
            self._route.request(_NEWRULE, _rule_body(rule), NLM_F_CREATE | NLM_F_EXCL)

    def delete_rule(self, rule: Rule) -> None:
        """Delete a rule of ours; one that is gone is no error."""
        with _gone_is_fine(), _asking(f"delete rule priority {rule.priority}"):
            self._route.request(_DELRULE, _rule_body(rule))

    def delete_marked(self) -> None:
        """Delete every rule and route that bears our protocol number."""
        for _, message in list(self._rule_messages()):
            if attributes(message, _ROUTE.size).get(_FRA_PROTOCOL) == bytes((PROTOCOL,)):
                with _asking("remove our rules"), _gone_is_fine():
                    self._route.request(_DELRULE, message)
        for family in _FAMILIES.values():
            with _asking("list the routes"):
                messages = self._route.dump(_GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
            for message in messages:
                if _ROUTE.unpack_from(message)[5] == PROTOCOL:
                    with _asking("remove our routes"), _gone_is_fine():
                        self._route.request(_DELROUTE, message)

    def tentative(self, name: str) -> tuple[list[str], list[str]]:
        """The addresses of an interface that DAD has not released yet, and those it found taken."""
        with _asking(f"list the addresses of {name}"):
            index = self._index(name)
            held = [
                one
                for one in _address_facts(self._address_messages(index=index), {index: name})
                if one.interface == name
            ]
        return (
            [one.address for one in held if one.tentative and not one.duplicate],
            [one.address for one in held if one.duplicate],
        )

    def _route_body(self, route: Route) -> bytes:
        destination = ipaddress.ip_network(route.destination)
        family = _FAMILIES[destination.version]
        scope = _RT_SCOPE_LINK if destination.version == 4 and not route.gateway else _RT_SCOPE_UNIVERSE
        flags = _RTNH_F_ONLINK if route.onlink else 0
        body = _ROUTE.pack(
            family, destination.prefixlen, 0, 0, _RT_TABLE_UNSPEC, PROTOCOL, scope, _RTN_UNICAST, flags
        )
        body += attribute(_RTA_OIF, u32(self._index(route.interface))) + attribute(
            _RTA_TABLE, u32(route.table)
        )
        if destination.prefixlen:
            body += attribute(_RTA_DST, destination.network_address.packed)
        if route.gateway:
            body += attribute(_RTA_GATEWAY, inet_pton(family, route.gateway))
        if route.source:
            body += attribute(_RTA_PREFSRC, inet_pton(family, route.source))
        return body

    def _index(self, name: str) -> int:
        if name not in self._indexes:
            link = self.link(name)
            if link is None:
                raise KernelError(f"find interface {name}", errno.ENODEV, "")
            self._indexes[name] = link.index
        return self._indexes[name]


class KernelError(CniError):
    """A request that the kernel refused.

    Attributes:
        number: errno.
    """

    def __init__(self, what: str, number: int, words: str) -> None:
        reason = os.strerror(number)
        super().__init__(
            KERNEL_REFUSED,
            f"cannot {what}: {reason}{_hint(number)}",
            f"errno {errno.errorcode.get(number, number)}{': ' + words if words and words != reason else ''}",
        )
        self.number = number


def describe(route: Route) -> str:
    """A route as ip(8) writes it."""
    via = f" via {route.gateway}" if route.gateway else ""
    table = f" table {route.table}" if route.table != MAIN_TABLE else ""
    return f"{route.destination}{via} dev {route.interface}{table}"


def _hint(number: int) -> str:
    return {
        errno.EPERM: "; the plugin must run as root (CAP_NET_ADMIN)",
        errno.ENETUNREACH: "; the gateway is not reachable on that link",
        errno.EHOSTUNREACH: "; the gateway is not reachable on that link",
        errno.ENETDOWN: "; the NIC went down meanwhile",
        errno.EOPNOTSUPP: "; this kernel lacks the feature (is the macvlan module there?)",
        errno.ENOBUFS: "; the node is short of memory",
        errno.ENOMEM: "; the node is short of memory",
    }.get(number, "")


@contextmanager
def _asking(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise KernelError(what, error.errno or errno.EIO, error.words) from None
    except OSError as error:
        raise KernelError(what, error.errno or errno.EIO, "") from None


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except KernelError as error:
        if error.number not in _GONE:
            raise


def _link_fact(message: bytes, held: Attributes, names: dict[int, str]) -> LinkFact:
    _, hardware, index, flags, _ = _LINK.unpack_from(message)
    info = attributes(held.get(_IFLA_LINKINFO) or b"")
    kind = read_text(info.get(_IFLA_INFO_KIND))
    mode = attributes(info.get(_IFLA_INFO_DATA) or b"").get(_IFLA_MACVLAN_MODE) if kind == "macvlan" else None
    controller = read_u32(held.get(_IFLA_MASTER))
    return LinkFact(
        index=index,
        name=read_text(held.get(_IFLA_IFNAME)),
        mac=(held.get(_IFLA_ADDRESS) or b"").hex(":"),
        mtu=read_u32(held.get(_IFLA_MTU)),
        up=bool(flags & _IFF_UP),
        kind=kind,
        mode=_MODE_NAMES.get(read_u32(mode), ""),
        hardware=hardware,
        loopback=bool(flags & _IFF_LOOPBACK),
        carrier=held.get(_IFLA_CARRIER) == b"\1",
        controller=names.get(controller, str(controller)) if controller else "",
        parent=read_u32(held.get(_IFLA_LINK)),
        parent_netns=read_u32(held[_IFLA_LINK_NETNSID]) if _IFLA_LINK_NETNSID in held else None,
    )


def _address_facts(messages: list[bytes], names: dict[int, str]) -> tuple[AddressFact, ...]:
    found = []
    for message in messages:
        family, length, flags, _, index = _ADDRESS.unpack_from(message)
        held = attributes(message, _ADDRESS.size)
        # A point-to-point address has its own end in IFA_LOCAL, the peer's in IFA_ADDRESS.
        address = held.get(_IFA_LOCAL) or held.get(_IFA_ADDRESS)
        if not address or index not in names:
            continue
        flags = read_u32(held.get(_IFA_FLAGS), flags)
        found.append(
            AddressFact(
                interface=names[index],
                address=f"{inet_ntop(family, address)}/{length}",
                tentative=bool(flags & _IFA_F_TENTATIVE),
                duplicate=bool(flags & _IFA_F_DADFAILED),
            )
        )
    return tuple(found)


def _names(indexes: set[int]) -> dict[int, str]:
    found = {}
    for index in indexes:
        with suppress(OSError):  # gone meanwhile
            found[index] = if_indextoname(index)
    return found


def _route_facts(messages: list[bytes], names: dict[int, str]) -> tuple[RouteFact, ...]:
    found = []
    for message in messages:
        family, length, _, _, table, protocol, _, kind, flags = _ROUTE.unpack_from(message)
        if kind != _RTN_UNICAST or flags & _RTM_F_CLONED:
            continue
        held = attributes(message, _ROUTE.size)
        destination = inet_ntop(family, held.get(_RTA_DST) or bytes(4 if family == 2 else 16))
        for index, hop in _hops(held):
            interface = names.get(index)
            if interface is None:
                continue
            source = held.get(_RTA_PREFSRC)
            found.append(
                RouteFact(
                    destination=f"{destination}/{length}",
                    interface=interface,
                    gateway=_gateway(family, hop),
                    table=read_u32(held.get(_RTA_TABLE), table),
                    source=inet_ntop(family, source) if source else None,
                    onlink=bool(flags & _RTNH_F_ONLINK),
                    metric=read_u32(held.get(_RTA_PRIORITY)),
                    protocol=protocol,
                )
            )
    return tuple(found)


def _hops(held: Attributes) -> Iterator[tuple[int, Attributes]]:
    """Index and attributes of each next hop of a route."""
    several = held.get(_RTA_MULTIPATH)
    if several is None:
        yield read_u32(held.get(_RTA_OIF)), held
        return
    start = 0
    while start + _HOP.size <= len(several):
        length, _, _, index = _HOP.unpack_from(several, start)
        yield index, attributes(several[start : start + length], _HOP.size)
        start += length + 3 & ~3


def _gateway(family: int, hop: Attributes) -> str | None:
    gateway = hop.get(_RTA_GATEWAY)
    if gateway:
        return inet_ntop(family, gateway)
    via = hop.get(_RTA_VIA)  # RFC 5549: an IPv4 route through an IPv6 neighbour
    return inet_ntop(int.from_bytes(via[:2], sys.byteorder), via[2:]) if via else None


def _rule_body(rule: Rule) -> bytes:
    family = _FAMILIES[rule.family]
    address, _, length = (rule.source or "").partition("/")
    body = _ROUTE.pack(family, 0, int(length or 0), 0, _RT_TABLE_UNSPEC, 0, 0, _FR_ACT_TO_TBL, 0)
    body += attribute(_FRA_PRIORITY, u32(rule.priority)) + attribute(_FRA_TABLE, u32(rule.table))
    body += attribute(_FRA_PROTOCOL, bytes((PROTOCOL,)))
    if rule.source:
        body += attribute(_FRA_SRC, inet_pton(family, address))
    if rule.oif:
        body += attribute(_FRA_OIFNAME, text(rule.oif))
    if rule.iif:
        body += attribute(_FRA_IIFNAME, text(rule.iif))
    if rule.suppress_prefix_length is not None:
        body += attribute(_FRA_SUPPRESS_PREFIXLEN, u32(rule.suppress_prefix_length))
    return body
