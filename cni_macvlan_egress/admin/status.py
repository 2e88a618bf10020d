"""`macvlan-egress status`: the node's attachments, whether they are as they should be, and what passed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from ..attach.policy_state import PolicyState
from ..attach.records import Records
from ..attach.survey import Counter, Found, survey
from ..decide.plan import Forward
from ..decide.ruleset import PASSED, REFUSED
from ..model.complaints import printable
from ..model.keys import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR
from .progress import Progress

_UNITS = ("B", "kB", "MB", "GB", "TB")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--state-dir", default=DEFAULT_STATE_DIR, metavar="DIR", help="stateDir (default: %(default)s)"
    )
    parser.add_argument(
        "--run-dir", default=DEFAULT_RUN_DIR, metavar="DIR", help="runDir (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print every attachment; 1 if one is not as it should be."""
    with Progress("attachments"):
        found, unreadable = survey(Records(arguments.state_dir))
    enforced = PolicyState(arguments.run_dir).load()
    policies = enforced.namespaces if enforced else {}
    if arguments.json:
        document = {
            "attachments": [_document(one) for one in found],
            "policies": {name: {"title": one.title, "broken": one.broken} for name, one in policies.items()},
            "unreadable": unreadable,
        }
        print(json.dumps(document, indent=2))
    elif not found:
        print(f"no attachments in {arguments.state_dir}")
    else:
        print("\n".join(map(printable, table(found))))
    for name, policy in policies.items() if not arguments.json else ():
        print(
            printable(f"policy of {name}: {f'! closed: {policy.broken}' if policy.broken else policy.title}")
        )
    for path in unreadable:
        sys.stderr.write(f"macvlan-egress status: {path} cannot be read; the next DEL or GC moves it aside\n")
    sound = not unreadable and not any(one.broken for one in policies.values())
    return 0 if sound and all(one.state == "attached" for one in found) else 1


def table(found: Iterable[Found]) -> Iterator[str]:
    """A line an attachment, with its differences, lines and counters below."""
    rows = [("POD", "INTERFACE", "NIC", "ADDRESSES", "STATE")]
    details: list[list[str]] = [[]]
    for one in found:
        plan = one.record.plan
        rows.append(
            (
                one.record.pod or one.record.container_id[:12],
                plan.link.name if plan else "-",
                plan.link.master if plan else "-",
                ", ".join(one.record.addresses) or "none",
                one.state,
            )
        )
        details.append([*(f"! {text}" for text in one.differences), *_traffic_lines(one)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row, below in zip(rows, details, strict=True):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield from (f"  {text}" for text in below)


def _traffic_lines(found: Found) -> Iterator[str]:
    if found.record.plan is None or found.lines is None or found.traffic is None:
        return
    for forward in found.record.plan.forwards:
        counter = found.lines.get((forward.line, forward.family))
        flows = f"{counter.packets} flow{'' if counter.packets == 1 else 's'}" if counter else "no such rule"
        yield f"{_target(forward)}: {flows}"
    for label, wanted in (("sent on", PASSED), ("refused", REFUSED)):
        amounts = [f"{name} {_amount(found.traffic[name])}" for name in wanted if name in found.traffic]
        yield f"{label}: {', '.join(amounts) or 'no such rules'}"


def _target(forward: Forward) -> str:
    resolved = ", ".join(forward.addresses)
    return forward.text if resolved in forward.text.replace(",", ", ") else f"{forward.text} ({resolved})"


def _amount(counter: Counter) -> str:
    size = float(counter.bytes)
    unit = next((unit for power, unit in enumerate(_UNITS) if size < 1000 ** (power + 1)), _UNITS[-1])
    size /= 1000 ** _UNITS.index(unit)
    return f"{counter.packets}" if not counter.packets else f"{counter.packets} ({size:.3g} {unit})"


def _document(found: Found) -> dict[str, Any]:
    record, plan = found.record, found.record.plan
    lines = found.lines or {}
    return {
        "containerID": record.container_id,
        "ifname": record.ifname,
        "network": record.network,
        "netns": record.netns,
        "pod": record.pod or None,
        "state": found.state,
        "differences": list(found.differences),
        "addresses": list(record.addresses),
        "link": asdict(plan.link) if plan else None,
        "destinations": [
            {
                **asdict(forward),
                "flows": lines[forward.line, forward.family].packets
                if (forward.line, forward.family) in lines
                else None,
            }
            for forward in (plan.forwards if plan else ())
        ],
        "packets": {
            name: {"packets": counter.packets, "bytes": counter.bytes}
            for name, counter in (found.traffic or {}).items()
        },
    }
