"""CHECK against the table's content: whatever is missing, too much, changed or moved is found and shown."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cni_macvlan_egress.decide.drift import ruleset_differences

# As `nft list table` prints it, with an element on each line.
LISTING = """\
table inet macvlan_egress {
	map lines4 {
		type inet_proto . inet_service : verdict
		flags interval
		elements = { tcp . 80 : goto line-1-ip,
				tcp . 443 : goto line-2-ip,
				udp . 8000-8010 : goto line-3-ip }
	}

	set targets4 {
		type ipv4_addr . inet_proto . inet_service
		elements = { 203.0.113.25 . tcp . 80,
				203.0.113.25 . tcp . 443 }
	}

	chain line-1-ip {
		meta l4proto tcp counter dnat ip to 203.0.113.25 comment "line 1: 80 tcp 203.0.113.25"
	}

	chain line-2-ip {
		meta l4proto tcp counter dnat ip to 203.0.113.25 comment "line 2: 443 tcp 203.0.113.25"
	}

	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state invalid counter drop comment "stray"
		iifname "eth0" oifname "macvlan0" ct status dnat counter accept comment "out"
		counter comment "passing"
	}

	chain input {
		type filter hook input priority filter; policy accept;
		iifname != "macvlan0" accept
		ct state established,related accept
		counter drop comment "entering"
	}
}
"""
LINES = LISTING.splitlines()
# Lines that say something; the others only hold them together.
SAYING = [number for number, line in enumerate(LINES) if line.strip() not in ("", "}")]


def without(number: int) -> str:
    return "\n".join(line for at, line in enumerate(LINES) if at != number)


def with_line(number: int, line: str) -> str:
    return "\n".join([*LINES[:number], line, *LINES[number:]])


def test_same_table_has_no_differences() -> None:
    assert ruleset_differences(LISTING, LISTING) == []


def test_missing_table_is_one_difference() -> None:
    (only,) = ruleset_differences(LISTING, "")
    assert "no such table" in only


@pytest.mark.parametrize("number", SAYING[1:], ids=lambda number: LINES[number].strip()[:40])
def test_line_that_is_gone_is_found(number: int) -> None:
    assert ruleset_differences(LISTING, without(number))


RULES = [number for number in SAYING if not LINES[number].endswith("{") and "elements" not in LINES[number]]


@pytest.mark.parametrize("number", RULES, ids=lambda number: LINES[number].strip()[:40])
def test_line_that_is_gone_is_shown(number: int) -> None:
    text = LINES[number].strip().removesuffix(" }").rstrip(",")
    assert any("found none" in one and text in one for one in ruleset_differences(LISTING, without(number)))


@pytest.mark.parametrize("number", SAYING[2:], ids=lambda number: LINES[number].strip()[:40])
def test_line_that_is_too_much_is_found_and_shown(number: int) -> None:
    found = ruleset_differences(LISTING, with_line(number, "\t\taccept"))
    assert [one for one in found if "found [" in one and one.endswith("] accept")], found


# Those of chains, where the order counts.
IN_CHAINS = [
    number
    for number in RULES
    if number > LINES.index("\tchain line-1-ip {") and not LINES[number].strip().startswith("type ")
]


@pytest.mark.parametrize("number", IN_CHAINS, ids=lambda number: LINES[number].strip()[:40])
def test_rule_that_is_there_twice_is_found(number: int) -> None:
    assert ruleset_differences(LISTING, with_line(number, LINES[number]))


def test_rule_in_another_chain_is_found() -> None:
    moved = LINES.index('\t\tiifname != "macvlan0" accept')
    lines = [line for at, line in enumerate(LINES) if at != moved]
    lines.insert(lines.index("\tchain forward {") + 2, LINES[moved])
    found = ruleset_differences(LISTING, "\n".join(lines))
    assert any("[chain input]" in one and "found none" in one for one in found)
    assert any("found [chain forward]" in one for one in found)


@pytest.mark.parametrize(
    "number",
    [number for number in IN_CHAINS if number + 1 in IN_CHAINS],
    ids=lambda number: LINES[number].strip()[:40],
)
def test_rules_in_another_order_are_found(number: int) -> None:
    """The first rule that fits decides: a `drop` that comes too late stops nothing."""
    lines = [*LINES[:number], LINES[number + 1], LINES[number], *LINES[number + 2 :]]
    assert ruleset_differences(LISTING, "\n".join(lines))


def test_policy_of_a_chain_is_part_of_it() -> None:
    found = ruleset_differences(LISTING, LISTING.replace("policy drop;", "policy accept;"))
    assert any("policy drop" in one and "found none" in one for one in found)
    assert any("found [chain forward]" in one and "policy accept" in one for one in found)


@given(st.sampled_from(SAYING[1:]), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_any_changed_line_is_found(number: int, text: str) -> None:
    assume(text.strip() not in ("}", "") and not text.endswith("{"))
    changed = [*LINES[:number], "\t\t" + text, *LINES[number + 1 :]]
    assert ruleset_differences(LISTING, "\n".join(changed))


def test_every_difference_is_told_at_once() -> None:
    found = ruleset_differences(
        LISTING,
        LISTING.replace("203.0.113.25 . tcp . 443", "203.0.113.26 . tcp . 443").replace(
            '\t\tct state invalid counter drop comment "stray"\n', ""
        ),
    )
    assert len(found) == 3, found
