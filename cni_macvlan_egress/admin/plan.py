"""`macvlan-egress plan`: what an ADD of a manifest's pods would do on this node. Changes nothing."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..attach import apply
from ..attach.preparation import prepare
from ..decide import planning, redirect
from ..decide.addressing import Addressing
from ..decide.facts import AddressFact, HostFacts, LinkFact, RouteFact
from ..decide.plan import Plan, Route, Rule
from ..decide.request import Pod, Request, merge
from ..kernel import sysctl
from ..kernel.netlink import describe
from ..kernel.netns import Sandbox
from ..model.annotations import PodAnnotations
from ..model.configuration import Configuration
from ..protocol.errors import INVALID_CONFIGURATION, CniError
from .manifests import CONF_DIRECTORY, Entry, PodManifest, node_entry, pods
from .progress import Progress

_MAIN_INTERFACE = "eth0"
_ASSUMED_ADDRESS, _ASSUMED_GATEWAY = "10.88.0.2/24", "10.88.0.1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "-f", "--filename", required=True, metavar="MANIFEST", help="Kubernetes manifest (YAML or JSON)"
    )
    parser.add_argument(
        "--conflist",
        metavar="FILE",
        help=f"CNI configuration with the plugin's entry (default: the first one in {CONF_DIRECTORY})",
    )
    parser.add_argument(
        "--netns",
        metavar="PATH",
        help="the namespace of a pod as the main CNI leaves it (default: one is assumed, with eth0 "
        f"{_ASSUMED_ADDRESS} and a default route by {_ASSUMED_GATEWAY})",
    )
    parser.add_argument("--json", action="store_true", help="print the plans as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan of every pod in the manifest; 1 if one could not be attached."""
    entry = node_entry(arguments.conflist)
    configuration = Configuration.of(entry.configuration)
    failed = False
    documents: list[dict[str, Any]] = []
    for manifest in pods(arguments.filename):
        try:
            with Progress(manifest.title):
                planned = _plan(manifest, entry, configuration, arguments.netns)
        except CniError as error:
            failed = True
            documents.append({"pod": manifest.title, "error": {"code": error.code, "msg": error.msg}})
            lines = [f"  error {error.code}: {error.msg}", *([f"  {error.details}"] if error.details else [])]
        else:
            documents.append({"pod": manifest.title, "plan": planned and _document(*planned)})
            lines = list(_lines(*planned)) if planned else ["  asks for nothing: passed through"]
        if not arguments.json:
            print("\n".join((f"{manifest.title}, namespace {manifest.namespace}", *lines)))
    if not documents:
        raise CniError(
            INVALID_CONFIGURATION, f"{arguments.filename}: no pod, and nothing that makes pods, in it"
        )
    if arguments.json:
        print(json.dumps(documents, indent=2))
    return 1 if failed else 0


def _plan(
    manifest: PodManifest, entry: Entry, configuration: Configuration, netns: str | None
) -> tuple[Request, Plan] | None:
    annotations = PodAnnotations.of(manifest.annotations)
    chained = entry.position > 0
    if chained and not annotations.attach:
        return None
    request = merge(configuration, {}, annotations, ifname=_MAIN_INTERFACE, chained=chained)
    if request.use_ipam:
        raise CniError(
            INVALID_CONFIGURATION,
            "the IPAM plugin gives the address at ADD; a plan without one cannot be made",
        )
    prepared = prepare(configuration, request, Pod(manifest.namespace, manifest.name))
    if netns:
        with Sandbox(netns, allow_own=True) as sandbox:
            pod = apply.facts_of(sandbox, lambda facts: redirect.settings(request, facts))
    else:
        pod = _assumed(request, prepared.nic.mtu, chained)
    addressing = Addressing(request.sources, request.gateways)
    plan = planning.plan(request, addressing, prepared.forwards, prepared.nic, prepared.node, pod, os.urandom)
    return request, plan


def _assumed(request: Request, mtu: int, chained: bool) -> HostFacts:
    """A pod as a plain main CNI leaves it, with the settings that a new namespace has here."""
    if not chained:
        return HostFacts(ipv6=sysctl.has_ipv6())
    facts = HostFacts(
        links=(LinkFact(index=2, name=_MAIN_INTERFACE, mac="", mtu=mtu, up=True, kind="veth"),),
        addresses=(AddressFact(_MAIN_INTERFACE, _ASSUMED_ADDRESS),),
        routes=(RouteFact("0.0.0.0/0", _MAIN_INTERFACE, gateway=_ASSUMED_GATEWAY),),
        ipv6=sysctl.has_ipv6(),
    )
    settings: dict[str, str] = {}
    for key in redirect.settings(request, facts):
        value = sysctl.read(key.replace(f"/{_MAIN_INTERFACE}/", "/default/"))
        if value is not None:
            settings[key] = "0" if key.endswith("forwarding") else value
    return HostFacts(facts.links, facts.addresses, facts.routes, ipv6=facts.ipv6, settings=settings)


def _document(request: Request, plan: Plan) -> Mapping[str, Any]:
    document = asdict(plan)
    if request.mac == "kernel":
        document["link"]["mac"] = None
    return document


def _lines(request: Request, plan: Plan) -> Iterator[str]:
    link = plan.link
    mac = "a MAC address drawn at ADD" if request.mac == "kernel" else link.mac
    yield f"  link     {link.name}: macvlan on {link.master}, mode {link.mode}, mtu {link.mtu}, {mac}"
    yield from _labelled("sysctl", (f"{one.key.replace('/', '.')} = {one.value}" for one in plan.sysctls))
    if plan.addresses:
        yield f"  conflict detection {plan.conflicts.detection}"
    yield from _labelled("address", (one.address for one in plan.addresses))
    yield from _labelled("route", map(_route, plan.routes))
    yield from _labelled("rule", map(_rule, plan.rules))
    if plan.ruleset:
        yield "  nftables, in the pod:"
        yield from (f"    {line}".rstrip() for line in plan.ruleset.expandtabs(2).splitlines())


def _labelled(label: str, texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        yield f"  {label:<8} {text}"
        label = ""


def _route(route: Route) -> str:
    source = f" src {route.source}" if route.source else ""
    return f"{describe(route)}{source}{' onlink' if route.onlink else ''}"


def _rule(rule: Rule) -> str:
    words = [f"{rule.priority}:"]
    for word, value in (("from", rule.source or "all"), ("iif", rule.iif), ("oif", rule.oif)):
        if value:
            words += [word, value]
    words += ["lookup", str(rule.table)]
    if rule.suppress_prefix_length is not None:
        words += ["suppress_prefixlength", str(rule.suppress_prefix_length)]
    return f"{' '.join(words)} (IPv{rule.family})"
