"""Who may use the plugin: what a grant covers, and what the refusal tells the admin to add."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_macvlan_egress.decide import grants
from cni_macvlan_egress.decide.request import Pod
from cni_macvlan_egress.model.configuration import Configuration
from cni_macvlan_egress.protocol.errors import NOT_ALLOWED, CniError

from ..refusals import refused
from .examples import ASSIGN, DUAL, request, source

SHOP = Pod("shop", "cart", "1-2-3")
BARE = {ASSIGN: "true"}
ONE = source("192.168.12.99/24", "192.168.12.1")
LAN = ["192.168.12.0/24", "fd00:12::/64"]
IPAM = {"type": "host-local"}


def check(
    allow: list[dict[str, Any]] | None,
    annotations: dict[str, str],
    pod: Pod = SHOP,
    nic: str = "eth0",
    **conf: Any,
) -> None:
    configuration = Configuration.of({"allow": allow, **conf})
    grants.check(configuration, request(annotations, **conf), pod, nic)


@pytest.mark.parametrize(
    ("allow", "annotations"),
    [
        ([{"namespaces": ["*"]}], DUAL),
        ([{"namespaces": ["*"]}], BARE),
        ([{"namespaces": ["shop"]}], ONE),
        ([{"namespaces": ["bank", "sh?p"]}], ONE),
        ([{"namespaces": ["s*", "bank"]}], BARE),
        ([{"namespaces": ["[a-s]hop"]}], ONE),
        ([{"namespaces": ["bank"]}, {"namespaces": ["shop"]}], ONE),
        ([{"namespaces": ["shop"], "sources": ["192.168.12.0/24"]}], ONE),
        ([{"namespaces": ["shop"], "sources": ["192.168.12.99"]}], ONE),
        ([{"namespaces": ["shop"], "sources": LAN}], DUAL),
        ([{"namespaces": ["shop"], "sources": ["fd00:12::/64", "0.0.0.0/0"]}], DUAL),
        ([{"namespaces": ["shop"], "masters": ["eth1", "eth0"]}], BARE),
        ([{"namespaces": ["shop"], "masters": ["eth0"], "sources": LAN}], DUAL),
        ([{"namespaces": ["shop"], "sources": ["10.0.0.0/8"]}, {"namespaces": ["*"], "sources": LAN}], ONE),
    ],
    ids=str,
)
def test_pod_that_one_grant_covers_is_served(
    allow: list[dict[str, Any]], annotations: dict[str, str]
) -> None:
    check(allow, annotations)


@pytest.mark.parametrize(
    ("allow", "annotations", "words"),
    [
        ([{"namespaces": ["bank"]}], ONE, ["'shop'", "bank"]),
        ([{"namespaces": ["Shop", "SHOP", "shop-*", "sho"]}], ONE, ["Shop, SHOP, shop-*, sho"]),
        ([{"namespaces": ["shop"], "sources": ["10.0.0.0/8"]}], ONE, ["192.168.12.99", "10.0.0.0/8"]),
        ([{"namespaces": ["shop"], "sources": ["192.168.12.0/24"]}], DUAL, ["fd00:12::99"]),
        ([{"namespaces": ["shop"], "sources": ["fd00:12::/64"]}], DUAL, ["192.168.12.99"]),
        ([{"namespaces": ["shop"], "sources": []}], ONE, ["192.168.12.99"]),
        ([{"namespaces": ["shop"], "masters": ["eth1"]}], ONE, ["'eth0'", "eth1"]),
        ([{"namespaces": ["shop"], "masters": []}], BARE, ["'eth0'"]),
        ([{"namespaces": ["shop"], "sources": LAN}], BARE, ["sources", "bare"]),
        (
            [{"namespaces": ["shop"], "sources": LAN}],
            {**ONE, "macvlan-egress/mode": "passthru"},
            ["passthru"],
        ),
        ([{"namespaces": ["shop"], "destinations": ["203.0.113.0/24"]}], BARE, ["destinations", "bare"]),
        # Nobody puts two halves of grants together.
        (
            [{"namespaces": ["shop"], "sources": ["10.0.0.0/8"]}, {"namespaces": ["bank"], "sources": LAN}],
            ONE,
            ["grant 1: source 192.168.12.99", "grant 2: namespace 'shop'"],
        ),
    ],
    ids=str,
)
def test_pod_that_no_grant_covers_is_refused_with_the_reason(
    allow: list[dict[str, Any]], annotations: dict[str, str], words: list[str]
) -> None:
    with refused(NOT_ALLOWED, "namespace 'shop'", *words):
        check(allow, annotations)


NEAREST = [
    {"namespaces": ["bank"]},
    {"namespaces": ["shop"], "sources": ["10.0.0.0/8"]},
    {"namespaces": ["nobody"]},
]


@pytest.mark.parametrize("allow", [NEAREST, NEAREST[::-1], NEAREST[1:], NEAREST[:2]])
def test_grant_that_names_the_namespace_is_the_one_to_be_told_first(allow: list[dict[str, Any]]) -> None:
    with pytest.raises(CniError) as caught:
        check(allow, ONE)
    assert "192.168.12.99 is in none of 10.0.0.0/8" in caught.value.msg
    assert [f"grant {number}: " in caught.value.details for number in range(1, 4)].count(True) == len(allow)


@pytest.mark.parametrize("allow", [None, []])
def test_without_any_grant_nobody_is_served_and_the_error_says_what_to_add(
    allow: list[dict[str, Any]] | None,
) -> None:
    with refused(NOT_ALLOWED, '"allow": [{"namespaces": ["shop"]}]'):
        check(allow, ONE)
    with refused(NOT_ALLOWED, "without namespace", '"allow": [{"namespaces": ["*"]}]'):
        check(allow, ONE, Pod())


def test_pod_without_namespace_is_covered_by_everybodys_grant_only() -> None:
    check([{"namespaces": ["*"]}], ONE, Pod())
    with refused(NOT_ALLOWED, "without namespace"):
        check([{"namespaces": ["?*"]}], ONE, Pod())


def test_nic_that_was_found_needs_a_grant_as_one_that_was_named() -> None:
    allow = [{"namespaces": ["shop"], "masters": ["eth0"]}]
    check(allow, {ASSIGN: "eth0"}, nic="eth0")
    for found_or_named in (BARE, {ASSIGN: "eth1"}):
        with refused(NOT_ALLOWED, "'eth1'"):
            check(allow, found_or_named, nic="eth1")


def test_address_from_the_admins_own_pool_is_no_annotated_one() -> None:
    check([{"namespaces": ["shop"], "sources": ["10.0.0.0/8"]}], BARE, ipam=IPAM)


@pytest.mark.parametrize("allow", [None, [], [{"namespaces": ["nobody"]}]])
def test_what_the_configuration_itself_sets_needs_no_grant(allow: list[dict[str, Any]] | None) -> None:
    configuration = Configuration.of({"allow": allow, "ipam": IPAM})
    grants.check(configuration, request(chained=False, ipam=IPAM), Pod(), "eth0")


namespaces = st.sampled_from(["shop", "bank", "*", "b*"])
some_grants = st.lists(
    st.fixed_dictionaries(
        {"namespaces": st.lists(namespaces, min_size=1, max_size=2)},
        optional={
            "sources": st.lists(st.sampled_from([*LAN, "10.0.0.0/8"]), max_size=2),
            "masters": st.lists(st.sampled_from(["eth0", "eth1"]), max_size=2),
        },
    ),
    max_size=3,
)


def served(allow: list[dict[str, Any]], annotations: dict[str, str]) -> bool:
    try:
        check(allow, annotations)
    except CniError as error:
        assert error.code == NOT_ALLOWED
        return False
    return True


@given(some_grants, some_grants, st.sampled_from([BARE, ONE, DUAL]))
def test_grants_add_up_and_their_order_does_not_matter(
    some: list[dict[str, Any]], more: list[dict[str, Any]], annotations: dict[str, str]
) -> None:
    either = served(some, annotations) or served(more, annotations)
    assert served(some + more, annotations) is served(more + some, annotations) is either


@given(some_grants)
def test_who_may_have_two_addresses_may_have_one_of_them(allow: list[dict[str, Any]]) -> None:
    if served(allow, DUAL):
        assert served(allow, ONE)
