"""Brings a plan to the kernel, step by step, and takes it back."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from ..decide.facts import HostFacts, LinkFact
from ..decide.plan import Plan
from ..kernel import neighbours, sysctl
from ..kernel.netlink import Netlink
from ..kernel.netns import Sandbox
from ..kernel.nftables import MissingLibrary, Nftables
from ..model.addresses import parsed
from ..protocol.errors import ADDRESS_CONFLICT, KERNEL_REFUSED, CniError
from ..turns import waiting
from .announcing import announce

# A kernel's DAD takes a second a probe; RFC 4862 has one, dad_transmits may ask for more.
_DAD_TIMEOUT_SECONDS = 10.0
_DAD_POLL_SECONDS = 0.02


def facts_of(sandbox: Sandbox, settings: Callable[[HostFacts], Iterable[str]]) -> HostFacts:
    """What is in a pod's namespace, with the values of those settings below /proc/sys that matter in view of it."""

    def look() -> HostFacts:
        with Netlink() as netlink:
            facts = netlink.facts(rules=True)
        found = {key: sysctl.read(key) for key in settings(facts)}
        return replace(facts, settings={key: value for key, value in found.items() if value is not None})

    return sandbox.run(look)


def apply(plan: Plan, master_index: int, sandbox: Sandbox) -> None:
    """Do what the plan says; whoever calls takes it back with withdraw() if this fails.

    Raises:
        CniError: a step failed.
    """
    with Netlink() as netlink:
        netlink.create_macvlan(plan.link, master_index, sandbox.fd)
    sandbox.run(lambda: _configure(plan))


def withdraw(plan: Plan, sandbox: Sandbox, *, finished: bool) -> None:
    """Remove from the pod whatever of the plan is there.

    Args:
        finished: the ADD was completed, so that an interface of the planned name is ours even if its MAC address
            has been changed since; otherwise only the planned MAC address tells that it is.

    Raises:
        CniError: the kernel refused a removal.
    """

    def remove() -> None:
        with Netlink() as netlink:
            for setting in plan.sysctls:
                if setting.before is not None:
                    sysctl.restore(setting.key, setting.before)
            for rule in reversed(plan.rules):
                netlink.delete_rule(rule)
            for route in reversed(plan.routes):
                # The kernel removes those of the macvlan together with it.
                if route.interface != plan.link.name:
                    netlink.delete_route(route)
            if link := _ours(plan, netlink.links(), finished):
                netlink.delete_link(link.name)
        if plan.ruleset:
            # Last: nothing is forwarded unguarded, not even for a moment. Where the library has gone since, the table
            # stays in a namespace that has neither the macvlan nor forwarding any more; the pod can be deleted.
            with suppress(MissingLibrary):
                _remove_ruleset()

    sandbox.run(remove)


def sweep(interface: str, sandbox: Sandbox) -> None:
    """Remove a macvlan of which there is no record any more, with every rule and route that bears our mark."""

    def remove() -> None:
        with Netlink() as netlink:
            netlink.delete_marked()
            link = netlink.link(interface)
            if link is not None and link.kind == "macvlan":
                netlink.delete_link(interface)
        with suppress(MissingLibrary):  # then there is no table of ours either
            _remove_ruleset()

    sandbox.run(remove)


def present(plan: Plan, sandbox: Sandbox, *, finished: bool) -> LinkFact | None:
    """The plan's interface, if the pod has it."""

    def look() -> LinkFact | None:
        with Netlink() as netlink:
            return _ours(plan, netlink.links(), finished)

    return sandbox.run(look)


def _configure(plan: Plan) -> None:
    name = plan.link.name
    if plan.ruleset:
        _install_ruleset(plan.ruleset)
    with Netlink() as netlink:
        for setting in plan.sysctls:
            sysctl.write(setting.key, setting.value)
        netlink.set_up(name)
        _look_for_conflicts(plan)
        strict = plan.conflicts.detection == "strict"
        for address in plan.addresses:
            netlink.add_address(name, address, kernel_dad=strict)
        if strict:
            _wait_for_dad(netlink, name)
        for route in plan.routes:
            netlink.add_route(route)
        for rule in plan.rules:
            netlink.add_rule(rule)
        if plan.addresses:
            announce(netlink, plan.link.name, plan.link.mac, map(str, _hosts(plan)))


def _install_ruleset(ruleset: str) -> None:
    with Nftables() as nftables:
        nftables.replace(ruleset)


def _remove_ruleset() -> None:
    with Nftables() as nftables:
        nftables.delete()


def _look_for_conflicts(plan: Plan) -> None:
    if plan.conflicts.detection == "off" or not plan.addresses:
        return
    schedule = (
        neighbours.strict_schedule()
        if plan.conflicts.detection == "strict"
        else neighbours.fast_schedule(plan.conflicts.timeout_ms)
    )
    claim = neighbours.find_claim(plan.link.name, plan.link.mac, _hosts(plan), schedule)
    if claim is None:
        return
    deed = "is taking" if claim.probing else "holds"
    raise CniError(
        ADDRESS_CONFLICT,
        f"source address {claim.address} is in use on the LAN of {plan.link.master}: the host with MAC address "
        f"{claim.mac} {deed} it; free it there or choose another address",
    )


def _wait_for_dad(netlink: Netlink, name: str) -> None:
    deadline = time.monotonic() + _DAD_TIMEOUT_SECONDS
    while True:
        tentative, duplicate = netlink.tentative(name)
        if duplicate:
            raise CniError(
                ADDRESS_CONFLICT,
                f"address {', '.join(duplicate)} is in use on the LAN: the kernel's duplicate address detection "
                "found another holder; free it there or choose another address",
            )
        if not tentative:
            return
        if time.monotonic() > deadline:
            raise CniError(
                KERNEL_REFUSED,
                f"address {', '.join(tentative)} is still tentative after {_DAD_TIMEOUT_SECONDS:.0f} s: the NIC may "
                "have no carrier",
            )
        with waiting():
            time.sleep(_DAD_POLL_SECONDS)


def _hosts(plan: Plan) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    return [parsed(one.address).ip for one in plan.addresses]


def _ours(plan: Plan, links: tuple[LinkFact, ...], finished: bool) -> LinkFact | None:
    macvlans = [link for link in links if link.kind == "macvlan"]
    by_mac = [link for link in macvlans if link.mac == plan.link.mac]
    by_name = [link for link in macvlans if link.name == plan.link.name] if finished else []
    return next(iter([*by_name, *by_mac]), None)
