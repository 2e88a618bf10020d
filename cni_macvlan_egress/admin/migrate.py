"""`macvlan-egress migrate`: OpenShift's egress routers as pods that need no privilege."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..protocol.errors import INVALID_CONFIGURATION, CniError
from .migration import manifest
from .migration.manifest import Object
from .migration.report import Report
from .migration.router_pod import Options
from .migration.workload import Migration

PAUSE = "registry.k8s.io/pause:3.9"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        required=True,
        metavar="MANIFEST",
        help="Kubernetes manifests (YAML or JSON) with egress router pods, what makes such pods, or EgressRouter "
        "objects, and the ConfigMaps that they use; - is stdin",
    )
    parser.add_argument(
        "--deployment",
        action="store_true",
        help="make a Deployment of one replica and a Service of each router",
    )
    parser.add_argument(
        "--drop-dns-proxy",
        action="store_true",
        help="make destination lines of a DNS proxy's and leave its container out; names are then resolved when the "
        "pod starts",
    )
    parser.add_argument(
        "--image",
        default=PAUSE,
        metavar="IMAGE",
        help="of the container in the router's place, which does nothing (default: %(default)s)",
    )
    parser.add_argument(
        "--check", action="store_true", help="say only what could be carried over and what not"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the manifests with every router migrated; 1 if one could not be."""
    documents = [one for path in arguments.filename for one in manifest.read(path)]
    options = Options(arguments.image, arguments.deployment, arguments.drop_dns_proxy)
    found, reports = migrate(documents, options)
    if not reports:
        raise CniError(INVALID_CONFIGURATION, f"{', '.join(arguments.filename)}: no egress router in it")
    stream = sys.stdout if arguments.check else sys.stderr
    for report in reports:
        for line in report.lines():
            stream.write(f"{line}\n")
        if arguments.check and not report.failed:
            stream.write(f"{report.title}: ok: can be migrated\n")
    if not arguments.check:
        sys.stdout.write(manifest.write(found))
    return 1 if any(report.failed for report in reports) else 0


def migrate(documents: Sequence[Object], options: Options) -> tuple[list[Object], list[Report]]:
    """The objects with every router migrated and all others as they are; a report a router.

    A router that cannot be carried over is left out.
    """
    migration = Migration(documents, options)
    found: list[Object] = []
    reports: list[Report] = []
    for document in documents:
        report = Report(manifest.title(document))
        try:
            if not migration.concerns(document):
                found.append(document)
                continue
            found += migration.migrate(document, report)
        except CniError as error:
            report.error(str(error))
        reports.append(report)
    _say_who_shares(reports)
    return found, reports


def _say_who_shares(reports: Sequence[Report]) -> None:
    """An address has one holder: of two routers with the same one, the second waits for ever."""
    holders: dict[str, str] = {}
    for report in reports:
        for source in report.sources:
            if source in holders:
                report.warning(f"{holders[source]} asks for {source} too: only one of them can run")
            holders.setdefault(source, report.title)
