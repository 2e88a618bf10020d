"""The nftables table as text, chain by chain."""

from __future__ import annotations

import re
import textwrap

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cni_macvlan_egress.decide import redirect, ruleset
from cni_macvlan_egress.decide.ruleset import Passage
from cni_macvlan_egress.model.destinations import parse
from cni_macvlan_egress.protocol.errors import INVALID_CONFIGURATION

from ..refusals import refused
from . import lines
from .lines import Line

SOURCES = {4: "192.168.12.99", 6: "fd00:12::99"}
PASSAGE = Passage("eth0", "macvlan0", SOURCES, (1500, 1500), True)
COMMENT_MAX = 128  # NFTNL_UDATA_COMMENT_MAXLEN of libnftnl, with the byte that ends it


def rendered(text: str, passage: Passage = PASSAGE) -> str:
    return ruleset.render(passage, redirect.forwards(parse(text), {}, (4, 6), ()))


def blocks(text: str, passage: Passage = PASSAGE) -> dict[str, str]:
    """The maps, sets and chains of a table, by name, without their outer braces."""
    found = re.findall(r"^\t(\w+ [\w-]+) \{\n(.*?)^\t\}$", rendered(text, passage), re.M | re.S)
    return {name: textwrap.dedent(body) for name, body in found}


def test_one_port() -> None:
    found = blocks("80 tcp 203.0.113.25 8080")
    assert found["map lines4"] == (
        "type inet_proto . inet_service : verdict\nelements = { tcp . 80 : goto line-1-ip }\n"
    )
    assert found["set targets4"] == (
        "type ipv4_addr . inet_proto . inet_service\nelements = { 203.0.113.25 . tcp . 8080 }\n"
    )
    assert found["chain line-1-ip"] == (
        'meta l4proto tcp counter dnat ip to 203.0.113.25:8080 comment "line 1: 80 tcp 203.0.113.25 8080"\n'
    )
    assert found["chain prerouting"] == textwrap.dedent(
        """\
        type nat hook prerouting priority dstnat; policy accept;
        iifname != "eth0" accept
        fib daddr type != local accept
        meta nfproto ipv4 meta l4proto . th dport vmap @lines4
        """
    )
    assert found["chain postrouting"] == textwrap.dedent(
        """\
        type nat hook postrouting priority srcnat; policy accept;
        oifname "macvlan0" ip saddr != 192.168.12.99 snat ip to 192.168.12.99
        """
    )
    assert not [name for name in found if "6" in name]


def test_everything_of_both_families() -> None:
    found = blocks("203.0.113.25\n2001:db8::25")
    assert found["set hosts4"] == "type ipv4_addr\nelements = { 203.0.113.25 }\n"
    assert found["set hosts6"] == "type ipv6_addr\nelements = { 2001:db8::25 }\n"
    assert found["chain line-1-ip"] == 'counter dnat ip to 203.0.113.25 comment "line 1: 203.0.113.25"\n'
    assert found["chain line-2-ip6"] == 'counter dnat ip6 to 2001:db8::25 comment "line 2: 2001:db8::25"\n'
    assert found["chain prerouting"].splitlines()[-2:] == [
        "meta nfproto ipv4 goto line-1-ip",
        "meta nfproto ipv6 goto line-2-ip6",
    ]
    assert found["chain postrouting"].splitlines()[1:] == [
        'oifname "macvlan0" ip saddr != 192.168.12.99 snat ip to 192.168.12.99',
        'oifname "macvlan0" ip6 saddr != fd00:12::99 snat ip6 to fd00:12::99',
    ]
    assert not [name for name in found if name.startswith("map")]


def test_ports_come_before_everything_else() -> None:
    """Whatever order the families have in the annotation."""
    found = blocks("2001:db8::25\n80 tcp 203.0.113.25\n203.0.113.26")
    assert found["chain prerouting"].splitlines()[-3:] == [
        "meta nfproto ipv4 meta l4proto . th dport vmap @lines4",
        "meta nfproto ipv4 goto line-3-ip",
        "meta nfproto ipv6 goto line-1-ip6",
    ]


def test_ranges_and_several_addresses() -> None:
    found = blocks("8000-8010 udp 203.0.113.25,203.0.113.26\n80 sctp 2001:db8::1,2001:db8::2 81")
    assert found["map lines4"].splitlines()[1:] == [
        "flags interval",
        "elements = { udp . 8000-8010 : goto line-1-ip }",
    ]
    assert "flags interval" not in found["map lines6"]
    assert (
        "dnat ip to jhash ip saddr mod 2 seed 0x6d766c6e map { 0 : 203.0.113.25, 1 : 203.0.113.26 }"
        in found["chain line-1-ip"]
    )
    assert (
        "dnat ip6 addr . port to jhash ip6 saddr mod 2 seed 0x6d766c6e "
        "map { 0 : 2001:db8::1 . 81, 1 : 2001:db8::2 . 81 }" in found["chain line-2-ip6"]
    )


def test_forward_lets_out_what_was_translated_and_back_what_answers() -> None:
    chain = blocks("203.0.113.25")["chain forward"].splitlines()
    assert chain[0] == "type filter hook forward priority filter; policy drop;"
    assert [re.sub(r' comment ".*"', "", line) for line in chain[1:]] == [
        "ct state invalid counter drop",
        'iifname "eth0" oifname "macvlan0" ct status dnat counter accept',
        'iifname "macvlan0" oifname "eth0" ct state established,related ct direction reply counter accept',
        "counter",
    ]


@pytest.mark.parametrize(
    ("mtus", "sizes"),
    [
        ((1500, 1500), []),
        ((1500, 1400), ["ipv4 1360", "ipv6 1340"]),
        ((1450, 1500), ["ipv4 1410", "ipv6 1390"]),
        ((9000, 1280), ["ipv4 1240", "ipv6 1220"]),
    ],
)
def test_segments_fit_the_smaller_of_both_sides(mtus: tuple[int, int], sizes: list[str]) -> None:
    passage = Passage("eth0", "macvlan0", SOURCES, mtus, True)
    chain = blocks("203.0.113.25\n2001:db8::25", passage)["chain forward"]
    found = re.findall(r"meta nfproto (\w+) tcp flags syn tcp option maxseg size set (\d+)", chain)
    assert [" ".join(one) for one in found] == sizes


def test_from_the_lan_only_answers_and_neighbours_get_in() -> None:
    chain = blocks("203.0.113.25")["chain input"].splitlines()
    assert [re.sub(r' comment ".*"', "", line) for line in chain] == [
        "type filter hook input priority filter; policy accept;",
        'iifname != "macvlan0" accept',
        "ct state established,related accept",
        "icmpv6 type { mld-listener-query, nd-neighbor-solicit, nd-neighbor-advert } accept",
        "counter drop",
    ]


def test_own_traffic_is_held_to_the_destinations() -> None:
    chain = blocks("80 tcp 203.0.113.25\n203.0.113.26\n53 udp 2001:db8::25")["chain output"]
    assert "ip daddr . meta l4proto . th dport @targets4 accept\n" in chain
    assert "ip daddr @hosts4 accept\n" in chain
    assert "ip6 daddr . meta l4proto . th dport @targets6 accept\n" in chain
    assert "hosts6" not in chain
    assert "reject with icmpx admin-prohibited" in chain.splitlines()[-1]


def test_own_traffic_is_free_where_the_default_route_is_the_macvlans() -> None:
    passage = Passage("eth0", "macvlan0", SOURCES, (1500, 1500), False)
    assert not {"chain output", "set targets4", "set hosts4"} & set(
        blocks("80 tcp 1.2.3.4\n1.2.3.4", passage)
    )


def test_interfaces_have_their_names() -> None:
    passage = Passage("net1", "egress.100", SOURCES, (1500, 1500), True)
    text = rendered("203.0.113.25", passage)
    assert 'iifname "net1" oifname "egress.100"' in text
    assert "eth0" not in text
    assert "macvlan0" not in text


@pytest.mark.parametrize(
    "name",
    ['a" accept; #', 'x"', "a\nb", "a b", "a*", "*", "", "a;b", "a{b", "a}b", "$x", "a\\", "a'b", "ä", "a#b", "a/b",
     "a\0"],
)  # fmt: skip
@pytest.mark.parametrize("side", ["inside", "outside"])
def test_interface_name_cannot_say_anything_to_nft(side: str, name: str) -> None:
    names = {"inside": "eth0", "outside": "macvlan0", side: name}
    with refused(INVALID_CONFIGURATION, repr(name).split("\\")[0][:3], "interface name"):
        rendered("203.0.113.25", Passage(**names, sources=SOURCES, mtus=(1500, 1500), only_destinations=True))


@given(st.text(max_size=15))
def test_any_interface_name_is_quoted_whole_or_refused(name: str) -> None:
    from cni_macvlan_egress.protocol.errors import CniError

    passage = Passage(name, "macvlan0", SOURCES, (1500, 1500), True)
    try:
        text = rendered("203.0.113.25", passage)
    except CniError as error:
        assert error.code == INVALID_CONFIGURATION
    else:
        assert f'iifname != "{name}" accept' in text
        assert not set(name) & set("\"\\\n\t ;{}*$'")


def comments(text: str) -> list[str]:
    return re.findall(r'comment "([^"]*)"', text)


@given(lines.documents(with_names=False))
def test_comment_names_the_line_and_fits(rows: list[Line]) -> None:
    text = "\n".join(line.written() for line in rows)
    found = comments(rendered(text))
    for one in parse(text):
        words = f"line {one.line}: {one}"
        (comment,) = [comment for comment in found if comment.startswith(f"line {one.line}: ")]
        assert comment == words or (comment.endswith("...") and words.startswith(comment[:-3]))
    assert all(len(comment.encode()) < COMMENT_MAX for comment in found)


def test_long_line_is_cut_in_its_comment_only() -> None:
    addresses = [f"2001:db8:1111:2222:3333:4444:5555:{number:x}" for number in range(16)]
    text = rendered(f"8000-8010 tcp {','.join(addresses)} 443")
    (comment,) = [one for one in comments(text) if one.startswith("line 1: ")]
    assert comment.startswith("line 1: 8000-8010 tcp 2001:db8:1111:")
    assert comment.endswith("...")
    assert len(comment) == 120
    assert all(f": {address} . 443" in text for address in addresses)


def elements(text: str, name: str) -> list[str]:
    found = re.search(rf"{name} \{{.*?elements = \{{ (.*?) \}}", text, re.S)
    return found[1].split(", ") if found else []


@given(lines.documents(with_names=False) | lines.documents(with_names=False, few=True))
def test_every_line_has_its_chain_and_every_port_its_element(rows: list[Line]) -> None:
    """So that a packet's cost does not grow with the lines: they are found by one look into a map."""
    text = "\n".join(line.written() for line in rows)
    table = rendered(text)
    prerouting = table[table.index("chain prerouting") :].split("}")[0]
    for one in parse(text):
        word = "ip" if one.addresses[0].version == 4 else "ip6"
        chain = f"line-{one.line}-{word}"
        assert table.count(f"chain {chain} {{") == 1
        if one.ports is None:
            assert f"goto {chain}\n" in prerouting
            continue
        first, last = one.ports
        ports = str(first) if first == last else f"{first}-{last}"
        version = one.addresses[0].version
        assert f"{one.protocol} . {ports} : goto {chain}" in elements(table, f"map lines{version}")
    assert prerouting.count("vmap") <= 2


def span(ports: str) -> range:
    first, _, last = ports.partition("-")
    return range(int(first), int(last or first) + 1)


@given(lines.documents(with_names=False, few=True))
@example([Line("192.0.2.1", (8000, 8010), "tcp"), Line("192.0.2.1", (9000, 9000), "tcp", 8005)])
@example([Line("192.0.2.1", (80, 80), "tcp", 443), Line("192.0.2.1", (81, 85), "tcp", 443)])
def test_pod_may_reach_the_target_of_every_line_and_no_more(rows: list[Line]) -> None:
    text = "\n".join(line.written() for line in rows)
    table = rendered(text)
    for version in (4, 6):
        mine = [one for one in parse(text) if one.addresses[0].version == version]
        wanted = {
            (str(address), str(one.protocol), port)
            for one in mine
            if one.ports
            for address in one.addresses
            for port in ([one.target_port] if one.target_port else range(one.ports[0], one.ports[1] + 1))
        }
        told = [element.split(" . ") for element in elements(table, f"set targets{version}")]
        allowed = [(address, protocol, port) for address, protocol, ports in told for port in span(ports)]
        assert set(allowed) == wanted
        assert len(allowed) == len(set(allowed)), "the kernel refuses elements that overlap"
        hosts = {str(address) for one in mine if one.ports is None for address in one.addresses}
        assert set(elements(table, f"set hosts{version}")) == hosts
