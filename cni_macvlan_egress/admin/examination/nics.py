"""The NICs that pods are attached to: those that the configuration names, or the one that `auto` finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ...decide import master
from ...decide.facts import ETHERNET, HostFacts, LinkFact
from ...decide.request import Request, merge
from ...model.annotations import MTU_MIN_IPV6, PodAnnotations
from ...model.configuration import Configuration
from ...protocol.errors import CniError
from . import nic_facts, platforms
from .check import Check
from .finding import Finding, bad, good, listed
from .node import Node

_STACKED = ("macvlan", "macvtap", "ipvlan")
_NEARLY = 0.8  # of a NIC's filters


@dataclass(frozen=True, slots=True)
class _Named:
    """A NIC as it is spoken of.

    Attributes:
        why: where its name comes from.
        path: the file, if it is from one.
    """

    name: str
    why: str
    path: str = ""


def _choice(node: Node) -> Iterator[Finding]:
    for one in _named(node):
        link = node.facts.link(one.name)
        if link is None:
            usable = [other.name for other in node.facts.links if not master.refusal(other)]
            evidence = f"{one.name}, {one.why}; usable ones are: {listed(usable) or 'none'}"
            yield bad("nic-missing", evidence, path=one.path, nics=usable or ["none"])
        elif not (problem := _problem(one, link, node.facts)):
            kind = nic_facts.driver(link) or link.kind or "unknown driver"
            yield good("nic-choice", f"{one.name} ({one.why}): {kind}, MAC {link.mac}, MTU {link.mtu}")
        else:
            yield problem
    if _auto(node):
        try:
            master.choose(_request(), _as_if_usable(node.facts))
        except CniError as error:
            yield bad("nic-choice", error.msg)


def _problem(one: _Named, link: LinkFact, facts: HostFacts) -> Finding | None:
    """Why it carries no macvlan."""
    if link.kind in _STACKED:
        return bad("nic-stacked", f"{one.name} ({one.why}) is of kind {link.kind}", nic=link.name)
    if link.loopback or link.hardware != ETHERNET:
        what = "the loopback interface" if link.loopback else f"of hardware type {link.hardware}"
        return bad("nic-not-ethernet", f"{one.name} ({one.why}) is {what}")
    if link.controller:
        controller = facts.link(link.controller)
        kind = (controller.kind if controller else "") or "unknown kind"
        evidence = f"{one.name} ({one.why}) is a port of {link.controller} ({kind})"
        return bad("nic-port", evidence, controller=link.controller)
    if not link.up:
        return bad("nic-down", f"{one.name} ({one.why}) is not up", nic=link.name)
    if reason := master.refusal(link):
        return bad("nic-choice", f"{one.name} ({one.why}): {reason}")
    return None


def _condition(node: Node) -> Iterator[Finding]:
    for link in _links(node):
        if link.up and not link.carrier:
            yield bad("nic-carrier", f"{link.name} is up and has no carrier", nic=link.name)
        elif link.up:
            yield good("nic-carrier", f"{link.name} has a carrier")
        for below in _hardware(link, node.facts):
            if nic_facts.is_promiscuous(below):
                yield bad("nic-promiscuous", f"{below.name} has flag PROMISC", nic=below.name)
            if nic_facts.is_wireless(below):
                yield bad("nic-wireless", f"{below.name} has a wireless device below /sys")


def _platform(node: Node) -> Iterator[Finding]:
    machine, tag = nic_facts.machine(), nic_facts.asset_tag()
    for link in _links(node):
        for below in _hardware(link, node.facts):
            driver = nic_facts.driver(below)
            found = platforms.of(driver, machine, tag)
            if found is None:
                continue
            evidence = f"{below.name} has driver {driver}, the machine says it is: {machine or 'nothing'}"
            kind = "nic-cloud" if found.cloud else "nic-hypervisor"
            yield bad(kind, f"{evidence} ({found.name})", cure=found.cure)


def _mtu(node: Node) -> Iterator[Finding]:
    for link in _links(node):
        if link.mtu < MTU_MIN_IPV6 and node.facts.ipv6:
            yield bad("nic-mtu-ipv6", f"{link.name} has MTU {link.mtu}", nic=link.name)
        for entry in node.entries:
            asked = entry.configuration.get("mtu")
            if isinstance(asked, int) and asked > link.mtu:
                evidence = f'"mtu": {asked}, and {link.name} has {link.mtu}'
                yield bad("nic-mtu", evidence, path=entry.file.path, mtu=str(link.mtu))


def _filters(node: Node) -> Iterator[Finding]:
    """Macvlans in other namespaces show only as far as they are ours."""
    attached = [
        found.record.plan.link.master
        for found in node.attachments[0]
        if found.record.plan is not None and found.state != "gone"
    ]
    for link in _links(node):
        here = sum(
            one.kind in _STACKED and one.parent == link.index and one.parent_netns is None
            for one in node.facts.links
        )
        count = here + attached.count(link.name)
        for below in _hardware(link, node.facts):
            driver = nic_facts.driver(below)
            limit = platforms.filters(driver)
            if count >= limit * _NEARLY:
                evidence = f"{link.name} carries {count}, and driver {driver or 'unknown'} has about {limit}"
                yield bad("nic-filters", evidence)
            elif count:
                yield good("nic-filters", f"{link.name} carries {count} macvlans, of about {limit}")


CHECKS = (
    Check("the NIC to attach to", _choice),
    Check("the NIC's condition", _condition),
    Check("the NIC's platform", _platform),
    Check("the NIC's MTU", _mtu),
    Check("the NIC's macvlans", _filters, needs_root=True),
)


def _named(node: Node) -> list[_Named]:
    """Every NIC that counts, each once."""
    found: dict[str, _Named] = {}
    for entry in node.entries:
        value = entry.configuration.get("master", "auto")
        if isinstance(value, str) and value != "auto":
            found.setdefault(value, _Named(value, '"master" names it', entry.file.path))
        grants = entry.configuration.get("allow")
        for grant in grants if isinstance(grants, list) else []:
            masters = grant.get("masters") if isinstance(grant, dict) else None
            for name in masters if isinstance(masters, list) else []:
                if isinstance(name, str):
                    found.setdefault(name, _Named(name, "a grant names it", entry.file.path))
    if _auto(node):
        try:
            link = master.choose(_request(), _as_if_usable(node.facts))
        except CniError:
            return list(found.values())
        found.setdefault(link.name, _Named(link.name, '"auto" takes the default route\'s'))
    return list(found.values())


def _auto(node: Node) -> bool:
    return all(one.configuration.get("master", "auto") == "auto" for one in node.entries)


def _request() -> Request:
    """A pod that says nothing of where it wants to be."""
    return merge(Configuration.of({}), {}, PodAnnotations(), ifname="eth0", chained=True)


def _as_if_usable(facts: HostFacts) -> HostFacts:
    """What `auto` would take if nothing spoke against it: what does is a finding of its own."""
    links = tuple(
        replace(one, up=True, kind="", controller="", hardware=ETHERNET, loopback=False)
        for one in facts.links
    )
    return replace(facts, links=links)


def _links(node: Node) -> Iterator[LinkFact]:
    for one in _named(node):
        link = node.facts.link(one.name)
        if link is not None:
            yield link


def _hardware(link: LinkFact, facts: HostFacts) -> Iterable[LinkFact]:
    """The interfaces below a bond, bridge or VLAN; else the NIC itself."""
    below = [
        one
        for one in facts.links
        if one.controller == link.name
        or (link.kind == "vlan" and one.index == link.parent and link.parent_netns is None)
    ]
    nics = [one for one in below if one.parent_netns is None]  # less the ends of pods' veths
    return nics or [link]
