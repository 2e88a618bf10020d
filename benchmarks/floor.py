"""The kernel's part of an attachment: the requests that the plugin ends up making, and nothing around them.

They are made in this process, by pyroute2 sockets that are open and warm. What to ask for is read from a pod
that the plugin has attached, so that it stays the same as what the plugin does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from types import TracebackType
from typing import Any, Self

from pyroute2 import IPRoute

from cni_macvlan_egress.admin.theatre.namespace import Namespace
from cni_macvlan_egress.decide.facts import HostFacts, LinkFact, RouteFact, RuleFact
from cni_macvlan_egress.decide.plan import PROTOCOL

from .cluster import NIC, Cluster, Pod, inside
from .process import BenchmarkError, Sample

_FAMILIES = {4: 2, 6: 10}  # AF_INET, AF_INET6
_IFA_F_NOPREFIXROUTE = 0x200
_SCOPE_LINK = 253
_KERNELS_OWN_PRIORITIES = (0, 32766, 32767)  # ip-rule(8): local, main, default

Request = dict[str, Any]


class Floor:
    """The same attachment in another pod, again and again.

    Args:
        attached: what was found in a pod that the plugin has attached.
        interface: its macvlan.
    """

    def __init__(self, cluster: Cluster, pod: Pod, attached: HostFacts, interface: str) -> None:
        link = attached.link(interface)
        if link is None:
            raise BenchmarkError(f"the attached pod has no {interface}")
        self._link = link
        self._netns_fd = pod.namespace.fd
        self._addresses = [_address(one) for one in attached.addresses_of(interface)]
        ours = [one for one in attached.routes if one.interface == interface and one.protocol == PROTOCOL]
        # A gateway must be reachable before a route can lead to it.
        self._routes = [_route(one) for one in sorted(ours, key=lambda one: one.gateway is not None)]
        self._rules = [_rule(one) for one in attached.rules if one.priority not in _KERNELS_OWN_PRIORITIES]
        if not (self._addresses and self._routes and self._rules):
            raise BenchmarkError("the attached pod has no address, route or rule of the plugin's")
        self._undo = contextlib.ExitStack()
        with self._undo:
            self._node = self._open(cluster.node)
            self._pod = self._open(pod.namespace)
            self._master = self._node.link_lookup(ifname=NIC)[0]
            self._undo = self._undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    @property
    def requests(self) -> str:
        """What an ADD asks of the kernel, in words."""
        return (
            f"link, up, {len(self._addresses)} address, {len(self._routes)} routes, {len(self._rules)} rules"
        )

    def add(self) -> Sample:
        """Attach once."""
        with _Stopwatch() as watch:
            self._create(self._link)
            index = self._pod.link_lookup(ifname=self._link.name)[0]
            self._pod.link("set", index=index, state="up")
            for address in self._addresses:
                self._pod.addr("add", index=index, **address)
            for route in self._routes:
                self._pod.route("add", oif=index, **route)
            for rule in self._rules:
                self._pod.rule("add", **rule)
        return watch.sample

    def delete(self) -> Sample:
        """Detach again."""
        with _Stopwatch() as watch:
            for rule in self._rules:
                self._pod.rule("del", **rule)
            index = self._pod.link_lookup(ifname=self._link.name)[0]
            self._pod.link("del", index=index)
        return watch.sample

    def _create(self, link: LinkFact) -> None:
        self._node.link(
            "add",
            ifname=link.name,
            kind="macvlan",
            link=self._master,
            macvlan_mode=link.mode,
            mtu=link.mtu,
            address=link.mac,
            net_ns_fd=self._netns_fd,
        )

    def _open(self, namespace: Namespace) -> IPRoute:
        with inside(namespace):
            opened = self._undo.enter_context(IPRoute(groups=0))
            list(opened.get_links())
        return opened


class _Stopwatch:
    def __enter__(self) -> Self:
        self._cpu = time.process_time_ns()
        self._wall = time.perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall = time.perf_counter_ns() - self._wall
        self.sample = Sample(wall / 1e6, (time.process_time_ns() - self._cpu) / 1e6)


def _address(text: str) -> Request:
    interface = ipaddress.ip_interface(text)
    return {
        "family": _FAMILIES[interface.version],
        "address": str(interface.ip),
        "prefixlen": interface.network.prefixlen,
        "IFA_FLAGS": _IFA_F_NOPREFIXROUTE,
    }


def _route(route: RouteFact) -> Request:
    request: Request = {
        "family": _FAMILIES[ipaddress.ip_network(route.destination).version],
        "dst": route.destination,
        "table": route.table,
        "proto": PROTOCOL,
    }
    if route.gateway:
        request["gateway"] = route.gateway
    else:
        request["scope"] = _SCOPE_LINK
    if route.source:
        request["prefsrc"] = route.source
    return request


def _rule(rule: RuleFact) -> Request:
    request: Request = {
        "family": _FAMILIES[rule.family],
        "priority": rule.priority,
        "table": rule.table,
        "FRA_PROTOCOL": PROTOCOL,
    }
    if rule.source:
        address, _, length = rule.source.partition("/")
        request |= {"src": address, "src_len": int(length)}
    if rule.oif:
        request["oifname"] = rule.oif
    return request
