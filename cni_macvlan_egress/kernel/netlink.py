"""The only module that speaks rtnetlink.

A Netlink is bound to the namespace of the thread that opens it and used in that thread alone. Errors of the kernel
become CniError here, with what was being tried.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from ..decide.facts import MAIN_TABLE, AddressFact, HostFacts, LinkFact, RouteFact, RuleFact
from ..decide.plan import PROTOCOL, Address, Link, Route, Rule
from ..protocol.errors import INTERFACE_EXISTS, KERNEL_REFUSED, MASTER_UNUSABLE, CniError
from . import sysctl
from .rtnetlink import IPRoute, NetlinkError

_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFA_F_NODAD = 0x02
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_IFA_F_NOPREFIXROUTE = 0x200
_RTN_UNICAST = 1
_RTNH_F_ONLINK = 4
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_FAMILIES = {4: 2, 6: 10}  # AF_INET, AF_INET6
_UNSET = 0xFFFFFFFF
_GONE = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO)


class Netlink:
    """A netlink socket in the calling thread's namespace."""

    def __init__(self) -> None:
        with _asking("open a netlink socket"):
            # groups=0: only answers, no events; ext_ack: the kernel's own words for a refusal
            self._route = IPRoute(groups=0, ext_ack=True)

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
            addresses=self._addresses(names),
            routes=self._routes(names),
            rules=self._rules() if rules else (),
            ipv6=sysctl.has_ipv6(),
        )

    def links(self) -> tuple[LinkFact, ...]:
        """Every interface."""
        with _asking("list the interfaces"):
            messages = list(self._route.get_links())
        names = {message["index"]: message.get("ifname") for message in messages}
        return tuple(_link_fact(message, names) for message in messages)

    def link(self, name: str) -> LinkFact | None:
        """One interface, None if there is none of that name."""
        try:
            with _asking(f"look up interface {name}"):
                found = list(self._route.link("get", ifname=name))
        except KernelError as error:
            if error.number in _GONE:
                return None
            raise
        return _link_fact(found[0], {}) if found else None

    def _addresses(self, names: dict[int, str]) -> tuple[AddressFact, ...]:
        with _asking("list the addresses"):
            messages = list(self._route.get_addr())
        found = []
        for message in messages:
            # A point-to-point address has its own end in IFA_LOCAL, the peer's in IFA_ADDRESS.
            address = message.get("local") or message.get("address")
            if not address or message["index"] not in names:
                continue
            flags = message.get("IFA_FLAGS") or message["flags"]
            found.append(
                AddressFact(
                    interface=names[message["index"]],
                    address=f"{address}/{message['prefixlen']}",
                    tentative=bool(flags & _IFA_F_TENTATIVE),
                    duplicate=bool(flags & _IFA_F_DADFAILED),
                )
            )
        return tuple(found)

    def _routes(self, names: dict[int, str]) -> tuple[RouteFact, ...]:
        with _asking("list the routes"):
            messages = [*self._route.get_routes(family=2), *self._route.get_routes(family=10)]
        found = []
        for message in messages:
            if message["type"] != _RTN_UNICAST or message["flags"] & 0x200:  # RTM_F_CLONED: a cache entry
                continue
            everything = "0.0.0.0" if message["family"] == 2 else "::"  # noqa: S104
            for hop in message.get("multipath") or [message]:
                interface = names.get(hop.get("oif") or hop.get_attr("RTA_OIF") or 0)
                if interface is None:
                    continue
                found.append(
                    RouteFact(
                        destination=f"{message.get('dst') or everything}/{message['dst_len']}",
                        interface=interface,
                        gateway=_gateway(hop),
                        table=message.get("table") or MAIN_TABLE,
                        source=message.get("prefsrc"),
                        onlink=bool(message["flags"] & _RTNH_F_ONLINK),
                        metric=message.get("priority") or 0,
                        protocol=message["proto"],
                    )
                )
        return tuple(found)

    def _rules(self) -> tuple[RuleFact, ...]:
        with _asking("list the policy routing rules"):
            messages = [*self._route.get_rules(family=2), *self._route.get_rules(family=10)]
        found = []
        for message in messages:
            source = message.get_attr("FRA_SRC")
            suppress = message.get_attr("FRA_SUPPRESS_PREFIXLEN")
            found.append(
                RuleFact(
                    family=4 if message["family"] == 2 else 6,
                    priority=message.get_attr("FRA_PRIORITY") or 0,
                    table=message.get_attr("FRA_TABLE") or message["table"],
                    source=f"{source}/{message['src_len']}" if source else None,
                    oif=message.get_attr("FRA_OIFNAME"),
                    iif=message.get_attr("FRA_IIFNAME"),
                    suppress_prefix_length=None if suppress in (None, _UNSET) else suppress,
                )
            )
        return tuple(found)

    # -- links -----------------------------------------------------------------------------------------------

    def create_macvlan(self, link: Link, master_index: int, netns_fd: int) -> None:
        """Create a macvlan straight inside another namespace, under its final name, still down.

        Raises:
            CniError: INTERFACE_EXISTS, MASTER_UNUSABLE, KERNEL_REFUSED.
        """
        try:
            with _asking(f"create macvlan {link.name} on {link.master} (mode {link.mode})"):
                self._route.link(
                    "add",
                    ifname=link.name,
                    kind="macvlan",
                    link=master_index,
                    macvlan_mode=link.mode,
                    mtu=link.mtu,
                    address=link.mac,
                    net_ns_fd=netns_fd,
                )
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
                self._route.link("set", index=self._index(name), state="up")
        except KernelError as error:
            if error.number in (errno.EBUSY, errno.EADDRINUSE):
                raise CniError(
                    MASTER_UNUSABLE,
                    f"cannot set {name} up: another macvlan on the same NIC has its MAC address",
                    error.details,
                ) from None
            raise

    def delete_link(self, name: str) -> None:
        """Delete an interface; one that is gone is no error."""
        link = self.link(name)
        if link is not None:
            with _asking(f"delete interface {name}"), _gone_is_fine():
                self._route.link("del", index=link.index)

    # -- addresses, routes, rules ----------------------------------------------------------------------------

    def add_address(self, name: str, address: Address, *, kernel_dad: bool) -> None:
        """Add an address; without the kernel's DAD it is usable at once."""
        interface = ipaddress.ip_interface(address.address)
        flags = 0 if address.prefix_route else _IFA_F_NOPREFIXROUTE
        if interface.version == 6 and not kernel_dad:
            flags |= _IFA_F_NODAD
        arguments: dict[str, Any] = {"family": _FAMILIES[interface.version]}
        if interface.version == 4 and interface.network.prefixlen < 31:
            arguments["broadcast"] = str(interface.network.broadcast_address)
        with _asking(f"add address {interface} to {name}"):
            self._route.addr(
                "add",
                index=self._index(name),
                address=str(interface.ip),
                prefixlen=interface.network.prefixlen,
                IFA_FLAGS=flags,
                **arguments,
            )

    def add_route(self, route: Route) -> None:
        """Add a route, marked as ours."""
        with _asking(f"add route {describe(route)}"):
            self._route.route("add", **self._route_arguments(route))

    def delete_route(self, route: Route) -> None:
        """Delete a route of ours; one that is gone, or has lost its interface, is no error."""
        with _gone_is_fine(), _asking(f"delete route {describe(route)}"):
            self._route.route("del", **self._route_arguments(route))

    def add_rule(self, rule: Rule) -> None:
        """Add a policy routing rule, marked as ours."""
        with _asking(f"add rule priority {rule.priority}"):
            self._route.rule("add", **_rule_arguments(rule))

    def delete_rule(self, rule: Rule) -> None:
        """Delete a rule of ours; one that is gone is no error."""
        with _gone_is_fine(), _asking(f"delete rule priority {rule.priority}"):
            self._route.rule("del", **_rule_arguments(rule))

    def delete_marked(self) -> None:
        """Delete every rule and route that bears our protocol number."""
        for family in _FAMILIES.values():
            with _asking("remove our rules and routes"), _gone_is_fine():
                for message in list(self._route.get_rules(family=family)):
                    if message.get_attr("FRA_PROTOCOL") == PROTOCOL:
                        self._route.rule("del", family=family, priority=message.get_attr("FRA_PRIORITY"))
                self._route.flush_routes(family=family, proto=PROTOCOL)

    def tentative(self, name: str) -> tuple[list[str], list[str]]:
        """The addresses of an interface that DAD has not released yet, and those it found taken."""
        with _asking(f"list the addresses of {name}"):
            index = self._index(name)
            held = [one for one in self._addresses({index: name}) if one.interface == name]
        return (
            [one.address for one in held if one.tentative and not one.duplicate],
            [one.address for one in held if one.duplicate],
        )

    def _route_arguments(self, route: Route) -> dict[str, Any]:
        destination = ipaddress.ip_network(route.destination)
        arguments: dict[str, Any] = {
            "family": _FAMILIES[destination.version],
            "dst": str(destination),
            "oif": self._index(route.interface),
            "table": route.table,
            "proto": PROTOCOL,
        }
        if route.gateway:
            arguments["gateway"] = route.gateway
        if destination.version == 4:
            arguments["scope"] = _RT_SCOPE_UNIVERSE if route.gateway else _RT_SCOPE_LINK
        if route.source:
            arguments["prefsrc"] = route.source
        if route.onlink:
            arguments["flags"] = _RTNH_F_ONLINK
        return arguments

    def _index(self, name: str) -> int:
        found = self._route.link_lookup(ifname=name)
        if not found:
            raise KernelError(f"find interface {name}", errno.ENODEV, "")
        return int(found[0])


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
        raise KernelError(what, abs(error.code), str(error.args[1] if len(error.args) > 1 else "")) from None
    except OSError as error:
        raise KernelError(what, error.errno or errno.EIO, "") from None


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except KernelError as error:
        if error.number not in _GONE:
            raise


def _link_fact(message: Any, names: dict[int, str]) -> LinkFact:  # noqa: ANN401
    info = message.get_attr("IFLA_LINKINFO")
    data = info.get_attr("IFLA_INFO_DATA") if info else None
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    controller = message.get_attr("IFLA_MASTER") or 0
    return LinkFact(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME") or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & _IFF_UP),
        kind=kind,
        mode=(data.get_attr("IFLA_MACVLAN_MODE") or "") if kind == "macvlan" and data else "",
        hardware=message["ifi_type"],
        loopback=bool(message["flags"] & _IFF_LOOPBACK),
        carrier=bool(message.get_attr("IFLA_CARRIER")),
        controller=names.get(controller, str(controller)) if controller else "",
        parent=message.get_attr("IFLA_LINK") or 0,
    )


def _gateway(hop: Any) -> str | None:  # noqa: ANN401
    gateway = hop.get_attr("RTA_GATEWAY")
    if gateway:
        return str(gateway)
    via = hop.get_attr("RTA_VIA")  # RFC 5549: an IPv4 route through an IPv6 neighbour
    return str(via["addr"]) if via else None


def _rule_arguments(rule: Rule) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "family": _FAMILIES[rule.family],
        "priority": rule.priority,
        "table": rule.table,
        "FRA_PROTOCOL": PROTOCOL,
    }
    if rule.source:
        address, _, length = rule.source.partition("/")
        arguments |= {"src": address, "src_len": int(length)}
    if rule.oif:
        arguments["oifname"] = rule.oif
    if rule.iif:
        arguments["iifname"] = rule.iif
    if rule.suppress_prefix_length is not None:
        arguments["FRA_SUPPRESS_PREFIXLEN"] = rule.suppress_prefix_length
    return arguments
