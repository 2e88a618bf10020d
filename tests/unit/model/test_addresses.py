"""Addresses, prefixes and MAC addresses: what a host can have, and nothing else."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cni_macvlan_egress.model.addresses import (
    parse_host_address,
    parse_host_interface,
    parse_mac,
    parse_network,
)

from .. import json_values

near_addresses = st.text(st.sampled_from("0123456789abf:./% "), max_size=20)


def refused(parse: Callable[[str], object], text: object, *words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)  # type: ignore[arg-type]
    assert not isinstance(caught.value, UnicodeError)
    for word in words:
        assert word in str(caught.value)


# -- MAC addresses


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("02:00:5e:10:00:01", "02:00:5e:10:00:01"),
        ("02-00-5E-10-00-01", "02:00:5e:10:00:01"),
        (" FE:ff:FF:ff:ff:fF\n", "fe:ff:ff:ff:ff:ff"),
        ("00:11:22:33:44:55", "00:11:22:33:44:55"),
    ],
)
def test_mac_is_spelled_as_by_the_kernel(text: str, mac: str) -> None:
    assert parse_mac(text) == mac


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "six hexadecimal bytes"),
        ("02:00:5e:10:00", "six hexadecimal bytes"),
        ("02:00:5e:10:00:01:02", "six hexadecimal bytes"),
        ("02:00:5e:10:00:1", "six hexadecimal bytes"),
        ("02005e100001", "six hexadecimal bytes"),
        ("0200.5e10.0001", "six hexadecimal bytes"),
        ("02:00:5g:10:00:01", "six hexadecimal bytes"),
        ("٠٢:00:5e:10:00:01", "six hexadecimal bytes"),
        ("01:00:5e:00:00:01", "multicast"),
        ("ff:ff:ff:ff:ff:ff", "multicast"),
        ("00:00:00:00:00:00", "zero"),
    ],
)
def test_bad_mac_is_refused_with_the_rule(text: str, words: str) -> None:
    refused(parse_mac, text, words)


@given(json_values.any_text | st.text(st.sampled_from("0123456789aAfF:-"), min_size=15, max_size=18))
@example("02:00:5e:10:00:01\n")
def test_mac_is_a_unicast_one_or_refused(text: str) -> None:
    try:
        mac = parse_mac(text)
    except ValueError:
        return
    assert re.fullmatch(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}", mac)
    assert parse_mac(mac) == mac


# -- a host's address


@pytest.mark.parametrize(
    ("text", "interface"),
    [
        ("192.168.12.99", "192.168.12.99/32"),
        ("192.168.12.99/24", "192.168.12.99/24"),
        ("192.168.12.99/32", "192.168.12.99/32"),
        ("192.168.12.98/31", "192.168.12.98/31"),
        ("192.168.12.99/31", "192.168.12.99/31"),
        ("192.168.12.1/30", "192.168.12.1/30"),
        ("10.0.0.5/8", "10.0.0.5/8"),
        ("fd00::99", "fd00::99/128"),
        ("FD00:0:0::99/64", "fd00::99/64"),
        ("fd00::/127", "fd00::/127"),
        ("2001:db8::ffff/112", "2001:db8::ffff/112"),
    ],
)
def test_address_with_its_prefix_length(text: str, interface: str) -> None:
    assert str(parse_host_interface(text)) == interface


# What no host has, whatever the prefix length; the text is shown with the rule.
NO_HOST = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "0.0.0.0/8"),
    ("127.0.0.1", "loopback"),
    ("127.255.0.1", "loopback"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("ff02::1", "multicast"),
    ("::ffff:192.168.12.99", "IPv4-mapped"),
]
NO_ADDRESS = [
    "", " ", "router", "192.168.12", "192.168.12.300", "192.168.12.1.1", "192.168.012.099", "0xc0a80c63",
    "3232238691", "192.168.12.99 ", "192.168.12.99,192.168.12.98", "192.168.12.99\n", "192.168.12.99\0",
    "١٩٢.168.12.99", "192.168.12.99%eth0", "fd00", "fd00:::1", "fd00::g", "[fd00::1]", "fd00::1%", "fd00::1%0",
    "fd00::1%eth0", "fe80::1%eth0",
]  # fmt: skip


@pytest.mark.parametrize(("text", "rule"), NO_HOST)
@pytest.mark.parametrize("parse", [parse_host_address, parse_host_interface])
def test_address_that_no_host_has_is_refused(parse: Callable[[str], object], text: str, rule: str) -> None:
    refused(parse, text, str(ipaddress.ip_address(text)), rule, "host")


@pytest.mark.parametrize("text", NO_ADDRESS)
@pytest.mark.parametrize("parse", [parse_host_address, parse_host_interface])
def test_text_that_is_no_address_is_refused(parse: Callable[[str], object], text: str) -> None:
    refused(parse, text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("192.168.12.0/24", "network's own address in /24"),
        ("192.168.12.255/24", "broadcast address in /24"),
        ("192.168.12.96/30", "network's own address"),
        ("192.168.12.99/30", "broadcast"),
        ("fd00::/64", "network's own address"),
        ("192.168.12.99/0", "prefix length of 0"),
        ("fd00::99/0", "prefix length of 0"),
        ("169.254.1.1/16", "link-local"),
        ("fe80::99/64", "link-local"),
    ],
)
def test_address_that_its_prefix_forbids_is_refused(text: str, rule: str) -> None:
    refused(parse_host_interface, text, rule, text.partition("/")[0])


@pytest.mark.parametrize(
    "length", ["", "33", "-1", "+24", "024 ", " 24", "x", "255.255.255.0", "0.0.0.255", "24/24", "٢٤"]
)
def test_prefix_length_that_is_none_is_refused(length: str) -> None:
    refused(parse_host_interface, f"192.168.12.99/{length}")


@pytest.mark.parametrize(
    "text", ["192.168.12.1", "fd00::1", "fe80::1", "169.254.1.1", "8.8.8.8", "192.168.12.0"]
)
def test_gateway_may_be_any_hosts_address(text: str) -> None:
    assert str(parse_host_address(text)) == text


def test_gateway_has_no_prefix_length_and_is_told_so() -> None:
    refused(parse_host_address, "192.168.12.1/24", "192.168.12.1/24", "leave out the prefix length")


@given(json_values.any_text | near_addresses | st.ip_addresses().map(str))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_host_address(text)
    except ValueError as error:
        assert not isinstance(error, UnicodeError)
        return
    assert parse_host_address(str(address)) == address
    assert address == ipaddress.ip_address(text)


@given(near_addresses | st.builds("{}/{}".format, st.ip_addresses(), st.integers(-1, 130) | near_addresses))
def test_any_text_is_an_interface_or_refused(text: str) -> None:
    try:
        interface = parse_host_interface(text)
    except ValueError as error:
        assert not isinstance(error, UnicodeError)
        return
    assert parse_host_interface(str(interface)) == interface
    assert interface == ipaddress.ip_interface(text)
    assert re.fullmatch(r"[0-9a-f.:]+/[0-9]+", str(interface))
    parse_host_address(str(interface.ip))


# -- networks


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 10.0.0.0/8 ", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("192.168.12.99", "192.168.12.99/32"),
        ("fd00::/8", "fd00::/8"),
        ("::/0", "::/0"),
        ("fd00::1", "fd00::1/128"),
    ],
)
def test_network(text: str, network: str) -> None:
    assert str(parse_network(text)) == network
    assert parse_network(parse_network(text)) == parse_network(text)


@pytest.mark.parametrize("value", [None, 5, True, 1.5, [], ["10.0.0.0/8"], {}, b"10.0.0.0/8"])
def test_value_that_is_no_text_is_no_network(value: object) -> None:
    refused(parse_network, value, "CIDR")


@pytest.mark.parametrize("text", ["", "pods", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "10.0.0.0/8/8"])
def test_text_that_is_no_network_is_refused(text: str) -> None:
    refused(parse_network, text, "CIDR")


def test_network_of_a_zone_is_refused() -> None:
    refused(parse_network, "fe80::%eth0/64", "fe80::%eth0/64")


@pytest.mark.parametrize(("text", "meant"), [("10.1.2.3/8", "10.0.0.0/8"), ("fd00::1/64", "fd00::/64")])
def test_network_with_host_bits_is_refused_with_the_one_meant(text: str, meant: str) -> None:
    refused(parse_network, text, "host bits", meant)


@given(json_values.values | near_addresses)
def test_any_value_is_a_network_or_refused(value: object) -> None:
    try:
        network = parse_network(value)
    except ValueError:
        return
    assert parse_network(str(network)) == network
