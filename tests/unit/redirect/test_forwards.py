"""From lines and the resolver's answers to forwards: one a line and family, and none that leads inside."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_macvlan_egress.decide import redirect
from cni_macvlan_egress.decide.plan import Forward
from cni_macvlan_egress.model.addresses import IPAddress
from cni_macvlan_egress.model.destinations import parse
from cni_macvlan_egress.protocol.errors import INVALID_ANNOTATION, TRY_AGAIN_LATER, CniError

from ..refusals import refused
from . import lines

BOTH = (4, 6)
CLUSTER = ("10.244.0.0/16", "10.96.0.0/12", "fd00:244::/32")
INSIDE = (
    "127.0.0.1", "127.9.9.9", "169.254.169.254", "224.0.0.1", "0.0.0.0", "0.1.2.3", "255.255.255.255", "::1", "fe80::1",
    "ff02::1", "::", "::ffff:cb00:7119", "10.244.0.5", "10.96.0.10", "fd00:244::5",
)  # fmt: skip


def forwards(
    text: str,
    answers: dict[str, list[str]] | None = None,
    families: Collection[int] = BOTH,
    cluster: Collection[str] = CLUSTER,
) -> tuple[Forward, ...]:
    found = {name: tuple(map(ipaddress.ip_address, addresses)) for name, addresses in (answers or {}).items()}
    networks = tuple(map(ipaddress.ip_network, cluster))
    return redirect.forwards(parse(text), found, families, networks)


def shown(found: Collection[Forward]) -> list[str]:
    """Line, family and addresses of each."""
    return [f"{one.line} v{one.family} {','.join(one.addresses)}" for one in found]


@pytest.mark.parametrize(
    ("text", "answers", "families", "found"),
    [
        ("203.0.113.25", {}, BOTH, ["1 v4 203.0.113.25"]),
        ("#\n80 tcp 203.0.113.25\n80 tcp 2001:db8::1", {}, BOTH, ["2 v4 203.0.113.25", "3 v6 2001:db8::1"]),
        ("203.0.113.26,203.0.113.9,203.0.113.100", {}, BOTH, ["1 v4 203.0.113.9,203.0.113.26,203.0.113.100"]),
        ("a.com", {"a.com": ["203.0.113.25"]}, BOTH, ["1 v4 203.0.113.25"]),
        ("a.com", {"a.com": ["2001:db8::1"]}, BOTH, ["1 v6 2001:db8::1"]),
        ("a.com", {"a.com": ["2001:db8::1", "203.0.113.25"]}, BOTH, ["1 v4 203.0.113.25", "1 v6 2001:db8::1"]),
        ("a.com", {"a.com": ["2001:db8::1", "203.0.113.25"]}, [4], ["1 v4 203.0.113.25"]),
        ("a.com", {"a.com": ["2001:db8::1", "203.0.113.25"]}, [6], ["1 v6 2001:db8::1"]),
        ("a.com", {"a.com": ["203.0.113.100", "203.0.113.9"]}, BOTH, ["1 v4 203.0.113.9,203.0.113.100"]),
        (
            "80 tcp a.com\n81 tcp b.com\n82 tcp a.com",
            {"a.com": ["203.0.113.1"], "b.com": ["203.0.113.2"]},
            BOTH,
            ["1 v4 203.0.113.1", "2 v4 203.0.113.2", "3 v4 203.0.113.1"],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_line_becomes_a_forward_for_each_family(
    text: str, answers: dict[str, list[str]], families: Collection[int], found: list[str]
) -> None:
    assert shown(forwards(text, answers, families)) == found


def test_forward_says_what_its_line_says() -> None:
    (one,) = forwards("\n8000-8010 UDP DB.Example.com. 53", {"db.example.com": ["203.0.113.25"]})
    assert one == Forward(
        line=2,
        text="8000-8010 udp db.example.com 53",
        family=4,
        protocol="udp",
        ports=(8000, 8010),
        target_port=53,
        addresses=("203.0.113.25",),
    )


def test_each_name_is_asked_for_once() -> None:
    lines = parse("80 tcp b.com\n81 tcp a.com\n82 tcp B.com.\n83 tcp 1.2.3.4\nfd00::1")
    assert redirect.names(lines) == ["a.com", "b.com"]


@pytest.mark.parametrize("address", INSIDE)
def test_name_cannot_lead_inside(address: str) -> None:
    """Whoever owns the name would else aim the pod's traffic at the pod or the cluster itself."""
    with refused(TRY_AGAIN_LATER, "line 1", "a.com", "IPv4 or IPv6", f"refused {address}"):
        forwards("a.com", {"a.com": [address]})


@pytest.mark.parametrize("address", INSIDE)
def test_what_leads_inside_is_left_out_of_an_answer(address: str) -> None:
    assert shown(forwards("a.com", {"a.com": [address, "203.0.113.25"]})) == ["1 v4 203.0.113.25"]


@pytest.mark.parametrize(
    ("answer", "families", "words"),
    [
        ([], BOTH, ["no usable IPv4 or IPv6 address"]),
        (["2001:db8::1"], [4], ["no usable IPv4 address"]),
        (["203.0.113.25"], [6], ["no usable IPv6 address"]),
        (["127.0.0.1", "10.244.0.5"], BOTH, ["refused 127.0.0.1, 10.244.0.5"]),
    ],
    ids=str,
)
def test_name_without_a_usable_address_can_be_tried_again(
    answer: list[str], families: Collection[int], words: list[str]
) -> None:
    with refused(TRY_AGAIN_LATER, "macvlan-egress/destination", "line 2", "a.com", *words):
        forwards("#\n80 tcp a.com", {"a.com": answer}, families)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("80 tcp 10.244.0.5", ["line 1", "10.244.0.5", "10.244.0.0/16"]),
        ("\n10.96.0.10", ["line 2", "10.96.0.10", "10.96.0.0/12"]),
        ("80 tcp 203.0.113.25,10.244.0.5", ["line 1", "10.244.0.5"]),
        ("80 tcp fd00:244::5", ["line 1", "fd00:244::5", "fd00:244::/32"]),
    ],
)
def test_address_of_the_cluster_is_no_destination(text: str, words: list[str]) -> None:
    with refused(INVALID_ANNOTATION, "macvlan-egress/destination", "clusterNetworks", *words):
        forwards(text)


def test_without_cluster_networks_private_addresses_are_destinations() -> None:
    assert shown(forwards("10.244.0.5\nfd00:244::5", cluster=())) == ["1 v4 10.244.0.5", "2 v6 fd00:244::5"]


_answers = st.lists(
    st.sampled_from(INSIDE) | lines.addresses(4) | lines.addresses(6),
    max_size=5,
    unique_by=ipaddress.ip_address,
)


@given(_answers, st.sampled_from([(4,), (6,), (4, 6)]))
def test_every_usable_address_of_an_answer_is_used_and_no_other(
    answer: list[str], families: tuple[int, ...]
) -> None:
    networks = tuple(map(ipaddress.ip_network, CLUSTER))

    def usable(address: IPAddress) -> bool:
        return (
            address.version in families
            and str(address) not in INSIDE
            and not any(address in network for network in networks)
        )

    wanted = {str(one) for one in map(ipaddress.ip_address, answer) if usable(one)}
    try:
        found = forwards("80 tcp a.com", {"a.com": answer}, families)
    except CniError as error:
        assert error.code == TRY_AGAIN_LATER
        assert not wanted
    else:
        assert {address for one in found for address in one.addresses} == wanted
        assert all(ipaddress.ip_address(a).version == one.family for one in found for a in one.addresses)
