"""Names of egress policies: asked of real servers, and of one that says what no honest server says."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Self
from uuid import uuid4

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from lab import Namespace, within

from cni_macvlan_egress.model.policy import Answer
from cni_macvlan_egress.sources.resolver import (
    FIRST_RETRY_SECONDS,
    LONGEST_NEGATIVE_TTL_SECONDS,
    LONGEST_RETRY_SECONDS,
    LONGEST_TTL_SECONDS,
    MOST_ADDRESSES,
    MOST_LINKS,
    SHORTEST_TTL_SECONDS,
    Resolver,
    load,
    name_servers,
    render,
)

NAME, OTHER = "db.shop.test", "other.shop.test"
NOW = 1_000_000.0
OLD = Answer(("192.0.2.1", "2001:db8::1"), NOW - 1)
PATIENT, HASTY = 10.0, 0.2
CLUSTER = (ip_network("10.128.0.0/14"), ip_network("fd01::/48"))
A, AAAA = dns.rdatatype.A, dns.rdatatype.AAAA

Peer = tuple[str, int]
Query = dns.message.QueryMessage


def record(name: str, kind: str, *data: str, ttl: int = 60) -> dns.rrset.RRset:
    return dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *data)


def soa(zone: str, minimum: int, ttl: int = 3600) -> dns.rrset.RRset:
    return record(zone, "SOA", f"ns.{zone}. admin.{zone}. 1 3600 600 86400 {minimum}", ttl=ttl)


def response(
    query: Query, *answer: dns.rrset.RRset, rcode: int = 0, flags: int = dns.flags.RA
) -> dns.message.Message:
    made = dns.message.make_response(query, recursion_available=False)
    made.flags |= flags
    made.set_rcode(rcode)
    made.answer += answer
    return made


def asked(query: Query) -> tuple[str, int]:
    """The name without final dot, and the type."""
    return query.question[0].name.to_text(omit_final_dot=True), query.question[0].rdtype


class Stranger:
    """A name server that says whatever it is told to, on UDP and TCP of one port of the loopback.

    Attributes:
        say: what it sends for a query that came over `udp` or `tcp`; nothing is silence.
        heard: every name and type that it was asked for.
    """

    Say = Callable[[Query, str], Sequence[bytes]]

    def __init__(self, say: Say) -> None:
        self.say = say
        self.heard: list[tuple[str, int]] = []
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.peer: Peer = self._tcp.getsockname()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(self.peer)
        self._threads = [threading.Thread(target=one) for one in (self._serve_udp, self._serve_tcp)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._udp, self._tcp):
            with suppress(OSError):  # unconnected UDP says so, and wakes up all the same
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            wire, peer = self._udp.recvfrom(65535)
            if not wire:
                return
            for reply in self._replies(wire, "udp"):
                self._udp.sendto(reply, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                (length,) = struct.unpack("!H", stream.read(2))
                for reply in self._replies(stream.read(length), "tcp"):
                    connection.sendall(reply)

    def _replies(self, wire: bytes, transport: str) -> Sequence[bytes]:
        query = dns.message.from_wire(wire)
        assert isinstance(query, Query)
        self.heard.append(asked(query))
        return self.say(query, transport)


def framed(wire: bytes) -> bytes:
    return struct.pack("!H", len(wire)) + wire


def zone(
    *records: dns.rrset.RRset, rcode: int = 0, authority: Sequence[dns.rrset.RRset] = ()
) -> Stranger.Say:
    """Answer as a server that does not follow aliases; over TCP what is too large for the query's UDP."""

    def say(query: Query, transport: str) -> Sequence[bytes]:
        name, kind = asked(query)
        wanted = (kind, dns.rdatatype.CNAME)
        made = response(
            query,
            *(
                one
                for one in records
                if one.name.to_text(omit_final_dot=True) == name and one.rdtype in wanted
            ),
            rcode=rcode,
        )
        made.authority += authority
        if transport == "tcp":
            return [framed(made.to_wire(max_size=65535))]
        try:
            return [made.to_wire(max_size=query.payload)]
        except dns.exception.TooBig:
            return [response(query, flags=dns.flags.RA | dns.flags.TC).to_wire()]

    return say


def always(rcode: int) -> Stranger.Say:
    return lambda query, _: [response(query, rcode=rcode).to_wire()]


def silence(_query: Query, _transport: str) -> Sequence[bytes]:
    return []


@pytest.fixture
def server() -> Iterator[Stranger]:
    with Stranger(silence) as stranger:
        yield stranger


@pytest.fixture
def second() -> Iterator[Stranger]:
    with Stranger(zone(record(NAME, "A", "203.0.113.5"), record(NAME, "AAAA", "2001:db8::5"))) as stranger:
        yield stranger


def ask(
    *servers: Peer, names: Sequence[str] = (NAME,), known: Answer | None = None, timeout: float = PATIENT
) -> Answer:
    """The first name's answer."""
    resolver = Resolver(servers=servers, timeout=timeout)
    answers = resolver.ask(names, {NAME: known} if known else {}, NOW, CLUSTER, deadline=60)
    assert set(answers) == set(names)
    return answers[names[0]]


def lifetime(answer: Answer) -> float:
    return answer.expires - NOW


# -- dnsmasq


class Dnsmasq:
    """A real server for the zone shop.test.

    Attributes:
        hosts: its file of addresses, read again on SIGHUP.
    """

    def __init__(self, hosts: Path, *options: str, port: int = 53, netns: Namespace | None = None) -> None:
        self.hosts = hosts
        self.peer: Peer = ("127.0.0.1", port)
        self._run = (
            (lambda function: within(netns.path, function)) if netns else (lambda function: function())
        )
        argv = [
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts",
            f"--user={getpass.getuser()}", f"--port={port}", "--bind-interfaces", "--listen-address=127.0.0.1,::1",
            f"--addn-hosts={self.hosts}", "--local-ttl=60", "--local=/shop.test/", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] = self._run(lambda: subprocess.Popen(argv))

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 10
        try:
            while not self._run(self._is_ready):
                assert self._process.poll() is None, "dnsmasq does not start"
                assert time.monotonic() < deadline
                time.sleep(0.02)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _is_ready(self) -> bool:
        address, port = self.peer
        try:
            dns.query.udp(dns.message.make_query(NAME, A), address, timeout=0.2, port=port)
        except (OSError, dns.exception.Timeout):
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def serve(self, *lines: str) -> None:
        """Have other addresses from now on."""
        self.hosts.write_text("".join(f"{line}\n" for line in lines))
        self._process.send_signal(signal.SIGHUP)


@pytest.fixture
def dnsmasq(tmp_path: Path) -> Iterator[Callable[..., Dnsmasq]]:
    if shutil.which("dnsmasq", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("needs the package dnsmasq-base")
    with ExitStack() as stack:

        def start(
            *options: str, port: int = 0, netns: Namespace | None = None, hosts: Sequence[str] = ()
        ) -> Dnsmasq:
            path = tmp_path / uuid4().hex
            path.write_text("".join(f"{line}\n" for line in hosts))
            return stack.enter_context(Dnsmasq(path, *options, port=port or free_port(), netns=netns))

        yield start


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_name_has_the_addresses_of_both_families_for_its_ttl(dnsmasq: Callable[..., Dnsmasq]) -> None:
    served = dnsmasq(
        f"--host-record={NAME},203.0.113.5,2001:db8::5,77", f"--host-record={NAME},203.0.113.4,77"
    )
    answer = ask(served.peer)
    assert answer == Answer(("203.0.113.4", "203.0.113.5", "2001:db8::5"), NOW + 77)


@pytest.mark.parametrize(
    ("ttl", "counts"),
    [(0, SHORTEST_TTL_SECONDS), (6, 6), (1799, 1799), (86400, LONGEST_TTL_SECONDS)],
)
def test_ttl_counts_within_bounds(dnsmasq: Callable[..., Dnsmasq], ttl: int, counts: float) -> None:
    answer = ask(dnsmasq(f"--host-record={NAME},203.0.113.5,2001:db8::5,{ttl}").peer)
    assert (answer.error, lifetime(answer)) == ("", counts)


def test_lowest_ttl_of_a_chain_counts(dnsmasq: Callable[..., Dnsmasq]) -> None:
    served = dnsmasq(
        f"--cname={NAME},a.shop.test,900",
        "--cname=a.shop.test,b.shop.test,20",
        "--host-record=b.shop.test,203.0.113.5,2001:db8::5,300",
    )
    assert ask(served.peer) == Answer(("203.0.113.5", "2001:db8::5"), NOW + 20)


def test_answers_change_with_the_zone(dnsmasq: Callable[..., Dnsmasq]) -> None:
    served = dnsmasq()
    resolver = Resolver(servers=[served.peer], timeout=PATIENT)
    known: dict[str, Answer] = {}

    def settled(*expected: str) -> Answer:
        """The answer once dnsmasq has read its file."""
        deadline = time.monotonic() + 10
        while True:
            known.update(resolver.ask([NAME], known, NOW))
            if known[NAME].addresses == expected or time.monotonic() > deadline:
                return known[NAME]
            time.sleep(0.02)

    served.serve(f"203.0.113.5 {NAME}", f"203.0.113.6 {NAME}")
    assert settled("203.0.113.5", "203.0.113.6").addresses == ("203.0.113.5", "203.0.113.6")
    served.serve(f"203.0.113.7 {NAME}", f"2001:db8::7 {NAME}")
    assert settled("203.0.113.7", "2001:db8::7") == Answer(("203.0.113.7", "2001:db8::7"), NOW + 60)
    served.serve(f"203.0.113.7 {OTHER}", f"203.0.113.8 {OTHER}")
    deadline = time.monotonic() + 10
    while not known[NAME].error and time.monotonic() < deadline:
        time.sleep(0.02)
        known.update(resolver.ask([NAME], known, NOW))
    assert known[NAME].addresses == ("203.0.113.7", "2001:db8::7")
    assert "NXDOMAIN" in known[NAME].error


def test_names_outside_what_a_server_answers_for_fail(dnsmasq: Callable[..., Dnsmasq]) -> None:
    served = dnsmasq()
    resolver = Resolver(servers=[served.peer], timeout=PATIENT)
    answer = resolver.ask(["db.elsewhere.test"], {"db.elsewhere.test": OLD}, NOW)["db.elsewhere.test"]
    assert answer.addresses == OLD.addresses
    assert answer.error == f"A and AAAA: 127.0.0.1 port {served.peer[1]}: REFUSED"


def test_hundreds_of_addresses_come_over_tcp(dnsmasq: Callable[..., Dnsmasq]) -> None:
    expected = tuple(f"203.0.113.{number}" for number in range(1, 201))
    served = dnsmasq(*(f"--host-record={NAME},{address}" for address in expected))
    with pytest.raises(dns.message.Truncated):
        dns.query.udp(
            dns.message.make_query(NAME, A), "127.0.0.1", PATIENT, served.peer[1], raise_on_truncation=True
        )
    answer = ask(served.peer)
    assert (answer.addresses, answer.error) == (expected, "")


def test_many_names_are_answered_each_with_its_own(dnsmasq: Callable[..., Dnsmasq]) -> None:
    names = [f"n{number}.shop.test" for number in range(1, 201)]
    served = dnsmasq(*(f"--host-record={name},203.0.113.{n}" for n, name in enumerate(names, 1)))
    answers = Resolver(servers=[served.peer], timeout=PATIENT).ask(names, {}, NOW, deadline=60)
    assert {name: one.addresses for name, one in answers.items()} == {
        name: (f"203.0.113.{n}",) for n, name in enumerate(names, 1)
    }


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("224.0.0.251", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "in 0.0.0.0/8"),
        ("255.255.255.255", "broadcast"),
        ("10.129.3.4", "in 10.128.0.0/14"),
        ("::1", "loopback"),
        ("::", "unspecified"),
        ("fe80::1", "link-local"),
        ("ff02::1", "multicast"),
        ("fd01::53", "in fd01::/48"),
        ("::ffff:10.129.3.4", "in 10.128.0.0/14"),
        ("::ffff:127.0.0.1", "loopback"),
    ],
)
def test_name_cannot_lead_into_the_node_or_the_cluster(
    dnsmasq: Callable[..., Dnsmasq], address: str, why: str
) -> None:
    served = dnsmasq(hosts=[f"{one} {NAME}" for one in (address, "203.0.113.5", "2001:db8::5")])
    answer = ask(served.peer)
    assert answer == Answer(("203.0.113.5", "2001:db8::5"), answer.expires, f"refused {address} ({why})")


# -- no answer, or none that helps


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.YXDOMAIN])
def test_last_good_addresses_stay_when_the_server_fails(server: Stranger, rcode: dns.rcode.Rcode) -> None:
    server.say = always(rcode)
    answer = ask(server.peer, known=OLD)
    assert answer.addresses == OLD.addresses
    assert answer.error == f"A and AAAA: 127.0.0.1 port {server.peer[1]}: {rcode.name}"
    assert lifetime(answer) == FIRST_RETRY_SECONDS
    assert Counter(server.heard) == {(NAME, A): 1, (NAME, AAAA): 1}  # it has said what it thinks


def test_last_good_addresses_stay_when_the_server_is_silent(server: Stranger) -> None:
    answer = ask(server.peer, known=OLD, timeout=HASTY)
    assert answer.addresses == OLD.addresses
    assert answer.error == f"A and AAAA: 127.0.0.1 port {server.peer[1]}: no valid answer in 0.2 s"
    assert lifetime(answer) == FIRST_RETRY_SECONDS
    assert set(server.heard) == {(NAME, A), (NAME, AAAA)}
    assert len(server.heard) > 2  # a lost packet is no failure yet


def test_last_good_addresses_stay_when_nobody_listens() -> None:
    answer = ask(("127.0.0.1", free_port()), known=OLD)
    assert answer.addresses == OLD.addresses
    assert "Connection refused" in answer.error


def test_family_that_fails_keeps_its_addresses_while_the_other_changes(server: Stranger) -> None:
    def say(query: Query, transport: str) -> Sequence[bytes]:
        if asked(query)[1] == A:
            return zone(record(NAME, "A", "203.0.113.5", ttl=900))(query, transport)
        return always(dns.rcode.SERVFAIL)(query, transport)

    server.say = say
    answer = ask(server.peer, known=OLD)
    assert answer.addresses == ("203.0.113.5", "2001:db8::1")
    assert answer.error == f"AAAA: 127.0.0.1 port {server.peer[1]}: SERVFAIL"
    assert lifetime(answer) == FIRST_RETRY_SECONDS


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_family_without_addresses_loses_its_old_ones(server: Stranger, rcode: dns.rcode.Rcode) -> None:
    """NXDOMAIN for AAAA alone is a common fault of load balancers."""

    def say(query: Query, transport: str) -> Sequence[bytes]:
        if asked(query)[1] == A:
            return zone(record(NAME, "A", "203.0.113.5", ttl=200))(query, transport)
        return zone(rcode=rcode, authority=[soa("shop.test", 100)])(query, transport)

    server.say = say
    assert ask(server.peer, known=OLD) == Answer(("203.0.113.5",), NOW + 100)


@pytest.mark.parametrize(
    ("minimum", "counts"), [(0, SHORTEST_TTL_SECONDS), (30, 30), (86400, LONGEST_NEGATIVE_TTL_SECONDS)]
)
@pytest.mark.parametrize(
    ("rcode", "error"),
    [
        (dns.rcode.NXDOMAIN, "does not exist, says 127.0.0.1 port {} (NXDOMAIN)"),
        (dns.rcode.NOERROR, "has no addresses"),
    ],
)
def test_vanished_name_keeps_its_last_addresses_for_the_negative_ttl(
    server: Stranger, rcode: dns.rcode.Rcode, error: str, minimum: int, counts: float
) -> None:
    server.say = zone(rcode=rcode, authority=[soa("shop.test", minimum, ttl=86400)])
    assert ask(server.peer, known=OLD) == Answer(OLD.addresses, NOW + counts, error.format(server.peer[1]))
    assert ask(server.peer).addresses == ()


def test_name_that_keeps_failing_is_asked_less_often(server: Stranger) -> None:
    resolver = Resolver(servers=[server.peer], timeout=PATIENT)
    server.say = always(dns.rcode.SERVFAIL)
    waits = [lifetime(resolver.ask([NAME], {}, NOW)[NAME]) for _ in range(6)]
    assert waits[0] == FIRST_RETRY_SECONDS
    assert waits[-1] == LONGEST_RETRY_SECONDS
    assert waits == sorted(waits)
    assert len(set(waits)) > 3
    server.say = zone(record(NAME, "A", "203.0.113.5"), record(NAME, "AAAA", "2001:db8::5"))
    assert lifetime(resolver.ask([NAME], {}, NOW)[NAME]) == 60
    server.say = always(dns.rcode.SERVFAIL)
    assert lifetime(resolver.ask([NAME], {}, NOW)[NAME]) == FIRST_RETRY_SECONDS


def not_recursive(query: Query, _: str) -> Sequence[bytes]:
    made = response(query, flags=0)
    made.authority.append(record("test", "NS", "ns.test."))
    return [made.to_wire()]


def truncated_without_tcp(query: Query, transport: str) -> Sequence[bytes]:
    return [response(query, flags=dns.flags.TC | dns.flags.RA).to_wire()] if transport == "udp" else []


def garbage_over_tcp(query: Query, transport: str) -> Sequence[bytes]:
    return [framed(b"\xff" * 100)] if transport == "tcp" else truncated_without_tcp(query, transport)


def cut_off_over_tcp(query: Query, transport: str) -> Sequence[bytes]:
    whole = framed(response(query, record(NAME, "A", "192.0.2.66")).to_wire())
    return [whole[:-3]] if transport == "tcp" else truncated_without_tcp(query, transport)


def still_truncated_over_tcp(query: Query, transport: str) -> Sequence[bytes]:
    wire = response(query, record(NAME, "A", "192.0.2.66"), flags=dns.flags.TC | dns.flags.RA).to_wire()
    return [framed(wire) if transport == "tcp" else wire]


@pytest.mark.parametrize(
    ("say", "failure"),
    [
        (always(dns.rcode.SERVFAIL), "SERVFAIL"),
        (always(dns.rcode.REFUSED), "REFUSED"),
        (silence, "no valid answer in 0.2 s"),
        (not_recursive, "does not ask other servers (no recursion)"),
        (truncated_without_tcp, "malformed answer: "),
        (garbage_over_tcp, "malformed answer: "),
        (cut_off_over_tcp, "malformed answer: "),
        (still_truncated_over_tcp, "answer truncated, over TCP too"),
    ],
    ids=["servfail", "refused", "silent", "lame", "no-tcp", "garbage", "cut-off", "truncated-tcp"],
)
def test_second_server_takes_over(
    server: Stranger, second: Stranger, say: Stranger.Say, failure: str
) -> None:
    server.say = say
    # Only silence is to take its time.
    timeout = HASTY if say is silence else PATIENT
    assert ask(server.peer, second.peer, timeout=timeout) == Answer(("203.0.113.5", "2001:db8::5"), NOW + 60)
    assert set(server.heard) == {(NAME, A), (NAME, AAAA)}
    alone = ask(server.peer, known=OLD, timeout=timeout)
    assert alone.addresses == OLD.addresses
    assert f"127.0.0.1 port {server.peer[1]}: {failure}" in alone.error


def test_second_server_is_not_asked_while_the_first_answers(server: Stranger, second: Stranger) -> None:
    server.say = zone(rcode=dns.rcode.NXDOMAIN)
    assert "NXDOMAIN" in ask(server.peer, second.peer).error
    assert second.heard == []


def test_silent_server_does_not_hold_up_every_name(server: Stranger, second: Stranger) -> None:
    second.say = lambda query, transport: zone(record(asked(query)[0], "A", "203.0.113.5"))(query, transport)
    names = [f"n{number}.shop.test" for number in range(150)]
    answers = Resolver(servers=[server.peer, second.peer], timeout=1).ask(names, {}, NOW, deadline=60)
    assert {one.addresses for one in answers.values()} == {("203.0.113.5",)}
    assert len(server.heard) < len(names)  # of twice as many questions


def test_servers_that_all_keep_silent_are_not_asked_twice_for_every_name(server: Stranger) -> None:
    names = [f"n{number}.shop.test" for number in range(100)]
    answers = Resolver(servers=[server.peer], timeout=HASTY, attempts=5).ask(names, {}, NOW, deadline=60)
    assert all("no valid answer" in one.error for one in answers.values())
    assert len(server.heard) < 4 * len(names)  # twice as many questions, and five attempts each


def test_names_are_asked_side_by_side() -> None:
    names = [f"n{number}.shop.test" for number in range(10)]
    questions = 2 * len(names)

    def answer_when_all_are_there() -> None:
        waiting = [sock.recvfrom(512) for _ in range(questions)]
        for wire, peer in waiting:
            query = dns.message.from_wire(wire)
            assert isinstance(query, Query)
            sock.sendto(*zone(record(asked(query)[0], "A", "203.0.113.5"))(query, "udp"), peer)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENT)
        thread = threading.Thread(target=answer_when_all_are_there)
        thread.start()
        resolver = Resolver(servers=[sock.getsockname()], timeout=PATIENT, attempts=1)
        answers = resolver.ask(names, {}, NOW, deadline=PATIENT)
        thread.join()
    assert {one.addresses for one in answers.values()} == {("203.0.113.5",)}


def test_second_server_has_its_turn_within_a_short_deadline(server: Stranger, second: Stranger) -> None:
    resolver = Resolver(servers=[server.peer, second.peer], timeout=PATIENT)
    answer = resolver.ask([NAME], {}, NOW, deadline=2)[NAME]
    assert (answer.addresses, answer.error) == (("203.0.113.5", "2001:db8::5"), "")
    assert server.heard


def test_deadline_ends_a_round_whoever_is_silent(server: Stranger) -> None:
    names = [f"n{number}.shop.test" for number in range(200)]
    resolver = Resolver(servers=[server.peer], timeout=3600, attempts=100)
    answers = resolver.ask(names, dict.fromkeys(names, OLD), NOW, deadline=0.3)
    assert {one.addresses for one in answers.values()} == {OLD.addresses}
    assert all(
        "no answer in 0.3 s" in one.error or "no valid answer" in one.error for one in answers.values()
    )


# -- answers that are none


def test_more_addresses_than_are_used_are_told(server: Stranger) -> None:
    addresses = [f"203.0.{number // 250}.{number % 250 + 1}" for number in range(MOST_ADDRESSES + 300)]
    server.say = zone(record(NAME, "A", *addresses), record(NAME, "AAAA", "2001:db8::5"))
    answer = ask(server.peer)
    assert answer.addresses == tuple(addresses[:MOST_ADDRESSES])
    assert answer.error == f"only the first {MOST_ADDRESSES} of {MOST_ADDRESSES + 301} addresses are used"
    assert lifetime(answer) == 60


def test_mapped_address_counts_as_what_it_maps(server: Stranger) -> None:
    server.say = zone(
        record(NAME, "AAAA", "::ffff:203.0.113.9", "2001:db8::5"), record(NAME, "A", "203.0.113.10")
    )
    assert ask(server.peer).addresses == ("203.0.113.9", "203.0.113.10", "2001:db8::5")


def test_name_of_nothing_but_refused_addresses_keeps_its_last_good_ones(server: Stranger) -> None:
    refused = [f"10.128.0.{number}" for number in range(1, 9)]
    server.say = zone(record(NAME, "A", *refused, ttl=33), authority=[soa("shop.test", 50)])
    answer = ask(server.peer, known=OLD)
    assert answer.addresses == OLD.addresses
    assert answer.error.startswith("refused 10.128.0.1 (in 10.128.0.0/14), 10.128.0.2 (in 10.128.0.0/14), ")
    assert answer.error.endswith(" and 4 more")
    assert lifetime(answer) == 33


def test_last_good_addresses_are_judged_too(server: Stranger) -> None:
    server.say = always(dns.rcode.SERVFAIL)
    known = Answer(("10.128.0.1", "192.0.2.1", "fd01::1"), NOW)
    assert ask(server.peer, known=known).addresses == ("192.0.2.1",)


def test_ttl_with_the_highest_bit_is_none(server: Stranger) -> None:
    """RFC 2181, section 8."""

    def say(query: Query, _: str) -> Sequence[bytes]:
        wire = response(query, record(NAME, "A", "203.0.113.5", ttl=0x7ABCDEF0)).to_wire()
        return [wire.replace(b"\x7a\xbc\xde\xf0", b"\xff\xff\xff\xff")]

    server.say = say
    answer = ask(server.peer)
    assert (answer.addresses, lifetime(answer)) == (("203.0.113.5",), SHORTEST_TTL_SECONDS)


def alias(number: int, ttl: int = 60) -> dns.rrset.RRset:
    name = f"a{number}.shop.test" if number else NAME
    return record(name, "CNAME", f"a{number + 1}.shop.test.", ttl=ttl)


def test_chain_that_the_server_does_not_follow_is_followed(server: Stranger) -> None:
    end = f"a{MOST_LINKS}.shop.test"
    server.say = zone(
        *(alias(number, ttl=9 if number == 3 else 900) for number in range(MOST_LINKS)),
        record(end, "A", "203.0.113.5"),
        record(end, "AAAA", "2001:db8::5"),
    )
    assert ask(server.peer) == Answer(("203.0.113.5", "2001:db8::5"), NOW + 9)


def test_chain_without_end_is_given_up(server: Stranger) -> None:
    def say(query: Query, transport: str) -> Sequence[bytes]:
        name = asked(query)[0]
        return zone(record(name, "CNAME", f"{len(server.heard)}.{NAME}."))(query, transport)

    server.say = say
    answer = ask(server.peer, known=OLD)
    assert answer.addresses == OLD.addresses
    assert f"more than {MOST_LINKS} aliases" in answer.error
    assert max(Counter(kind for _, kind in server.heard).values()) <= MOST_LINKS + 1


@pytest.mark.parametrize("length", [1, 2, 40], ids=["itself", "loop", "long"])
def test_chain_in_one_answer_that_leads_nowhere_is_a_failure(server: Stranger, length: int) -> None:
    links = [alias(number) for number in range(length - 1)]
    last = f"a{length - 1}.shop.test" if length > 1 else NAME
    links.append(record(last, "CNAME", f"{NAME}."))

    server.say = lambda query, _: [response(query, *links).to_wire()]
    answer = ask(server.peer, known=OLD)
    assert answer.addresses == OLD.addresses
    assert f"127.0.0.1 port {server.peer[1]}: " in answer.error
    assert lifetime(answer) == FIRST_RETRY_SECONDS


def test_chain_to_a_name_without_addresses_is_not_asked_on(server: Stranger) -> None:
    def say(query: Query, transport: str) -> Sequence[bytes]:
        found = [alias(0, ttl=120)]
        if asked(query)[1] == A:
            return [response(query, *found, record("a1.shop.test", "A", "203.0.113.5", ttl=120)).to_wire()]
        made = response(query, *found)
        made.authority.append(soa("shop.test", 40))
        return [made.to_wire()]

    server.say = say
    assert ask(server.peer) == Answer(("203.0.113.5",), NOW + 40)
    assert sorted(server.heard) == [(NAME, A), (NAME, AAAA)]


def test_records_of_other_names_and_types_are_ignored(server: Stranger) -> None:
    def say(query: Query, _: str) -> Sequence[bytes]:
        made = response(
            query,
            record(OTHER, "A", "192.0.2.66"),
            record(NAME, "TXT", "192.0.2.67"),
            record(NAME, "A", "203.0.113.5"),
            record(NAME, "AAAA", "2001:db8::5"),
        )
        made.additional.append(record(NAME, "A", "192.0.2.68"))
        return [made.to_wire()]

    server.say = say
    assert ask(server.peer).addresses == ("203.0.113.5", "2001:db8::5")


def forged(query: Query, *, name: str = NAME, kind: str = "A", number: int | None = None) -> bytes:
    """What an attacker sends who does not know what was asked, or by which number."""
    guess = dns.message.make_query(name, kind, id=query.id if number is None else number)
    answer = response(guess, record(name, kind, "192.0.2.66" if kind == "A" else "2001:db8::66"))
    return answer.to_wire()


@pytest.mark.parametrize(
    "before",
    [
        lambda query: forged(query, number=query.id ^ 1),
        lambda query: forged(query, name=OTHER),
        lambda query: forged(query, kind="AAAA" if asked(query)[1] == A else "A"),
        lambda query: query.to_wire(),  # not an answer
        lambda query: b"\x00",
        lambda query: os.urandom(512),
        lambda query: query.to_wire()[:2] + b"\x81\x80" + b"\xff" * 40,
        lambda query: query.to_wire()[:2] + b"\xa9\x80" + query.to_wire()[4:],  # of UPDATE
    ],
    ids=["id", "name", "type", "query", "byte", "noise", "malformed", "opcode"],
)
def test_what_does_not_answer_the_question_is_ignored(
    server: Stranger, before: Callable[[Query], bytes]
) -> None:
    truth = zone(record(NAME, "A", "203.0.113.5"), record(NAME, "AAAA", "2001:db8::5"))
    server.say = lambda query, transport: [before(query), *truth(query, transport)]
    assert ask(server.peer) == Answer(("203.0.113.5", "2001:db8::5"), NOW + 60)
    server.say = lambda query, transport: [before(query)]
    alone = ask(server.peer, known=OLD, timeout=HASTY)
    assert alone.addresses == OLD.addresses
    assert "no valid answer in 0.2 s" in alone.error


def test_answer_from_another_port_is_ignored(server: Stranger) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        truth = zone(record(NAME, "A", "203.0.113.5"), record(NAME, "AAAA", "2001:db8::5"))

        def say(query: Query, transport: str) -> Sequence[bytes]:
            # The port that asks is not known to who sits elsewhere: all of them are tried.
            for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
                local, remote = line.split()[1:3]
                if int(remote.partition(":")[2], 16) == server.peer[1]:
                    port = int(local.partition(":")[2], 16)
                    other.sendto(
                        forged(query, kind=dns.rdatatype.to_text(asked(query)[1])), ("127.0.0.1", port)
                    )
                    forgeries.append(port)
            return truth(query, transport)

        forgeries: list[int] = []
        server.say = say
        assert ask(server.peer).addresses == ("203.0.113.5", "2001:db8::5")
        assert forgeries


@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
def test_server_without_edns_is_asked_without(server: Stranger, rcode: dns.rcode.Rcode) -> None:
    truth = zone(record(NAME, "A", "203.0.113.5"))
    old = always(rcode)
    server.say = lambda query, transport: (old if query.edns >= 0 else truth)(query, transport)
    assert ask(server.peer).addresses == ("203.0.113.5",)


@pytest.mark.parametrize("name", ["a..b", f"{'x' * 64}.test", "", f"{'x.' * 130}test"])
def test_what_is_no_name_is_told_and_not_asked(server: Stranger, name: str) -> None:
    server.say = zone()
    answer = ask(server.peer, names=[name])
    assert answer.addresses == ()
    assert answer.error
    assert not [heard for heard, _ in server.heard if heard == name != ""]


def test_name_is_asked_once_however_often_it_is_listed(server: Stranger) -> None:
    server.say = zone(record(NAME, "A", "203.0.113.5"))
    assert ask(server.peer, names=[NAME, NAME]).addresses == ("203.0.113.5",)
    assert Counter(server.heard) == {(NAME, A): 1, (NAME, AAAA): 1}


# -- resolv.conf


@pytest.fixture
def netns() -> Iterator[Namespace]:
    if os.geteuid() != 0:
        pytest.skip("needs root: the servers of resolv.conf listen on port 53 of a network namespace")
    namespace = Namespace(f"resolver-{uuid4().hex[:8]}")
    try:
        yield namespace
    finally:
        namespace.remove()


@pytest.mark.parametrize(
    "text",
    [
        "search shop.test\nnameserver 127.0.0.1\noptions ndots:5\n",
        "# nameserver 127.0.0.9\nnameserver 127.0.0.2\nnameserver 127.0.0.1\n",
        "nameserver ::1\n",
        "nameserver nonsense\nnameserver\n",
    ],
    ids=["search", "second", "IPv6", "none"],
)
def test_servers_of_resolv_conf_are_asked(
    dnsmasq: Callable[..., Dnsmasq], netns: Namespace, tmp_path: Path, text: str
) -> None:
    dnsmasq(f"--host-record={NAME},203.0.113.5,2001:db8::5", port=53, netns=netns)
    (tmp_path / "resolv.conf").write_text(text)
    resolver = Resolver(str(tmp_path / "resolv.conf"), timeout=PATIENT)
    answers = within(netns.path, lambda: resolver.ask([NAME, "db"], {}, NOW))
    assert answers[NAME] == Answer(("203.0.113.5", "2001:db8::5"), NOW + 60)
    assert answers["db"].addresses == ()  # absolute, whatever is searched
    assert answers["db"].error


def test_changed_resolv_conf_counts_from_the_next_round(
    dnsmasq: Callable[..., Dnsmasq], netns: Namespace, tmp_path: Path
) -> None:
    dnsmasq(f"--host-record={NAME},203.0.113.5", port=53, netns=netns)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.2\n")
    resolver = Resolver(str(tmp_path / "resolv.conf"), timeout=PATIENT)
    failed = within(netns.path, lambda: resolver.ask([NAME], {}, NOW))[NAME]
    assert failed.error == "A and AAAA: 127.0.0.2: Connection refused"
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    assert within(netns.path, lambda: resolver.ask([NAME], {}, NOW))[NAME].addresses == ("203.0.113.5",)


def test_link_local_server_is_asked_on_its_link(
    dnsmasq: Callable[..., Dnsmasq], netns: Namespace, tmp_path: Path
) -> None:
    netns.ip(
        "link add lan type veth peer name far",
        "link set lan up",
        "link set far up",
        "address add fe80::53/64 dev lan nodad",
    )
    dnsmasq(
        f"--host-record={NAME},203.0.113.5",
        "--listen-address=fe80::53",
        "--interface=lan",
        port=53,
        netns=netns,
    )
    (tmp_path / "resolv.conf").write_text("nameserver fe80::53%lan\n")
    resolver = Resolver(str(tmp_path / "resolv.conf"), timeout=PATIENT)
    answer = within(netns.path, lambda: resolver.ask([NAME], {}, NOW))[NAME]
    assert (answer.addresses, answer.error) == (("203.0.113.5",), "")


def test_three_servers_are_taken_as_the_c_library_does(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("".join(f"nameserver 192.0.2.{number}\n" for number in range(1, 6)))
    assert name_servers(str(path)) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert name_servers(str(tmp_path / "missing")) == ["127.0.0.1"]


# -- the file


ANSWERS = {
    NAME: Answer(("203.0.113.5", "2001:db8::5"), NOW + 60.5),
    OTHER: Answer((), NOW + 5, "A and AAAA: 192.0.2.53: SERVFAIL"),
}


def test_stored_answers_are_read_again(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(render(ANSWERS))
    assert load(str(tmp_path / "names.json")) == ANSWERS
    assert load(str(tmp_path / "missing.json")) == {}
    assert load(str(tmp_path)) == {}


def damaged(**changes: object) -> bytes:
    document = json.loads(render(ANSWERS))
    document["answers"][NAME].update(changes)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00" * 64, b"\xff\xfe{", b"[]", b"null", b"7", b'{"format": 1}', b'{"format": 1, "answers": [1]}',
        b'{"format": 1, "answers": {"a": null}}', b'{"format": 1, "answers": {"a": {}}}', b"[" * 200_000,
        render(ANSWERS).replace('"format": 1', '"format": 2').encode(), render(ANSWERS)[:-9].encode(),
        damaged(addresses="203.0.113.5"), damaged(addresses=["203.0.113.5; flush ruleset"]), damaged(addresses=[None]),
        damaged(expires="soon"), damaged(expires=float("nan")), damaged(expires=10**400), damaged(error=None),
    ],
)  # fmt: skip
def test_damaged_file_holds_no_answers(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "names.json").write_bytes(content)
    assert load(str(tmp_path / "names.json")) == {}


def test_stored_answers_are_read_without_the_dns_library() -> None:
    code = "import sys, cni_macvlan_egress.sources.resolver; print({'dns', 'pydantic'}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
