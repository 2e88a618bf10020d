"""What is written is what nft reads: every table is taken by the kernel and listed back as it is compared by CHECK."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cni_macvlan_egress.decide import redirect, ruleset
from cni_macvlan_egress.decide.drift import ruleset_differences
from cni_macvlan_egress.decide.ruleset import Passage
from cni_macvlan_egress.kernel.netns import in_new_namespace
from cni_macvlan_egress.kernel.nftables import MissingLibrary, Nftables
from cni_macvlan_egress.model.destinations import parse
from cni_macvlan_egress.protocol.errors import KERNEL_REFUSED

from ..refusals import refused
from . import lines

T = TypeVar("T")


def _can() -> str:
    """Why it cannot be tried here."""
    if os.geteuid() != 0:
        return "needs root: it makes a network namespace"
    try:
        in_new_namespace(lambda: Nftables().close())
    except MissingLibrary as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(_can()), reason=_can() or "can")


def in_the_kernel(work: Callable[[Nftables], T]) -> T:
    """Do something with nftables in an empty namespace."""

    def act() -> T:
        with Nftables() as nftables:
            return work(nftables)

    return in_new_namespace(act)


def rendered(text: str, mtus: tuple[int, int] = (1500, 1500), only_destinations: bool = True) -> str:
    passage = Passage("eth0", "macvlan0", {4: "192.168.12.99", 6: "fd00:12::99"}, mtus, only_destinations)
    return ruleset.render(passage, redirect.forwards(parse(text), {}, (4, 6), ()))


documents = st.one_of(lines.documents(with_names=False), lines.documents(with_names=False, few=True)).map(
    lambda rows: "\n".join(line.written() for line in rows)
)


@given(documents, st.sampled_from([1500, 1400]), st.booleans())
@example("8000-8010 tcp 192.0.2.1\n9000 tcp 192.0.2.1 8005", 1500, True)
@example("80 tcp 192.0.2.1 443\n81-85 tcp 192.0.2.1 443", 1500, True)
@example("1-65535 tcp 192.0.2.1\n1-65535 udp 192.0.2.1\n192.0.2.2", 1500, True)
@example("80 tcp 2001:db8::1,2001:db8::2 443\n80-90 sctp 2001:db8::1", 1400, True)
def test_every_table_is_taken_and_listed_the_same_again(text: str, mtu: int, only_destinations: bool) -> None:
    table = rendered(text, (1500, mtu), only_destinations)

    def install(nftables: Nftables) -> tuple[str, str]:
        nftables.replace(table)
        first = nftables.listing()
        nftables.replace(table)
        return first, nftables.listing()

    first, second = in_the_kernel(install)
    elsewhere, _ = in_the_kernel(install)
    assert first == second == elsewhere
    assert ruleset_differences(first, elsewhere) == []
    assert in_the_kernel(lambda nftables: (nftables.replace(first), nftables.listing())[1]) == first
    # all of it is there
    assert set(re.findall(r'comment "[^"]*"', first)) == set(re.findall(r'comment "[^"]*"', table))
    assert first.count("chain ") == table.count("chain ")


def test_longest_line_is_taken() -> None:
    addresses = ",".join(f"2001:db8:1111:2222:3333:4444:5555:{number:x}" for number in range(1, 200))
    listing = in_the_kernel(lambda nftables: _listed(nftables, rendered(f"1-65535 sctp {addresses} 65535")))
    assert "mod 199" in listing
    assert 'comment "line 1: 1-65535 sctp 2001:' in listing


@pytest.mark.parametrize("name", ["a" * 15, "eth0.100", "net1@x", "a+b=c,d", "x_-y", "1"])
def test_unusual_names_of_interfaces_are_taken(name: str) -> None:
    passage = Passage(name, "macvlan0", {4: "192.168.12.99"}, (1500, 1500), True)
    table = ruleset.render(passage, redirect.forwards(parse("203.0.113.25"), {}, (4,), ()))
    assert f'iifname "{name}"' in in_the_kernel(lambda nftables: _listed(nftables, table))


def test_table_takes_the_place_of_another() -> None:
    def work(nftables: Nftables) -> str:
        nftables.replace(rendered("80 tcp 203.0.113.25\n81 tcp 203.0.113.25"))
        return _listed(nftables, rendered("82 tcp 203.0.113.26"))

    listing = in_the_kernel(work)
    assert "tcp . 82" in listing
    assert "tcp . 80" not in listing
    assert "203.0.113.25" not in listing


def test_refused_table_leaves_the_old_one() -> None:
    def work(nftables: Nftables) -> tuple[str, str]:
        before = _listed(nftables, rendered("80 tcp 203.0.113.25"))
        with refused(KERNEL_REFUSED, "redirect rules", "nftables"):
            nftables.replace(rendered("81 tcp 203.0.113.25").replace("goto line-1-ip", "goto nowhere"))
        return before, nftables.listing()

    before, after = in_the_kernel(work)
    assert before == after


def test_table_is_gone_after_delete_and_delete_can_be_repeated() -> None:
    def work(nftables: Nftables) -> tuple[str, list[object]]:
        nftables.delete()
        nftables.replace(rendered("80 tcp 203.0.113.25"))
        nftables.delete()
        nftables.delete()
        return nftables.listing(), list(nftables.objects())

    assert in_the_kernel(work) == ("", [])


def test_counters_are_objects_and_not_in_the_listing() -> None:
    def work(nftables: Nftables) -> tuple[str, list[str]]:
        listing = _listed(nftables, rendered("80 tcp 203.0.113.25\n80 udp 203.0.113.25"))
        rules = [one["rule"] for one in nftables.objects() if "rule" in one]
        counted = [one["chain"] for one in rules if any("counter" in part for part in one["expr"])]
        return listing, counted

    listing, counted = in_the_kernel(work)
    assert "packets" not in listing
    assert {"line-1-ip", "line-2-ip", "forward", "input", "output"} <= set(counted)


def _listed(nftables: Nftables, table: str) -> str:
    nftables.replace(table)
    return nftables.listing()
