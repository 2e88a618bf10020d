"""What the kernel has to be able to do: done for real, in throwaway namespaces, by the very code of an ADD."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import get_args

from ...attach import apply
from ...decide import planning, redirect
from ...decide.addressing import Addressing
from ...decide.mac import choose as choose_mac
from ...decide.plan import Address, Link, Plan
from ...decide.request import merge
from ...kernel import neighbours, sysctl
from ...kernel.netlink import Netlink
from ...kernel.netns import Sandbox, in_new_namespace
from ...kernel.nftables import MissingLibrary, Nftables
from ...model import keys
from ...model.annotations import PodAnnotations
from ...model.configuration import Configuration, Mode
from ...protocol.errors import KERNEL_REFUSED, CniError
from . import policy_trial
from .check import Check
from .finding import Finding, bad, good
from .node import Node
from .throwaway import NoNic, in_child, make_nic, with_pod

_SECONDS = 20.0
_NIC, _MAIN = "nic0", "eth0"
# Addresses for documentation (RFC 5737, RFC 3849)
_NODE = ("192.0.2.10/24", "2001:db8::10/64")
_POD = ("198.51.100.2/24", "2001:db8:1::2/64")
_SOURCE = ("192.0.2.99/24", "2001:db8::99/64")
_GATEWAY = ("192.0.2.1", "2001:db8::1")
# A line of every form, so that every kind of rule is tried.
_DESTINATIONS = (
    "80 tcp 203.0.113.1 8080\n8000-8010 udp 203.0.113.1,203.0.113.2\n203.0.113.3",
    "80 tcp 2001:db8:2::1 8080\n8000-8010 sctp 2001:db8:2::1,2001:db8:2::2\n2001:db8:2::3",
)
_PROBE_MS = 10


def _features(_node: Node) -> list[Finding]:
    return in_child(_trials, _SECONDS)


CHECKS = (Check("kernel features", _features, needs_root=True),)


def _trials() -> Iterator[Finding]:
    try:
        in_new_namespace(lambda: None)
    except CniError as error:
        yield bad("network-namespaces", str(error))
        return
    yield good("network-namespaces", "a namespace can be made and entered")
    yield from with_pod(_try_all)


def _try_all(pod: Sandbox) -> Iterator[Finding]:
    ipv6 = sysctl.has_ipv6()
    if not ipv6:
        yield bad("ipv6", "/proc/sys/net/ipv6 is not there")
    try:
        plan = _prepare(pod, families=2 if ipv6 else 1)
    except NoNic as error:
        yield bad("macvlan-untried", error.msg)
        return
    yield from _try_macvlans(plan, pod)
    yield from _try_nftables(plan, pod)


def _prepare(pod: Sandbox, *, families: int) -> Plan:
    """Make a node and a pod as a main CNI leaves it, and plan an ADD with everything in it."""

    def dress(name: str, addresses: tuple[str, ...]) -> None:
        make_nic(name)
        with Netlink() as netlink:
            for one in addresses[:families]:
                netlink.add_address(name, Address(address=one), kernel_dad=False)

    dress(_NIC, _NODE)
    pod.run(lambda: dress(_MAIN, _POD))
    configuration = Configuration.of({"master": _NIC, "conflictDetection": "off"})
    annotations = PodAnnotations.of(
        {
            keys.ASSIGN: "true",
            f"{keys.PREFIX}source": ",".join(_SOURCE[:families]),
            f"{keys.PREFIX}gateway": ",".join(_GATEWAY[:families]),
            f"{keys.PREFIX}destination": "\n".join(_lines(families)),
        }
    )
    request = merge(configuration, {}, annotations, ifname=_MAIN, chained=True)
    forwards = redirect.forwards(request.destinations, {}, request.families, ())
    facts = apply.facts_of(pod, lambda found: redirect.settings(request, found))
    with Netlink() as netlink:
        node = netlink.facts()
    nic = next(one for one in node.links if one.name == _NIC)
    addressing = Addressing(request.sources, request.gateways)
    return planning.plan(request, addressing, forwards, nic, node, facts, os.urandom)


def _lines(families: int) -> Iterator[str]:
    """The lines that name a port have to come before those that take everything else."""
    texts = [text.split("\n") for text in _DESTINATIONS[:families]]
    ports = [line for lines in texts for line in lines[:-1]]
    # Each local port belongs to one line only, whatever its family.
    yield from ports
    yield from (lines[-1] for lines in texts)


# -- the interface -----------------------------------------------------------------------------------------------


def _try_macvlans(plan: Plan, pod: Sandbox) -> Iterator[Finding]:
    refused: dict[str, str] = {}
    modes: tuple[str, ...] = get_args(Mode)
    for mode in modes:
        try:
            _try_mode(mode, plan, pod)
        except CniError as error:
            refused[mode] = str(error)
    if len(refused) == len(modes):
        yield bad("macvlan", refused[plan.link.mode])
        return
    if refused:
        yield bad("macvlan-modes", "; ".join(f"{mode}: {words}" for mode, words in refused.items()))
    else:
        yield good("macvlan-modes", f"{', '.join(modes)} can be made")
    try:
        _make(plan.link, pod)
    except CniError as error:
        yield bad("macvlan", str(error))
        return
    yield good("macvlan", "one was made in another namespace under its final name, and set up")
    yield from _tried("sysctls", lambda: pod.run(lambda: _write_settings(plan)))
    yield from _tried("addresses-and-routes", lambda: pod.run(lambda: _address(plan)))
    yield from _tried("packet-sockets", lambda: pod.run(lambda: _probe(plan)))


def _try_mode(mode: str, plan: Plan, pod: Sandbox) -> None:
    """A macvlan of a mode is made, is of that mode, and is removed: passthru takes the NIC alone."""
    mac = choose_mac("kernel", (), os.urandom, ())
    link = Link(name=f"try-{mode}", master=_NIC, mode=mode, mtu=plan.link.mtu, mac=mac)
    _make(link, pod)

    def look_and_remove() -> str:
        with Netlink() as netlink:
            found = netlink.link(link.name)
            netlink.delete_link(link.name)
        return found.mode if found else "none"

    if (found := pod.run(look_and_remove)) != mode:
        raise CniError(KERNEL_REFUSED, f"asked for, and got {found}")


def _make(link: Link, pod: Sandbox) -> None:
    with Netlink() as netlink:
        nic = netlink.link(_NIC)
        netlink.create_macvlan(link, nic.index if nic else 0, pod.fd)

    def set_up() -> None:
        with Netlink() as inside:
            inside.set_up(link.name)

    pod.run(set_up)


def _write_settings(plan: Plan) -> str:
    for setting in plan.sysctls:
        sysctl.write(setting.key, setting.value)
    return f"all {len(plan.sysctls)} that an egress pod needs were written"


def _address(plan: Plan) -> str:
    with Netlink() as netlink:
        for address in plan.addresses:
            netlink.add_address(plan.link.name, address, kernel_dad=False)
        for route in plan.routes:
            netlink.add_route(route)
        for rule in plan.rules:
            netlink.add_rule(rule)
    return (
        f"{len(plan.addresses)} addresses, {len(plan.routes)} routes and {len(plan.rules)} rules were added"
    )


def _probe(plan: Plan) -> str:
    hosts = [ipaddress.ip_interface(one.address).ip for one in plan.addresses]
    neighbours.find_claim(plan.link.name, plan.link.mac, hosts, neighbours.fast_schedule(_PROBE_MS))
    return "ARP probes and neighbour solicitations were sent"


# -- nftables ----------------------------------------------------------------------------------------------------


def _try_nftables(plan: Plan, pod: Sandbox) -> Iterator[Finding]:
    try:
        with Nftables():
            yield good("libnftables", "it can be loaded")
    except MissingLibrary as error:
        yield bad("libnftables", error.msg)
        return
    except CniError as error:
        yield bad("nftables", str(error))
        return
    found = list(_tried("nftables", lambda: pod.run(_try_inet)))
    yield from found
    if any(one.severity != "ok" for one in found):
        return
    yield from _tried("redirect-rules", lambda: pod.run(lambda: _try_ruleset(plan)))
    for hook in ("ingress", "egress"):
        yield from _tried(f"netdev-{hook}", partial(_try_hook, hook))
    yield from _tried("policy-rules", lambda: policy_trial.install(_NIC, plan))


def _try_inet() -> str:
    with Nftables() as nftables:
        nftables.run("add table inet try\ndelete table inet try\n", "make a table")
    return "a table of family inet was made"


def _try_ruleset(plan: Plan) -> str:
    with Nftables() as nftables:
        nftables.replace(plan.ruleset)
        rules = sum("rule" in one for one in nftables.objects())
    return f"{rules} rules of {len(plan.forwards)} destinations were installed"


def _try_hook(hook: str) -> str:
    chain = f'{{ type filter hook {hook} device "{_NIC}" priority filter; policy accept; }}'
    with Nftables() as nftables:
        nftables.run(
            f"add table netdev try\nadd chain netdev try {hook} {chain}\n", f"make a chain at {hook}"
        )
        with suppress(CniError):  # the namespace goes anyway
            nftables.run("delete table netdev try\n", "remove the chain")
    return f"a chain was hooked to an interface's {hook}"


def _tried(kind: str, attempt: Callable[[], str]) -> Iterator[Finding]:
    try:
        yield good(kind, attempt())
    except CniError as error:
        yield bad(kind, str(error))
