"""`macvlan-egress policy`: egress policies checked, explained, shown and put into force."""

from __future__ import annotations

import argparse
import ipaddress
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..attach import policies
from ..attach.enforcer import counts
from ..attach.policing import Policing, Report
from ..attach.policy_state import PolicyState
from ..decide import egress
from ..decide.enforced import Applied, Enforced, Hits
from ..decide.enforcement import BROKEN, DENIED, INBOUND, NODE, NONE, SPARED
from ..decide.guard import UNKNOWN
from ..decide.interfaces import FORGED
from ..log import Log
from ..model.complaints import printable
from ..model.configuration import Configuration
from ..model.policy import Answer, Network, Policy
from ..protocol.errors import INVALID_CONFIGURATION, CniError
from .manifests import CONF_DIRECTORY, node_entry
from .progress import Progress

_DESTINATION = re.compile(r"(?:\[([^]]+)\]|([^/\[\]]+?))(?::(\d{1,5}))?(?:/([a-z0-9]+))?", re.IGNORECASE)
_HOST = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_.:-]*[0-9A-Za-z_.:])?|::[0-9A-Fa-f:.]*")
_WORDS = {
    SPARED: "to the cluster and the node, never blocked",
    BROKEN: "refused because the policy cannot be enforced",
    NONE: "matched no rule",
    DENIED: "denied in all",
    NODE: "let through to the node itself",
    INBOUND: "answers to connections from outside",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    deeds = parser.add_subparsers(dest="deed", metavar="WHAT", required=True)
    validate = deeds.add_parser("validate", help="check policy documents (YAML or JSON)")
    validate.add_argument("filename", nargs="+", metavar="FILE", help="documents, or directories of them")
    explain = deeds.add_parser(
        "explain",
        help="say which rule decides about a destination, and why",
    )
    explain.add_argument("namespace", metavar="NAMESPACE")
    explain.add_argument(
        "destination", metavar="DESTINATION", help="an address or a name, as ADDRESS[:PORT][/PROTOCOL]"
    )
    explain.add_argument(
        "-f", "--filename", action="append", default=[], metavar="FILE", help="read these documents only"
    )
    status = deeds.add_parser("status", help="show policies in force, pods held, and what was denied")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    sync = deeds.add_parser("sync", help="bring the node's rules to what documents, names and pods ask for")
    sync.add_argument("--follow", action="store_true", help="stay, and do so whenever something changes")
    for one in (explain, status, sync):
        one.add_argument(
            "--conflist",
            metavar="FILE",
            help=f"CNI configuration with the plugin's entry (default: the first one in {CONF_DIRECTORY})",
        )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; 1 if something is wrong, or if the destination is denied."""
    if arguments.deed == "validate":
        return _validate(arguments.filename)
    if arguments.deed == "explain":
        return _explain(arguments)
    configuration = _configuration(arguments.conflist)
    if arguments.deed == "status":
        return _status(configuration, as_json=arguments.json)
    if arguments.follow:
        from .policy_follower import follow

        follow(configuration, _tell)
        return 0
    with Progress("documents, names and pods"):
        report = _policing(configuration).sync()
    return _tell(report)


def _policing(configuration: Configuration) -> Policing:
    return Policing(configuration, Log(configuration.log_file, configuration.log_level))


def _configuration(path: str | None) -> Configuration:
    configuration = Configuration.of(node_entry(path).configuration)
    if configuration.policy is None:
        raise CniError(
            INVALID_CONFIGURATION,
            'the plugin\'s entry has no key "policy"; add "policy": {} and clusterNetworks '
            "(docs/policies.md)",
        )
    return configuration


def _tell(report: Report) -> int:
    for change in report.changes:
        print(change)
    for problem in report.problems:
        sys.stderr.write(f"macvlan-egress policy: {problem}\n")
    if not report.changes:
        held = len(report.enforced.mains)
        print(f"all is in force: {len(report.enforced.namespaces)} policies, {held} pods")
    sys.stdout.flush()
    return 1 if report.problems else 0


# -- validate ---------------------------------------------------------------------------------------------------


def _validate(paths: Iterable[str]) -> int:
    from ..sources.policy_directory import read_paths

    with Progress("documents"):
        reading = read_paths(paths)
    sound = not reading.problems
    for policy in reading.policies.values():
        if policy.broken:
            print(f"{policy.title}: error: {policy.broken}")
            sound = False
            continue
        print(f"{policy.title}: ok: namespace {policy.namespace}, {len(policy.rules)} rules")
        for rule in policy.rules:
            if rule.name.startswith("*."):
                print(f"  rule {rule.number}: {rule.name} cannot be resolved: it matches nothing")
    for problem in reading.problems:
        print(f"error: {problem}")
    if sound and not reading.policies:
        print("error: no policy in it")
        return 1
    return 0 if sound else 1


# -- explain ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    host: str
    port: int | None
    protocol: str


def _explain(arguments: argparse.Namespace) -> int:
    wanted = _destination(arguments.destination)
    with Progress("documents and names"):
        policy, answers, networks = _known(arguments)
        addresses = _addresses(wanted.host, answers, networks)
    surroundings = egress.Surroundings(tuple(networks), answers)
    if policy is None:
        print(f"namespace {arguments.namespace} has no policy: all may pass")
        return 0
    print(policy.title)
    if not addresses:
        print(f"{wanted.host}: no address is known")
        return 1
    allowed = True
    for address in addresses:
        verdict = egress.verdict(
            policy, surroundings, ipaddress.ip_address(address), wanted.protocol, wanted.port
        )
        allowed &= verdict.allowed
        print(f"{address}{_service(wanted)}: {'allowed' if verdict.allowed else 'denied'}: {verdict.why}")
        if verdict.rule is not None and verdict.rule.name:
            found = answers.get(verdict.rule.name, Answer())
            left = max(0, round(found.expires - time.time()))
            known = ", ".join(found.addresses) or "no address"
            print(f"  {verdict.rule.name}: {known}, for {left} s{'; ' + found.error if found.error else ''}")
    return 0 if allowed else 1


def _known(arguments: argparse.Namespace) -> tuple[Policy | None, dict[str, Answer], Sequence[Network]]:
    """The policy in question, the addresses of its names, and what no policy blocks."""
    if arguments.filename:
        from ..sources.policy_directory import read_paths
        from ..sources.resolver import Resolver

        reading = read_paths(arguments.filename)
        for problem in reading.problems:
            sys.stderr.write(f"macvlan-egress policy explain: {problem}\n")
        policy = reading.policies.get(arguments.namespace)
        networks: Sequence[Network] = ()
        with suppress(CniError):
            networks = Configuration.of(node_entry(arguments.conflist).configuration).cluster_networks
        names = egress.names([policy] if policy else [])
        return policy, Resolver().ask(names, {}, time.time(), networks) if names else {}, networks
    configuration = _configuration(arguments.conflist)
    state = PolicyState(configuration.run_dir)
    policy = policies.of_namespace(configuration, state, arguments.namespace)
    answers = policies.Names(configuration, state).addresses([policy] if policy else [], everything=False)
    return policy, answers, configuration.cluster_networks


def _destination(text: str) -> _Wanted:
    with suppress(ValueError):
        return _Wanted(str(ipaddress.ip_address(text)), None, "")
    address, slash, protocol = text.rpartition("/")
    with suppress(ValueError):
        if slash:
            return _Wanted(str(ipaddress.ip_address(address)), None, protocol.lower())
    found = _DESTINATION.fullmatch(text)
    host = (found[1] or found[2]) if found else ""
    if found is None or not _HOST.fullmatch(host) or (found[3] and not 1 <= int(found[3]) <= 65535):
        raise CniError(
            INVALID_CONFIGURATION,
            f"{text!r}: a destination is written ADDRESS[:PORT][/PROTOCOL], IPv6 with a port in brackets",
        )
    port = int(found[3]) if found[3] else None
    return _Wanted(
        (found[1] or found[2]).lower().rstrip("."), port, (found[4] or ("tcp" if port else "")).lower()
    )


def _addresses(host: str, answers: dict[str, Answer], refuse: Sequence[Network]) -> list[str]:
    with suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    if host in answers:
        return list(answers[host].addresses)
    from ..sources.resolver import Resolver

    found = Resolver().ask([host], {}, time.time(), refuse)[host]
    if found.error:
        sys.stderr.write(f"macvlan-egress policy explain: {host}: {found.error}\n")
    return list(found.addresses)


def _service(wanted: _Wanted) -> str:
    port = f" {wanted.port}" if wanted.port else ""
    return f" ({wanted.protocol}{port})" if wanted.protocol else ""


# -- status -----------------------------------------------------------------------------------------------------


def _status(configuration: Configuration, *, as_json: bool) -> int:
    state = PolicyState(configuration.run_dir)
    enforced = state.load()
    if enforced is None:
        sys.stderr.write("macvlan-egress policy status: the state file cannot be read; run policy sync\n")
        return 1
    with Progress("the node's rules"):
        found = counts(state, enforced)
        differences = _policing(configuration).all_differences()
    answers = policies.kept_answers(state)
    if as_json:
        document = {
            "namespaces": {
                name: _document(enforced, name, applied, found.get(name, {}))
                for name, applied in enforced.namespaces.items()
            },
            "unattributed": {mark: _amount(hit) for mark, hit in found.get("", {}).items()},
            "names": {
                name: {"addresses": list(one.addresses), "expires": one.expires, "error": one.error}
                for name, one in answers.items()
            },
            "differences": differences,
        }
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(map(printable, _lines(enforced, found, answers, differences, state))))
    broken = any(one.broken for one in enforced.namespaces.values())
    return 1 if broken or differences else 0


def _lines(
    enforced: Enforced,
    found: dict[str, Hits],
    answers: dict[str, Answer],
    differences: Iterable[str],
    state: PolicyState,
) -> Iterator[str]:
    if not enforced.namespaces:
        yield "no policy is in force: no namespace with pods on this node has one"
    for name, applied in sorted(enforced.namespaces.items()):
        yield f"{name}: {applied.title}"
        if applied.broken:
            yield f"  ! nothing outside the cluster can be reached: {applied.broken}"
        hits = found.get(name, {})
        for number, text in applied.rules.items():
            packets, size = hits.get(number, (0, 0))
            yield f"  rule {number}: {text}: {packets} packets, {size} bytes"
        for mark, words in _WORDS.items():
            if mark in hits and (hits[mark][0] or mark == DENIED):
                yield f"  {words}: {hits[mark][0]} packets, {hits[mark][1]} bytes"
        for key, main in sorted(enforced.mains.items()):
            if main.namespace == name:
                note = state.note(key)
                pod = note.name if note and note.name else key[:12]
                where = (
                    f"at {main.device} on the node"
                    if main.side == "host"
                    else f"in the pod at {main.device}, where CAP_NET_ADMIN could undo it: there is no host end"
                )
                yield f"  pod {pod}: held {where}"
        for guard in enforced.guards.values():
            for guest in guard.guests:
                if guest.namespace == name:
                    yield f"  macvlan {guest.mac}: held at {guard.device}"
    unattributed = found.get("", {})
    for mark, words in ((FORGED, "forged sources"), (UNKNOWN, "macvlans and sources that nobody knows")):
        if unattributed.get(mark, (0, 0))[0]:
            yield f"dropped, {words}: {unattributed[mark][0]} packets"
    for name, answer in sorted(answers.items()):
        known = ", ".join(answer.addresses) or "no address"
        yield f"name {name}: {known}{f'; ! {answer.error}' if answer.error else ''}"
    yield from (f"! {one}" for one in differences)


def _document(enforced: Enforced, name: str, applied: Applied, hits: Hits) -> dict[str, Any]:
    return {
        "title": applied.title,
        "broken": applied.broken,
        "rules": {
            number: {"text": text, **_amount(hits.get(number, (0, 0)))}
            for number, text in applied.rules.items()
        },
        "counters": {mark: _amount(hits[mark]) for mark in _WORDS if mark in hits},
        "pods": [
            {"attachment": key, "device": main.device, "side": main.side}
            for key, main in enforced.mains.items()
            if main.namespace == name
        ],
        "macvlans": [
            {"attachment": guest.key, "mac": guest.mac, "nic": guard.device}
            for guard in enforced.guards.values()
            for guest in guard.guests
            if guest.namespace == name
        ],
    }


def _amount(hit: tuple[int, int]) -> dict[str, int]:
    return {"packets": hit[0], "bytes": hit[1]}
