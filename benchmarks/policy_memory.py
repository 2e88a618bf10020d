"""How much memory of the kernel a policy takes.

The kernel tells what it holds in all and not for whom. So a table with many policies is loaded, the whole is read
before and after (Slab, Percpu and VmallocUsed of proc_meminfo(5)), and the difference is divided.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence

from cni_macvlan_egress.decide.egress import Surroundings
from cni_macvlan_egress.decide.enforcement import (
    close_table,
    compile_policy,
    fresh_table,
    prepare_namespace,
    renew_namespace,
)
from cni_macvlan_egress.kernel.nftables import Nftables
from cni_macvlan_egress.model.policy_documents import policies

from . import policy_documents
from .cluster import Cluster, inside
from .redirect import OUTSIDE
from .report import Result

_FIELDS = ("Slab", "Percpu", "VmallocUsed")
_FLUSH = close_table()
_COPIES_MAX = 400
_SETTLE_SECONDS = 0.3  # the kernel frees a table later than it says


def measure(sizes: Sequence[int], rounds: int, check: Callable[[], None]) -> Result:
    """Run it.

    Raises:
        CniError: the kernel refuses a policy.
    """
    # As many rules in all, whatever the size of a policy: the more, the less does it matter what others do meanwhile.
    copies = {size: min(_COPIES_MAX, max(sizes) // size) for size in sizes}
    loads = {f"{size:,} rules": (copies[size], _policies(size, copies[size])) for size in sizes}
    middle = sizes[len(sizes) // 2]
    of_ports = _policies(middle, copies[middle], port=9000)
    loads[f"{middle:,} rules with ports, of as many addresses"] = (copies[middle], of_ports)
    loads[f"by hand, {middle:,} rules, one each"] = (copies[middle], _by_hand(middle, copies[middle]))
    taken: dict[str, list[float]] = {name: [] for name in loads}
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        stack.enter_context(inside(cluster.node))
        nftables = stack.enter_context(Nftables())
        for number in range(rounds + 1):
            for name, (times, commands) in loads.items():
                check()
                amount = _load(nftables, commands)
                if number:  # a first round fills what the kernel keeps for reuse
                    taken[name].append(amount / times)
    return Result(
        ("a policy of", "KiB", "middle half", "bytes a rule", "loaded"),
        [_row(name, taken[name], loads[name][0]) for name in loads],
        (
            "'Loaded' is how many were loaded at a time, by which the difference was divided.",
            "'Middle half' is what the middle half of the rounds lies within, and says how far to trust the median.",
        ),
    )


def _load(nftables: Nftables, commands: str) -> float:
    time.sleep(_SETTLE_SECONDS)
    before = _used()
    nftables.run(commands, "load policies")
    used = _used() - before
    nftables.run(_FLUSH, "remove policies")
    return used


def _used() -> float:
    """In KiB."""
    with open("/proc/meminfo", encoding="ascii") as file:
        found = dict(line.split(":") for line in file)
    return sum(float(found[field].split()[0]) for field in _FIELDS)


def _policies(size: int, copies: int, port: int = 0) -> str:
    """Commands that load a policy of that size for so many namespaces."""
    rules = (
        policy_documents.of_many_addresses(OUTSIDE, size, port)
        if port
        else policy_documents.networks(OUTSIDE, size)
    )
    commands = [fresh_table()]
    for number in range(copies):
        (policy,) = policies(policy_documents.document(f"copy{number}", rules), "the benchmark")
        _, compiled = compile_policy(policy, Surroundings(), log=False)
        commands.append(prepare_namespace(compiled) + renew_namespace(compiled))
    return "".join(commands)


def _by_hand(size: int, copies: int) -> str:
    rules = "\n".join(f"ip daddr {one} counter accept" for one in policy_documents.others(size - 1))
    chains = "".join(
        f"chain copy{number} {{\n{rules}\nip daddr 0.0.0.0/0 counter drop\n}}\n" for number in range(copies)
    )
    return f"table netdev macvlan_egress {{\n{chains}}}\n"


def _row(name: str, amounts: list[float], copies: int) -> tuple[str, ...]:
    rules = int(name.removeprefix("by hand, ").partition(" ")[0].replace(",", ""))
    middle = statistics.median(amounts)
    least, _, most = statistics.quantiles(amounts, n=4) if len(amounts) > 1 else amounts * 3
    return (
        name,
        f"{middle:.0f}",
        f"{least:.0f} to {most:.0f}",
        f"{middle * 1024 / rules:.0f}",
        f"{copies} ×",
    )
