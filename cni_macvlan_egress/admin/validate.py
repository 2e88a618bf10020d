"""`macvlan-egress validate`: what a conflist or a pod manifest would be told by an ADD."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from ..model.annotations import PodAnnotations
from ..model.configuration import Configuration
from ..model.keys import POD_ANNOTATIONS_CAPABILITY
from ..protocol.errors import CniError
from .launcher import NAME
from .manifests import entries, networks, pods


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("conflist", nargs="*", help="CNI configuration files (.conflist, .conf, .json)")
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        default=[],
        metavar="MANIFEST",
        help="Kubernetes manifests (YAML or JSON)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check every file; 1 if anything is wrong."""
    if not arguments.conflist and not arguments.filename:
        sys.stderr.write("macvlan-egress validate: name a conflist, or a manifest with -f\n")
        return 2
    sound = True
    for path in arguments.conflist:
        sound &= _report(path, _conflist_findings(path))
    for path in arguments.filename:
        sound &= _report(path, _manifest_findings(path))
    return 0 if sound else 1


def _report(path: str, findings: Iterator[tuple[bool, str]]) -> bool:
    sound = True
    try:
        for good, text in findings:
            sound &= good
            print(f"{path}: {'ok' if good else 'error'}: {text}")
    except CniError as error:
        print(f"{path}: error: {error}")
        return False
    return sound


def _conflist_findings(path: str) -> Iterator[tuple[bool, str]]:
    found = entries(path)
    if not found:
        yield False, f"no plugin of type {NAME!r} in it"
    for entry in found:
        given = entry.configuration
        Configuration.of(given)
        place = "chained" if entry.position else "standalone"
        yield True, f"{place} entry {entry.position + 1} of {entry.length}"
        if entry.position and not (given.get("capabilities") or {}).get(POD_ANNOTATIONS_CAPABILITY):
            sources = given.get("annotations", ["runtime", "kubernetes"])
            asked_otherwise = given.get("kubeconfig") or any(str(one).startswith("/") for one in sources)
            yield (
                bool(asked_otherwise),
                f"the capability {POD_ANNOTATIONS_CAPABILITY} is not declared: the runtime will not pass annotations",
            )
        if entry.position and not given.get("allow"):
            yield False, "there is no 'allow': no pod may use the plugin by annotation"


def _manifest_findings(path: str) -> Iterator[tuple[bool, str]]:
    found = pods(path)
    definitions = networks(path)
    for title, ours in definitions:
        for entry in ours:
            Configuration.of(entry.configuration)
        yield bool(ours), f"{title}: {len(ours) or 'no'} entry of type {NAME!r}"
    if not found and not definitions:
        yield False, "no pod, nothing that makes pods, and no network in it"
    for pod in found:
        try:
            wanted = PodAnnotations.of(pod.annotations)
        except CniError as error:
            yield False, f"{pod.title}: {error}"
            continue
        if not wanted.attach:
            yield True, f"{pod.title}: asks for nothing, would pass through"
            continue
        sources = ", ".join(map(str, wanted.sources)) or "a bare interface"
        lines = "".join(f"; {line}" for line in wanted.destinations)
        yield True, f"{pod.title}: asks for {sources}{lines}"
