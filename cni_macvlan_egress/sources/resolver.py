"""DNS names of egress policies, asked of the node's name servers themselves: getaddrinfo(3) tells no TTL.

Names come from tenants, and so do the zones behind them: answers are bounded, and judged before they are used.
"""

from __future__ import annotations

import ipaddress
import json
import math
import random
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Literal

from ..model.policy import Answer, Network

if TYPE_CHECKING:
    from dns.message import Message, QueryMessage
    from dns.name import Name

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

RESOLV_CONF = "/etc/resolv.conf"
PORT = 53
TIMEOUT_SECONDS = 2.0
ATTEMPTS = 2
DEADLINE_SECONDS = 10.0
# An address stays in the sets at least so long and at most so long, whatever its zone says.
SHORTEST_TTL_SECONDS = 5.0
LONGEST_TTL_SECONDS = 1800.0
# A name without addresses may get some any time: RFC 2308 with a ceiling of ours.
LONGEST_NEGATIVE_TTL_SECONDS = 300.0
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 60.0
MOST_ADDRESSES = 1024
MOST_LINKS = 16

_MOST_SERVERS = 3  # MAXNS of resolv.conf(5)
_LOCAL_SERVER = "127.0.0.1"  # what resolv.conf(5) has for a file without servers
# dnsmasq forwards 150 questions at a time (--dns-forward-max), and others want to ask too.
_AT_ONCE = 64
# After so many questions in a row without an answer a server is asked last, and once.
_SILENT_AFTER = 3
_UDP_PAYLOAD = 1232  # fits any path unfragmented (DNS flag day 2020)
_SHOWN = 4
_TYPES: dict[int, Literal["A", "AAAA"]] = {4: "A", 6: "AAAA"}
_FORMAT = 1


class Resolver:
    """The name servers of a node; one that lives longer asks less and less often for a name that keeps failing.

    Args:
        resolv_conf: read anew for every round of questions.
        servers: addresses and ports to ask instead of those in the file.
        timeout: seconds for one question to one server; less if the deadline leaves no time for others.
        attempts: how often a silent server is asked.
        shortest_ttl: the least time in seconds that an answer counts.
        longest_ttl: the most time in seconds that an answer counts.
        most_addresses: how many addresses of one name are used.
    """

    def __init__(
        self,
        resolv_conf: str = RESOLV_CONF,
        *,
        servers: Sequence[tuple[str, int]] = (),
        timeout: float = TIMEOUT_SECONDS,
        attempts: int = ATTEMPTS,
        shortest_ttl: float = SHORTEST_TTL_SECONDS,
        longest_ttl: float = LONGEST_TTL_SECONDS,
        most_addresses: int = MOST_ADDRESSES,
    ) -> None:
        self._resolv_conf = resolv_conf
        self._servers = tuple(servers)
        self._timeout = timeout
        self._attempts = attempts
        self._shortest_ttl = shortest_ttl
        self._longest_ttl = longest_ttl
        self._most_addresses = most_addresses
        self._failures: dict[str, int] = {}

    def ask(
        self,
        names: Iterable[str],
        known: Mapping[str, Answer],
        now: float,
        refuse: Sequence[Network] = (),
        *,
        deadline: float = DEADLINE_SECONDS,
    ) -> dict[str, Answer]:
        """Ask for A and AAAA of every name, side by side; trouble is told in the answers and never raised.

        Args:
            names: in lower case, without wildcard; the search list is not applied.
            known: earlier answers, whose addresses are kept for what cannot be answered now.
            now: seconds since the epoch.
            refuse: networks that no name may lead into.
            deadline: seconds after which the answers are returned, whoever is still silent.
        """
        wanted = list(dict.fromkeys(names))
        findings = _Round(self._name_servers(), self._timeout, self._attempts, deadline).run(wanted)
        self._failures = {
            name: count for name, count in self._failures.items() if name in known or name in findings
        }
        return {
            name: self._answer(name, findings[name], known.get(name, Answer()), now, refuse)
            for name in wanted
        }

    def _name_servers(self) -> list[_Server]:
        if self._servers:
            return [_Server(address, port) for address, port in self._servers]
        return [_Server(address, PORT) for address in name_servers(self._resolv_conf)]

    def _answer(
        self, name: str, found: Mapping[int, _Finding], known: Answer, now: float, refuse: Sequence[Network]
    ) -> Answer:
        judged = {version: _judge(one.addresses, refuse) for version, one in found.items()}
        last_good, _ = _judge(known.addresses, refuse)
        exists = any(good for good, _ in judged.values())
        addresses: set[Address] = set()
        for version, one in found.items():
            good, _ = judged[version]
            addresses |= good
            # Without any address of the name the last ones stay: whoever is denied cannot get away by hiding.
            if not good and not (one.is_negative and exists):
                addresses |= {address for address in last_good if address.version == version}
        problems = _problems(found, exists=exists)
        if refused := {address: why for _, bad in judged.values() for address, why in bad.items()}:
            problems.append("refused " + _few([f"{address} ({why})" for address, why in refused.items()]))
        ordered = sorted(addresses, key=lambda address: (address.version, int(address)))
        if len(ordered) > self._most_addresses:
            problems.append(f"only the first {self._most_addresses} of {len(ordered)} addresses are used")
            del ordered[self._most_addresses :]
        return Answer(
            addresses=tuple(map(str, ordered)),
            expires=now + min(self._waits(name, found)),
            error="; ".join(problems),
        )

    def _waits(self, name: str, found: Mapping[int, _Finding]) -> list[float]:
        """Seconds that each part of an answer counts."""
        failed = any(one.failure for one in found.values())
        failures = self._failures[name] = self._failures.get(name, 0) + 1 if failed else 0
        waits = []
        for one in found.values():
            if one.failure:
                # The exponent is bounded too: a float is not.
                waits.append(min(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 16), LONGEST_RETRY_SECONDS))
            else:
                longest = LONGEST_NEGATIVE_TTL_SECONDS if one.is_negative else self._longest_ttl
                waits.append(max(self._shortest_ttl, min(one.ttl, longest)))
        return waits


def name_servers(path: str) -> list[str]:
    """The name servers of a resolv.conf(5), by address; the node itself if it names none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        lines = []
    addresses = [words[1] for words in lines if words[:1] == ["nameserver"] and _is_address(words[1:])]
    return addresses[:_MOST_SERVERS] or [_LOCAL_SERVER]


def render(answers: Mapping[str, Answer]) -> str:
    """Answers as the JSON text that load reads."""
    rows = {
        name: {"addresses": list(one.addresses), "expires": one.expires, "error": one.error}
        for name, one in answers.items()
    }
    return json.dumps({"format": _FORMAT, "answers": rows}, sort_keys=True) + "\n"


def load(path: str) -> dict[str, Answer]:
    """Answers from a file that holds what render made; none if there is no such file or it is damaged."""
    from .regular_file import content

    try:
        document = json.loads(content(path))
        if document["format"] != _FORMAT:
            return {}
        return {name: _stored(row) for name, row in document["answers"].items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return {}


def _stored(row: Mapping[str, object]) -> Answer:
    addresses, expires, error = row["addresses"], row["expires"], row["error"]
    if not isinstance(addresses, list) or not isinstance(expires, int | float) or not isinstance(error, str):
        raise TypeError
    if not math.isfinite(expires):
        raise ValueError
    return Answer(tuple(str(ipaddress.ip_address(str(one))) for one in addresses), float(expires), error)


# -- judging


@dataclass(frozen=True, slots=True)
class _Finding:
    """What came of one question: addresses, none (negative), or a failure.

    Attributes:
        ttl: in seconds, the lowest on the way to the addresses or to the news that there are none.
        missing: which server says that the name does not exist; empty if it does.
        failure: why nothing is known.
    """

    addresses: tuple[str, ...] = ()
    ttl: float = 0.0
    missing: str = ""
    failure: str = ""

    @property
    def is_negative(self) -> bool:
        return not self.addresses and not self.failure


def _problems(found: Mapping[int, _Finding], *, exists: bool) -> list[str]:
    """What is to be said of questions that led to no address."""
    failures: dict[str, list[str]] = {}
    for version, one in found.items():
        if one.failure:
            failures.setdefault(one.failure, []).append(_TYPES[version])
    problems = [f"{' and '.join(kinds)}: {failure}" for failure, kinds in failures.items()]
    # A server that denies a name's existence for AAAA alone means that it has none (RFC 4074, section 4.2).
    if not exists:
        missing = next((one.missing for one in found.values() if one.missing), "")
        if missing:
            problems.append(f"does not exist, says {missing} (NXDOMAIN)")
        elif all(one.is_negative for one in found.values()):
            problems.append("has no addresses")
    return problems


def _judge(texts: Iterable[str], refuse: Sequence[Network]) -> tuple[set[Address], dict[str, str]]:
    """The addresses that a name may have, and why it may not have the others."""
    good: set[Address] = set()
    bad = {}
    for text in texts:
        address = ipaddress.ip_address(text)
        # Who connects to a mapped address sends IPv4 (RFC 4291, section 2.5.5.2).
        inner = (address.ipv4_mapped if address.version == 6 else None) or address
        if why := _objection(inner, refuse):
            bad[text] = why
        else:
            good.add(inner)
    return good, bad


def _objection(address: Address, refuse: Sequence[Network]) -> str:
    """Why no name of a policy may lead to an address; empty if one may."""
    for kind, is_of_kind in (
        ("unspecified", address.is_unspecified),
        ("loopback", address.is_loopback),
        ("link-local", address.is_link_local),
        ("multicast", address.is_multicast),
        ("broadcast", address == ipaddress.IPv4Address("255.255.255.255")),
        ("in 0.0.0.0/8", address.version == 4 and address in ipaddress.IPv4Network("0.0.0.0/8")),
    ):
        if is_of_kind:
            return kind
    return next((f"in {network}" for network in refuse if address in network), "")


def _few(items: Sequence[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _is_address(words: Sequence[str]) -> bool:
    try:
        ipaddress.ip_address(words[0] if words else "")
    except ValueError:
        return False
    return True


# -- asking


@dataclass(slots=True)
class _Server:
    """A name server.

    Attributes:
        unanswered: how many questions in a row it left without an answer.
    """

    address: str
    port: int
    unanswered: int = 0

    @property
    def is_silent(self) -> bool:
        return self.unanswered >= _SILENT_AFTER

    def __str__(self) -> str:
        return self.address if self.port == PORT else f"{self.address} port {self.port}"


class _FailedError(Exception):
    """Nothing is known of a name; the text says why."""


class _Round:
    """Many questions side by side, all answered or given up by one deadline."""

    def __init__(self, servers: list[_Server], timeout: float, attempts: int, deadline: float) -> None:
        self._servers = servers
        # Within a short deadline too every server has its turn, and a single one that loses a packet a second one.
        self._timeout = min(timeout, deadline / (len(servers) + 1))
        self._attempts = attempts
        self._seconds = deadline
        self._deadline = time.monotonic() + deadline

    def run(self, names: Sequence[str]) -> dict[str, dict[int, _Finding]]:
        """What is found for every name, by IP version."""
        # Before there are threads: modules that import each other can be seen half made.
        import dns.query  # noqa: F401

        questions = [(name, version) for name in names for version in _TYPES]
        # When the deadline cuts some off, these are not the same ones every time.
        random.shuffle(questions)
        waiting: SimpleQueue[tuple[str, int]] = SimpleQueue()
        for question in questions:
            waiting.put(question)
        found: dict[tuple[str, int], _Finding] = {}

        def work() -> None:
            while True:
                try:
                    name, version = waiting.get_nowait()
                except Empty:
                    return
                found[name, version] = self._find(name, _TYPES[version])

        # As daemons they do not keep the process, even if a clock that is set back makes one wait on.
        workers = []
        with suppress(RuntimeError):  # no more threads can be had: those that there are do it all
            for _ in questions[:_AT_ONCE]:
                worker = threading.Thread(target=work, daemon=True)
                worker.start()
                workers.append(worker)
        if not workers:
            work()
        for worker in workers:
            worker.join(max(0.0, self._deadline - time.monotonic()))
        late = _Finding(failure=f"no answer in {self._seconds:g} s")
        return {name: {version: found.get((name, version), late) for version in _TYPES} for name in names}

    def _find(self, name: str, kind: Literal["A", "AAAA"]) -> _Finding:
        """Follow a name to its addresses, through servers that do not follow aliases into other zones too."""
        import dns.exception
        import dns.name
        import dns.rcode
        import dns.rdatatype

        try:
            asked = dns.name.from_text(name, dns.name.root)
            links, ttl = 0, math.inf
            while True:
                server, response = self._ask(asked, kind)
                try:
                    chain = response.resolve_chaining()
                except dns.exception.DNSException as error:
                    raise _FailedError(f"{server}: {_said(error)}") from None
                links += len(chain.cnames)
                if links > MOST_LINKS:
                    raise _FailedError(f"{server}: more than {MOST_LINKS} aliases (CNAME) in a row")
                if chain.answer is not None:
                    addresses = tuple(sorted({record.address for record in chain.answer}))
                    return _Finding(addresses, min(ttl, chain.minimum_ttl))
                if response.rcode() == dns.rcode.NXDOMAIN:
                    return _Finding(ttl=min(ttl, chain.minimum_ttl), missing=str(server))
                is_final = any(one.rdtype == dns.rdatatype.SOA for one in response.authority)
                if is_final or not chain.cnames:
                    return _Finding(ttl=min(ttl, chain.minimum_ttl))
                asked = chain.canonical_name
                ttl = min(ttl, *(alias.ttl for alias in chain.cnames))
        except _FailedError as error:
            return _Finding(failure=str(error))
        except (dns.exception.DNSException, UnicodeError) as error:
            return _Finding(failure=f"not a DNS name: {_said(error)}")

    def _ask(self, name: Name, kind: Literal["A", "AAAA"]) -> tuple[_Server, QueryMessage]:
        """The first answer that counts, and whose it is.

        Raises:
            _FailedError: no server gives one.
        """
        failures: dict[str, str] = {}
        for attempt in range(self._attempts):
            for server in sorted(self._servers, key=lambda server: server.is_silent):
                title = str(server)
                # Only who kept silent is asked again, and not if it does so with everybody.
                if attempt and (title not in failures or failures[title] or server.is_silent):
                    continue
                if time.monotonic() >= self._deadline:
                    break
                answer = self._ask_one(server, name, kind)
                if not isinstance(answer, str):
                    return server, answer
                failures[title] = answer
        silence = f"no valid answer in {self._timeout:.3g} s"
        raise _FailedError(
            ", ".join(f"{server}: {failure or silence}" for server, failure in failures.items())
            or f"no answer in {self._seconds:g} s"
        )

    def _ask_one(self, server: _Server, name: Name, kind: Literal["A", "AAAA"]) -> QueryMessage | str:
        """One server's answer, or why it does not count; an empty reason is silence."""
        import dns.exception
        import dns.flags
        import dns.message
        import dns.rcode

        try:
            query = dns.message.make_query(name, kind, use_edns=0, payload=_UDP_PAYLOAD)
            answer = self._exchange(server, query)
            if answer.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS):
                # An old server that knows no EDNS (RFC 6891, section 7).
                answer = self._exchange(server, dns.message.make_query(name, kind))
        except dns.exception.Timeout:
            server.unanswered += 1
            return ""
        except OSError as error:
            return error.strerror or str(error)
        # EOFError is an end of TCP in the middle; others are what bytes of a stranger can lead to in a parser.
        except Exception as error:
            return f"malformed answer: {_said(error)}"
        server.unanswered = 0
        if not isinstance(answer, dns.message.QueryMessage):
            return "malformed answer: not to a query"
        if answer.flags & dns.flags.TC:
            return "answer truncated, over TCP too"
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return dns.rcode.to_text(answer.rcode())
        if not answer.answer and not answer.flags & (dns.flags.AA | dns.flags.RA):
            return "does not ask other servers (no recursion)"
        return answer

    def _exchange(self, server: _Server, query: Message) -> Message:
        """Over UDP, and over TCP what does not fit; whatever does not answer the query is ignored."""
        import dns.inet
        import dns.message
        import dns.query

        family = dns.inet.af_for_address(server.address)
        peer = dns.inet.low_level_address_tuple((server.address, server.port), family)
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            # Connected, the kernel drops what others send, and tells at once that nobody listens there.
            sock.connect(peer)
            try:
                return dns.query.udp(
                    query,
                    server.address,
                    self._left(),
                    server.port,
                    ignore_unexpected=True,
                    raise_on_truncation=True,
                    sock=sock,
                    ignore_errors=True,
                )
            except dns.message.Truncated:
                return dns.query.tcp(query, server.address, self._left(), server.port)

    def _left(self) -> float:
        """Seconds for one try."""
        return max(0.0, min(self._timeout, self._deadline - time.monotonic()))


def _said(error: Exception) -> str:
    """An exception's own words in one line; those of dnspython may be a docstring."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
