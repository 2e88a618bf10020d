"""Forwarding between the pod's two sides, whatever its settings are before: what is set, and what is put back."""

from __future__ import annotations

from itertools import product

import pytest

from cni_macvlan_egress.decide import redirect
from cni_macvlan_egress.decide.plan import Sysctl
from cni_macvlan_egress.decide.ruleset import Passage

INSIDE4, OUTSIDE4 = "net/ipv4/conf/eth0", "net/ipv4/conf/macvlan0"
INSIDE6, OUTSIDE6 = "net/ipv6/conf/eth0", "net/ipv6/conf/macvlan0"
ALL_RP = "net/ipv4/conf/all/rp_filter"
ALL6, DEFAULT6 = "net/ipv6/conf/all/forwarding", "net/ipv6/conf/default/forwarding"
FAMILIES = {4: "192.168.12.99", 6: "fd00:12::99"}

RP = (None, "0", "1", "2")
SWITCH = (None, "0", "1")


def passage(families: tuple[int, ...], only_destinations: bool) -> Passage:
    return Passage(
        inside="eth0",
        outside="macvlan0",
        sources={family: FAMILIES[family] for family in families},
        mtus=(1500, 1500),
        only_destinations=only_destinations,
    )


def written(settings: dict[str, str], key: str, value: str) -> dict[str, str]:
    """The settings as the kernel has them after a write: one of IPv6's for all that changes it is one for each."""
    after = {**settings, key: value}
    if key == ALL6 and settings[key] != value:
        after |= {
            one: value for one in settings if one.startswith("net/ipv6/") and one.endswith("/forwarding")
        }
    return after


def set_all(settings: dict[str, str], found: list[Sysctl]) -> dict[str, str]:
    for one in found:
        settings = written(settings, one.key, one.value)
    return settings


def put_back(settings: dict[str, str], found: list[Sysctl]) -> dict[str, str]:
    """As DEL does it, in the same order: the one for all comes first, because it overwrites the others."""
    for one in found:
        if one.before is not None:
            settings = written(settings, one.key, one.before)
    return settings


def own(settings: dict[str, str]) -> dict[str, str]:
    """Those that do not go with the macvlan."""
    return {key: value for key, value in settings.items() if "/macvlan0/" not in key}


@pytest.mark.parametrize("families", [(4,), (6,), (4, 6)])
@pytest.mark.parametrize("only_destinations", [True, False])
@pytest.mark.parametrize("forced", SWITCH, ids=lambda value: f"force_forwarding={value}")
def test_whatever_was_set_before(
    families: tuple[int, ...], only_destinations: bool, forced: str | None
) -> None:
    for all_rp, inside_rp, inside4, inside6, default6, all6 in product(RP, RP, *[SWITCH] * 4):
        given = {
            ALL_RP: all_rp,
            f"{INSIDE4}/rp_filter": inside_rp,
            f"{INSIDE4}/forwarding": inside4,
            f"{INSIDE6}/forwarding": inside6,
            f"{INSIDE6}/force_forwarding": forced,
            DEFAULT6: default6,
            ALL6: all6,
        }
        present = {key: value for key, value in given.items() if value is not None}
        found = list(redirect.sysctls(passage(families, only_destinations), present))
        after = set_all(present, found)
        about = f"{present}: {found}"

        assert all("/macvlan0/" in one.key or one.before == present[one.key] for one in found), about
        # IPv4 forwards both ways
        assert after.get(f"{INSIDE4}/forwarding") in (None, "1"), about
        assert after[f"{OUTSIDE4}/forwarding"] == "1", about
        # strict filtering stays wherever it does no harm
        strict = "1" in (all_rp, inside_rp) and max(all_rp or "0", inside_rp or "0") == "1"
        if strict and not only_destinations and inside_rp is not None:
            assert after[f"{INSIDE4}/rp_filter"] == "2", about
        else:
            assert after.get(f"{INSIDE4}/rp_filter") == inside_rp, about
        assert after.get(ALL_RP) == all_rp, about
        # IPv6 forwards both ways, and either side is the host that it was
        if 6 not in families:
            assert not [one for one in found if one.key.startswith("net/ipv6/")], about
        elif forced is not None:
            assert after[f"{INSIDE6}/force_forwarding"] == "1", about
            assert after[f"{OUTSIDE6}/force_forwarding"] == "1", about
            assert after.get(ALL6) == all6, about
        else:
            assert after.get(ALL6) in (None, "1"), about
            assert after[f"{OUTSIDE6}/forwarding"] == "0", about
        assert after.get(f"{INSIDE6}/forwarding") == inside6, about
        assert after.get(DEFAULT6) == default6, about
        # and DEL
        assert own(put_back(after, found)) == present, about


def test_what_is_so_already_is_no_business_of_the_plugin() -> None:
    present = {
        f"{INSIDE4}/forwarding": "1",
        f"{INSIDE4}/rp_filter": "0",
        ALL_RP: "0",
        f"{INSIDE6}/force_forwarding": "1",
        ALL6: "0",
    }
    assert [one.key for one in redirect.sysctls(passage((4, 6), True), present)] == [
        f"{OUTSIDE4}/forwarding",
        f"{OUTSIDE6}/force_forwarding",
    ]
