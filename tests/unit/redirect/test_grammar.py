"""The destination grammar: every form that is accepted, every rule that can be broken, and nothing between."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cni_macvlan_egress.model.destinations import Destination, DestinationError, parse

from .. import json_values
from .lines import Line, texts

LONGEST_LABEL = "a" * 63
LONGEST_NAME = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])


def shown(text: str) -> list[str]:
    """Every line as it was understood, with its number in front."""
    return [f"{one.line}: {one}" for one in parse(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # OpenShift's egress router
        ("203.0.113.25", ["1: 203.0.113.25"]),
        ("80 tcp 203.0.113.25", ["1: 80 tcp 203.0.113.25"]),
        ("80 tcp 203.0.113.25 8080", ["1: 80 tcp 203.0.113.25 8080"]),
        (
            "80 tcp 1.2.3.4\n8080 tcp 5.6.7.8 80\n9.10.11.12",
            ["1: 80 tcp 1.2.3.4", "2: 8080 tcp 5.6.7.8 80", "3: 9.10.11.12"],
        ),
        ("# first\n\n80   udp   1.2.3.4\n   # last\n", ["3: 80 udp 1.2.3.4"]),
        ("80 tcp 1.2.3.4\r\n81 tcp 1.2.3.4\r\n", ["1: 80 tcp 1.2.3.4", "2: 81 tcp 1.2.3.4"]),
        ("#80 tcp 1.2.3.4\n1.2.3.4", ["2: 1.2.3.4"]),
        ("#\n1.2.3.4", ["2: 1.2.3.4"]),
        # protocols
        ("80 TCP 1.2.3.4", ["1: 80 tcp 1.2.3.4"]),
        ("80 Sctp 1.2.3.4", ["1: 80 sctp 1.2.3.4"]),
        (
            "80 tcp 1.2.3.4\n80 udp 1.2.3.4\n80 sctp 1.2.3.4",
            ["1: 80 tcp 1.2.3.4", "2: 80 udp 1.2.3.4", "3: 80 sctp 1.2.3.4"],
        ),
        # ports
        ("1 tcp 1.2.3.4 65535", ["1: 1 tcp 1.2.3.4 65535"]),
        ("65535 tcp 1.2.3.4 1", ["1: 65535 tcp 1.2.3.4 1"]),
        ("080 tcp 1.2.3.4 00443", ["1: 80 tcp 1.2.3.4 443"]),
        ("8000-8010 tcp 1.2.3.4", ["1: 8000-8010 tcp 1.2.3.4"]),
        ("8000-8010 tcp 1.2.3.4 80", ["1: 8000-8010 tcp 1.2.3.4 80"]),
        ("8000-8000 tcp 1.2.3.4", ["1: 8000 tcp 1.2.3.4"]),
        ("1-65535 udp 1.2.3.4", ["1: 1-65535 udp 1.2.3.4"]),
        ("1-10 tcp 1.2.3.4\n11-20 tcp 1.2.3.4", ["1: 1-10 tcp 1.2.3.4", "2: 11-20 tcp 1.2.3.4"]),
        # addresses
        ("80 tcp 1.2.3.4,5.6.7.8", ["1: 80 tcp 1.2.3.4,5.6.7.8"]),
        ("1.2.3.4,5.6.7.8", ["1: 1.2.3.4,5.6.7.8"]),
        ("80 tcp FD00:0:0::1 443", ["1: 80 tcp fd00::1 443"]),
        ("fd00::1,fd00::2", ["1: fd00::1,fd00::2"]),
        ("64:ff9b::192.0.2.1", ["1: 64:ff9b::c000:201"]),
        ("80 tcp 1.2.3.4\n80 tcp fd00::1", ["1: 80 tcp 1.2.3.4", "2: 80 tcp fd00::1"]),
        ("1.2.3.4\n80 tcp fd00::1\nfd00::1", ["1: 1.2.3.4", "2: 80 tcp fd00::1", "3: fd00::1"]),
        # names
        ("db.example.com", ["1: db.example.com"]),
        ("80 tcp DB.Example.COM.", ["1: 80 tcp db.example.com"]),
        ("80 tcp a-b.1c.x2", ["1: 80 tcp a-b.1c.x2"]),
        ("80 tcp xn--bcher-kva.example 443", ["1: 80 tcp xn--bcher-kva.example 443"]),
        (f"{LONGEST_LABEL}.com", [f"1: {LONGEST_LABEL}.com"]),
        (LONGEST_NAME, [f"1: {LONGEST_NAME}"]),
        (LONGEST_NAME + ".", [f"1: {LONGEST_NAME}"]),
        (
            "80 tcp a.com\n81 tcp a.com\n80 udp a.com\nb.com",
            ["1: 80 tcp a.com", "2: 81 tcp a.com", "3: 80 udp a.com", "4: b.com"],
        ),
    ],
    ids=lambda value: ascii(value)[:60],
)  # fmt: skip
def test_form_is_accepted(text: str, found: list[str]) -> None:
    assert shown(text) == found


WORDS = "PORT PROTO IP-or-NAME"
PORT = "a port is a number from 1 to 65535"
NAME = "neither an IP address nor a DNS name"


@pytest.mark.parametrize(
    ("text", "line", "token", "rule"),
    [
        # nothing at all
        ("", 1, "", "no destination"),
        (" \n\t\n", 1, " \n\t\n", "no destination"),
        ("# 1.2.3.4", 1, "# 1.2.3.4", "no destination"),
        # number of words
        ("80 tcp", 1, "80 tcp", WORDS),
        ("80 1.2.3.4", 1, "80 1.2.3.4", WORDS),
        ("80 tcp 1.2.3.4 443 5", 1, "80 tcp 1.2.3.4 443 5", WORDS),
        ("1.2.3.4\n80 tcp 1.2.3.4 # web", 2, "80 tcp 1.2.3.4 # web", WORDS),
        ("1.2.3.4 # all", 1, "1.2.3.4", PORT),
        ("1.2.3.4, 5.6.7.8", 1, "1.2.3.4, 5.6.7.8", WORDS),
        # ports
        ("0 tcp 1.2.3.4", 1, "0", PORT),
        ("65536 tcp 1.2.3.4", 1, "65536", PORT),
        ("-1 tcp 1.2.3.4", 1, "-1", PORT),
        ("+80 tcp 1.2.3.4", 1, "+80", PORT),
        ("8_0 tcp 1.2.3.4", 1, "8_0", PORT),
        ("0x50 tcp 1.2.3.4", 1, "0x50", PORT),
        ("80.0 tcp 1.2.3.4", 1, "80.0", PORT),
        ("http tcp 1.2.3.4", 1, "http", PORT),
        ("٨٠ tcp 1.2.3.4", 1, "٨٠", PORT),
        ("8² tcp 1.2.3.4", 1, "8²", PORT),
        ("000080 tcp 1.2.3.4", 1, "000080", PORT),
        ("9" * 5000 + " tcp 1.2.3.4", 1, "9" * 70, PORT),
        ("80 tcp 1.2.3.4 0", 1, "0", PORT),
        ("80 tcp 1.2.3.4 65536", 1, "65536", PORT),
        ("80 tcp 1.2.3.4 8000-8010", 1, "8000-8010", PORT),
        ("80 tcp 1.2.3.4 https", 1, "https", PORT),
        ("80- tcp 1.2.3.4", 1, "80-", PORT),
        ("-80 tcp 1.2.3.4", 1, "-80", PORT),
        ("- tcp 1.2.3.4", 1, "-", PORT),
        ("80-90-100 tcp 1.2.3.4", 1, "80-90-100", PORT),
        ("80-65536 tcp 1.2.3.4", 1, "80-65536", PORT),
        ("0-80 tcp 1.2.3.4", 1, "0-80", PORT),
        ("80:90 tcp 1.2.3.4", 1, "80:90", PORT),
        ("80,81 tcp 1.2.3.4", 1, "80,81", PORT),
        ("90-80 tcp 1.2.3.4", 1, "90-80", "from the lower to the higher"),
        # protocols
        ("80 icmp 1.2.3.4", 1, "icmp", "tcp, udp, sctp"),
        ("80 6 1.2.3.4", 1, "6", "tcp, udp, sctp"),
        ("80 tcp/udp 1.2.3.4", 1, "tcp/udp", "tcp, udp, sctp"),
        ("80 tcp6 fd00::1", 1, "tcp6", "tcp, udp, sctp"),
        ("tcp 80 1.2.3.4", 1, "tcp", PORT),
        ("80 1.2.3.4 tcp", 1, "1.2.3.4", "tcp, udp, sctp"),
        # addresses
        ("203.0.113.999", 1, "203.0.113.999", "not an IP address"),
        ("80 tcp 1.2.3", 1, "1.2.3", "not an IP address"),
        ("80 tcp 01.2.3.4", 1, "01.2.3.4", "not an IP address"),
        ("80 tcp 16909060", 1, "16909060", "not an IP address"),
        ("80 tcp 1.2.3.4.", 1, "1.2.3.4.", "not an IP address"),
        ("80 tcp 1.2.3.4/32", 1, "1.2.3.4/32", "leave out the prefix length"),
        ("80 tcp fd00::1/128", 1, "fd00::1/128", "leave out the prefix length"),
        ("80 tcp db.example.com/24", 1, "db.example.com/24", "leave out the prefix length"),
        ("80 tcp 1.2.3.4:8080", 1, "1.2.3.4:8080", "not an IP address"),
        ("80 tcp [fd00::1]", 1, "[fd00::1]", "not an IP address"),
        ("80 tcp fd00::1%eth0", 1, "fd00::1%eth0", "zone"),
        ("80 tcp fe80::1%eth0", 1, "fe80::1%eth0", "zone"),
        ("80 tcp fe80::1", 1, "fe80::1", "link-local"),
        ("169.254.169.254", 1, "169.254.169.254", "link-local"),
        ("80 tcp 0.0.0.0", 1, "0.0.0.0", "unspecified"),
        ("::", 1, "::", "unspecified"),
        ("80 tcp 0.1.2.3", 1, "0.1.2.3", "0.0.0.0/8"),
        ("127.0.0.1", 1, "127.0.0.1", "loopback"),
        ("80 tcp ::1", 1, "::1", "loopback"),
        ("224.0.0.1", 1, "224.0.0.1", "multicast"),
        ("80 tcp ff02::1", 1, "ff02::1", "multicast"),
        ("255.255.255.255", 1, "255.255.255.255", "broadcast"),
        ("80 tcp ::ffff:1.2.3.4", 1, "::ffff:1.2.3.4", "IPv4-mapped"),
        ("80 tcp 1.2.3.4,", 1, "1.2.3.4,", "not an IP address"),
        (",", 1, ",", "not an IP address"),
        ("80 tcp 1.2.3.4,,5.6.7.8", 1, "1.2.3.4,,5.6.7.8", "not an IP address"),
        ("80 tcp 1.2.3.4,5.6.7.8,1.2.3.4", 1, "1.2.3.4,5.6.7.8,1.2.3.4", "1.2.3.4 is named twice"),
        ("fd00::1,fd00:0::1", 1, "fd00::1,fd00:0::1", "fd00::1 is named twice"),
        ("80 tcp 1.2.3.4,fd00::1", 1, "1.2.3.4,fd00::1", "one family"),
        ("fd00::1,1.2.3.4", 1, "fd00::1,1.2.3.4", "one family"),
        ("80 tcp 1.2.3.4,db.example.com", 1, "1.2.3.4,db.example.com", "'db.example.com' is not an IP address"),
        ("80 tcp a.com,b.com", 1, "a.com,b.com", "not an IP address"),
        # names
        ("localhost", 1, "localhost", "at least one dot"),
        ("80 tcp db.", 1, "db.", "at least one dot"),
        ("80 tcp db_1.example.com", 1, "db_1.example.com", NAME),
        ("80 tcp -db.example.com", 1, "-db.example.com", NAME),
        ("80 tcp db-.example.com", 1, "db-.example.com", NAME),
        ("80 tcp db..example.com", 1, "db..example.com", NAME),
        ("80 tcp .example.com", 1, ".example.com", NAME),
        ("80 tcp example.com..", 1, "example.com..", NAME),
        ("80 tcp .", 1, ".", NAME),
        ("80 tcp *.example.com", 1, "*.example.com", NAME),
        ("80 tcp bücher.example", 1, "bücher.example", NAME),
        ("80 tcp \u212aelvin.com", 1, "\u212aelvin.com", NAME),
        ("80 tcp exam\u0131ple.com", 1, "exam\u0131ple.com", NAME),
        ('80 tcp a".com', 1, 'a".com', NAME),
        ("80 tcp a;drop.com", 1, "a;drop.com", NAME),
        ("80 tcp $(x).com", 1, "$(x).com", NAME),
        ("80 tcp db.example.com\0", 1, "db.example.com\\x00", NAME),
        (f"a{LONGEST_LABEL}.com", 1, f"a{LONGEST_LABEL}.com", NAME),
        (f"a{LONGEST_NAME}", 1, f"a{'a' * 63}"[:60], NAME),
        ("80 tcp \ud800.com", 1, "\\ud800.com", NAME),
        # beside each other
        ("80 tcp 1.2.3.4\n80 tcp 5.6.7.8", 2, "80 tcp 5.6.7.8", "port 80 tcp is taken by line 1"),
        ("80 tcp 1.2.3.4\n\n#\n 80 TCP 1.2.3.4 ", 4, "80 TCP 1.2.3.4", "port 80 tcp is taken by line 1"),
        ("80 tcp 1.2.3.4 1\n080 tcp 1.2.3.4 2", 2, "080 tcp 1.2.3.4 2", "taken by line 1"),
        ("80-90 tcp 1.2.3.4\n85 tcp 1.2.3.4", 2, "85 tcp 1.2.3.4", "port 85 tcp is taken by line 1"),
        ("85 tcp 1.2.3.4\n80-90 tcp 1.2.3.4", 2, "80-90 tcp 1.2.3.4", "port 85 tcp is taken by line 1"),
        ("80-90 tcp 1.2.3.4\n90-99 tcp 1.2.3.4", 2, "90-99 tcp 1.2.3.4", "port 90 tcp is taken by line 1"),
        ("80 tcp fd00::1\n80 tcp 1.2.3.4\n80 tcp fd00::2", 3, "80 tcp fd00::2", "taken by line 1"),
        ("80 tcp a.com\n80 tcp 1.2.3.4", 2, "80 tcp 1.2.3.4", "taken by line 1"),
        ("80 tcp fd00::1\n80 tcp a.com", 2, "80 tcp a.com", "taken by line 1"),
        ("1.2.3.4\n5.6.7.8", 2, "5.6.7.8", "line 1 takes everything already"),
        ("1.2.3.4\n1.2.3.4", 2, "1.2.3.4", "line 1 takes everything already"),
        ("1.2.3.4\na.com", 2, "a.com", "line 1 takes everything already"),
        ("a.com\nfd00::1", 2, "fd00::1", "line 1 takes everything already"),
        ("1.2.3.4\n80 tcp 1.2.3.4", 2, "80 tcp 1.2.3.4", "line 1 takes everything else and has to be the last"),
        ("fd00::1\n1.2.3.4\n80 udp fd00::1", 3, "80 udp fd00::1", "line 1 takes everything else"),
        ("1.2.3.4\n80 tcp a.com", 2, "80 tcp a.com", "line 1 takes everything else"),
    ],
    ids=lambda value: ascii(value)[:60],
)  # fmt: skip
def test_error_names_line_token_and_rule(text: str, line: int, token: str, rule: str) -> None:
    with pytest.raises(DestinationError) as caught:
        parse(text)
    words = str(caught.value)
    assert words.startswith(f"line {line}: "), words
    told, why = re.split(r"(?<=['\"…]): ", words.removeprefix(f"line {line}: "), maxsplit=1)
    assert token.replace("\n", "\\n").replace("\t", "\\t") in told, words
    assert rule in why, words
    assert words.isprintable()


def test_first_broken_line_is_the_one_that_is_named() -> None:
    with pytest.raises(DestinationError, match=r"^line 2: '0': "):
        parse("80 tcp 1.2.3.4\n0 tcp 1.2.3.4\n80 tcp 1.2.3.4\nnonsense")


@pytest.mark.parametrize("separator", ["\v", "\f", "\x1c", "\x85", "\u2028", "\u00a0"])
def test_only_a_line_feed_ends_a_line(separator: str) -> None:
    """So that no editor, log or terminal counts the lines differently from the error."""
    assert [one.line for one in parse(f"# a{separator}80 tcp 1.2.3.4\n81 tcp 1.2.3.4")] == [2]


# -- properties


def expected(number: int, line: Line) -> Destination:
    parts = line.target.split(",")
    try:
        addresses, name = tuple(map(ipaddress.ip_address, parts)), None
    except ValueError:
        addresses, name = (), line.target.lower().removesuffix(".")
    protocol = line.protocol or None
    return Destination(number, protocol, line.ports, line.target_port, addresses, name)  # type: ignore[arg-type]


@settings(max_examples=100)
@given(texts())
def test_what_is_written_is_understood(written: tuple[str, list[tuple[int, Line]]]) -> None:
    text, numbered = written
    assert parse(text) == tuple(expected(number, line) for number, line in numbered)


@given(texts())
def test_what_was_understood_can_be_said_again(written: tuple[str, list[tuple[int, Line]]]) -> None:
    found = parse(written[0])
    rows = [""] * found[-1].line
    for one in found:
        rows[one.line - 1] = str(one)
    assert parse("\n".join(rows)) == found


_TOKENS = st.sampled_from(
    ["80", "0", "65536", "8000-8010", "-", "tcp", "UDP", "sctp", "icmp", "1.2.3.4", "fd00::1", "1.2.3.4,fd00::1",
     "a.com", "a..com", "localhost", "#", ",", "\n", "\r\n", "\t", "::", "127.0.0.1", "fe80::1%x", "\ud800", "\0", '"']
)  # fmt: skip
anything = (
    st.text()
    | json_values.any_text
    | st.lists(_TOKENS, max_size=12).map(" ".join)
    | st.lists(_TOKENS, max_size=12).map("".join)
)


@settings(max_examples=500)
@given(anything)
@example("80 tcp \ud800")
@example("\0")
@example("80 tcp " + "a," * 5000)
@example("80 tcp " + "1" * 100_000)
@example("1" * 5000 + "-2 tcp 1.2.3.4")
def test_any_text_is_understood_or_refused_with_its_line(text: str) -> None:
    try:
        found = parse(text)
    except DestinationError as error:
        words = str(error)
        number = re.match(r"line (\d+): ", words)
        assert number, words
        assert 1 <= int(number[1]) <= text.count("\n") + 1
        assert words.isprintable(), words
        assert len(words) < 500
    else:
        assert found
        for one in found:
            assert re.fullmatch(r"[0-9a-z:., -]+", str(one))
            assert text.split("\n")[one.line - 1].strip()


@given(texts(), st.data())
def test_one_broken_line_spoils_the_whole(
    written: tuple[str, list[tuple[int, Line]]], data: st.DataObject
) -> None:
    """Traffic that somebody meant to send on must not be left out silently."""
    rows = written[0].split("\n")
    where = data.draw(st.integers(0, len(rows)))
    rows.insert(where, data.draw(st.sampled_from(["80 tcp", "80 icmp 1.2.3.4", "0 tcp 1.2.3.4", "a_b.com"])))
    with pytest.raises(DestinationError, match=rf"^line {where + 1}: "):
        parse("\n".join(rows))
