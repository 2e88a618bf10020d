"""Egress policies: what they cost a packet, what a change of them takes, and how much of the kernel's memory they hold.

Each of the three is measured in a network of its own, by policy_packets, policy_updates and policy_memory.
"""

from __future__ import annotations

import argparse
import compileall
import os
import tempfile
from collections.abc import Callable

import cni_macvlan_egress

from . import policy_memory, policy_packets, policy_updates
from .report import Sections

# The largest is what an EgressFirewall may have.
SIZES = (10, 1000, 8000)
_QUICK_SIZES = (20,)
_PODS, _QUICK_PODS = 500, 11
_SHARE = 4  # a change on a full node takes too long for as many rounds as packets get


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's own arguments."""
    parser.add_argument(
        "--policed-pods",
        type=int,
        metavar="N",
        default=_PODS,
        help="pods under policies that a changed policy finds on the node (default %(default)s)",
    )


def measure(options: argparse.Namespace, check: Callable[[], None]) -> Sections:
    """Run it.

    Raises:
        BenchmarkError: something that was to be measured failed, or is missing.
    """
    quick: bool = options.quick
    sizes = _QUICK_SIZES if quick else SIZES
    pods = _QUICK_PODS if quick else options.policed_pods
    few = max(2, options.rounds // _SHARE)
    # The launcher writes no byte code, and would compile at every execution what an installation has compiled.
    compileall.compile_dir(os.path.dirname(cni_macvlan_egress.__file__), quiet=2)
    with tempfile.TemporaryDirectory(prefix="macvlan-egress-bench-") as directory:
        packets = policy_packets.measure(directory, sizes, options.rounds, check, quick=quick)
        updates = policy_updates.measure(directory, sizes, pods, few, check)
        memory = policy_memory.measure(sizes, few, check)
    return Sections(
        (
            ("A packet", packets),
            (f"A change, and a pod's start ({few} rounds)", updates),
            (f"The kernel's memory ({few} rounds)", memory),
        )
    )
