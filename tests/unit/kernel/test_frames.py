"""Frames of conflict detection and announcement, byte by byte, and what is read from any frame."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cni_macvlan_egress.kernel.frames import (
    Claim,
    announcements,
    multicast_mac,
    probe,
    read_claim,
    solicited_node,
)

MAC = "02:00:5e:10:00:01"
IPV4 = ipaddress.ip_address("192.168.12.99")
IPV6 = ipaddress.ip_address("fd00:12::99")

macs = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
addresses = st.ip_addresses()


def frame(*parts: str) -> bytes:
    return bytes.fromhex("".join(parts).replace(" ", ""))


# RFC 826: Ethernet, IPv4, 6 and 4 octets; operation, sender, target
ARP = "0806 0001 0800 06 04"
OWN = "02005e100001"


def test_arp_probe_asks_for_the_address_and_claims_none() -> None:
    """RFC 5227, section 2.1.1."""
    expected = frame("ffffffffffff", OWN, ARP, "0001", OWN, "00000000", "000000000000", "c0a80c63")
    assert probe(IPV4, MAC) == expected


def test_arp_announcement_is_request_and_reply() -> None:
    """RFC 5227, section 3: sender and target are the same; some hosts mind requests only, others replies."""
    parts = (OWN, "c0a80c63", "000000000000", "c0a80c63")
    assert announcements(IPV4, MAC) == [
        frame("ffffffffffff", OWN, ARP, operation, *parts) for operation in ("0001", "0002")
    ]


ADDRESS = "fd000012000000000000000000000099"


def test_solicitation_goes_from_nobody_to_the_addresss_own_group() -> None:
    """RFC 4862, section 5.4.2: no source, no option; RFC 4861, section 7.1.1: hop limit 255."""
    group = "ff0200000000000000000001ff000099"
    sent = probe(IPV6, MAC)
    checksum = sent[56:58]
    assert sent == frame(
        "3333ff000099", OWN, "86dd", "60000000 0018 3a ff", "00" * 16, group,
        "87 00", checksum.hex(), "00000000", ADDRESS,
    )  # fmt: skip


def test_unsolicited_advertisement_goes_to_all_nodes_and_overrides() -> None:
    """RFC 4861, section 7.2.6: override set, solicited not, with the target's link-layer address."""
    (sent,) = announcements(IPV6, MAC)
    checksum = sent[56:58]
    assert sent == frame(
        "333300000001", OWN, "86dd", "60000000 0020 3a ff", ADDRESS, "ff020000000000000000000000000001",
        "88 00", checksum.hex(), "20000000", ADDRESS, "02 01", OWN,
    )  # fmt: skip


def icmpv6_sum(sent: bytes) -> int:
    """RFC 8200, section 8.1: the one's complement sum of pseudo header and message, checksum included."""
    source, destination, body = sent[22:38], sent[38:54], sent[54:]
    covered = source + destination + struct.pack("!I3xB", len(body), 58) + body
    return int.from_bytes(covered, "big") % 0xFFFF


@given(st.ip_addresses(v=6), macs)
@example(ipaddress.IPv6Address("::"), "00:00:00:00:00:00")
@example(ipaddress.IPv6Address(b"\xff" * 16), "ff:ff:ff:ff:ff:ff")
def test_checksum_is_right_for_every_address(address: ipaddress.IPv6Address, mac: str) -> None:
    for sent in (probe(address, mac), *announcements(address, mac)):
        assert icmpv6_sum(sent) == 0
        assert struct.unpack_from("!H", sent, 18)[0] == len(sent) - 54


@given(st.ip_addresses(v=6))
def test_group_has_the_last_three_octets_of_the_address(address: ipaddress.IPv6Address) -> None:
    group = solicited_node(address)
    assert group in ipaddress.ip_network("ff02::1:ff00:0/104")
    assert group.packed[-3:] == address.packed[-3:]
    assert multicast_mac(group) == b"\x33\x33\xff" + address.packed[-3:]


# -- reading


@given(addresses, macs)
def test_probe_is_read_as_somebody_about_to_take_the_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, mac: str
) -> None:
    assert read_claim(probe(address, mac)) == Claim(address, mac, probing=True)


@given(addresses.filter(lambda address: not address.is_unspecified), macs)
def test_announcement_is_read_as_somebody_who_has_the_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, mac: str
) -> None:
    for sent in announcements(address, mac):
        assert read_claim(sent) == Claim(address, mac, probing=False)


@given(addresses, macs, st.binary(max_size=30))
def test_padding_behind_a_frame_changes_nothing(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, mac: str, padding: bytes
) -> None:
    for sent in (probe(address, mac), *announcements(address, mac)):
        assert read_claim(sent + padding) == read_claim(sent)


def arp(operation: int, sender: str, target: str, mac: str = "020000000007") -> bytes:
    octets = [ipaddress.ip_address(one).packed.hex() for one in (sender, target)]
    return frame("ffffffffffff", mac, ARP, f"{operation:04x}", mac, octets[0], "00" * 6, octets[1])


HOLDER = "02:00:00:00:00:07"


@pytest.mark.parametrize(
    ("received", "claim"),
    [
        (arp(1, "192.168.12.99", "192.168.12.1"), Claim(IPV4, HOLDER, probing=False)),  # asks for a third
        (arp(2, "192.168.12.99", "0.0.0.0"), Claim(IPV4, HOLDER, probing=False)),  # answers a probe
        (arp(1, "0.0.0.0", "192.168.12.99"), Claim(IPV4, HOLDER, probing=True)),
    ],
)
def test_whoever_speaks_from_an_address_has_it(received: bytes, claim: Claim) -> None:
    assert read_claim(received) == claim


def test_question_for_the_address_is_no_claim_on_it() -> None:
    claim = read_claim(arp(1, "192.168.12.7", "192.168.12.99"))
    assert claim is not None
    assert claim.address != IPV4


def changed(sent: bytes, offset: int, octets: str) -> bytes:
    put = frame(octets)
    return sent[:offset] + put + sent[offset + len(put) :]


SOLICITATION = probe(IPV6, MAC)
ADVERTISEMENT = announcements(IPV6, MAC)[0]


@pytest.mark.parametrize(
    "received",
    [
        b"",
        changed(probe(IPV4, MAC), 12, "0800"),
        changed(probe(IPV4, MAC), 14, "0006"),  # not Ethernet
        changed(probe(IPV4, MAC), 16, "86dd"),  # not IPv4
        changed(probe(IPV4, MAC), 18, "08"),
        changed(probe(IPV4, MAC), 19, "10"),
        changed(SOLICITATION, 20, "11"),  # UDP
        changed(SOLICITATION, 21, "40"),  # has come through a router
        changed(ADVERTISEMENT, 21, "fe"),
        changed(SOLICITATION, 22, ADDRESS),  # a host that has an address looks for a neighbour
        changed(SOLICITATION, 54, "86"),  # a router advertisement
        changed(SOLICITATION, 54, "80"),  # an echo request
    ],
    ids=lambda received: received.hex()[24:60],
)
def test_other_frames_claim_nothing(received: bytes) -> None:
    assert read_claim(received) is None


@pytest.mark.parametrize("sent", [probe(IPV4, MAC), *announcements(IPV4, MAC), SOLICITATION, ADVERTISEMENT])
def test_frame_that_is_cut_short_claims_nothing(sent: bytes) -> None:
    whole = 42 if len(sent) == 42 else 78  # up to the target address; the option is not needed
    for length in range(whole):
        assert read_claim(sent[:length]) is None
    assert read_claim(sent[:whole]) is not None


@given(
    st.binary(max_size=120)
    | st.builds(
        lambda sent, at, octets: sent[:at] + octets + sent[at + len(octets) :],
        st.sampled_from([probe(IPV4, MAC), SOLICITATION, ADVERTISEMENT]),
        st.integers(0, 90),
        st.binary(max_size=8),
    )
    | st.binary(max_size=100).map(lambda rest: frame("ffffffffffff", OWN, "0806") + rest)
    | st.binary(max_size=100).map(lambda rest: frame("ffffffffffff", OWN, "86dd") + rest)
)
def test_any_octets_are_read(received: bytes) -> None:
    claim = read_claim(received)
    assert claim is None or isinstance(claim, Claim)
