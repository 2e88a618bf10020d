"""Traffic between two namespaces: a question, its answer, and what the server sees of the client.

Every exchange goes there and back. One that reaches the server, and whose answer is lost, is a failure at once.
"""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import secrets
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass

from . import sctp
from .namespace import Namespace, within

Endpoint = tuple[str, int]

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_ECHO_REQUEST, _ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_ICMP = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
# <linux/in.h>, <linux/in6.h>
_IP_PKTINFO, _IP_MTU_DISCOVER, _IP_MTU = 8, 10, 14
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50
_IPV6_MTU_DISCOVER, _IPV6_MTU = 23, 24
_PMTUDISC_DO = 2
_ANSWER_SECONDS = 3.0


@dataclass(frozen=True)
class Visit:
    """A request as the server sees it; all empty if none arrived.

    Attributes:
        source, source_port: where it comes from.
        target: the server's address that it came to.
        mss: what a segment of TCP may hold, as the server and the client have agreed.
    """

    source: str = ""
    source_port: int = 0
    target: str = ""
    mss: tuple[int, int] = (0, 0)


NOBODY = Visit()


def exchange(
    protocol: str,
    client: Namespace,
    to: Endpoint,
    server: Namespace,
    port: int,
    *,
    source: str = "",
    source_port: int = 0,
    timeout: float = 2.0,
) -> Visit:
    """Send a question to an endpoint and have it answered by a server that listens at a port.

    Args:
        protocol: `tcp`, `udp` or `sctp`.
        source, source_port: the client's own, if they matter.

    Raises:
        OSError: the client was refused.
    """
    ask = {"tcp": _ask_tcp, "udp": _ask_udp, "sctp": _ask_sctp}[protocol]
    return ask(client, to, server, port, (source, source_port), timeout)


def ping(
    client: Namespace, address: str, server: Namespace, *, payload: int = 56, timeout: float = 2.0
) -> Visit:
    """Send an ICMP echo request; the server's kernel answers it."""
    version = version_of(address)
    identifier, data = secrets.randbits(16), secrets.token_bytes(payload)
    with (
        closing(_raw(server, version, _ICMP[version])) as ear,
        closing(_raw(client, version, _ICMP[version])) as sock,
    ):
        sock.sendto(_echo_request(version, identifier, data), (address, 0))

        def is_request(message: bytes) -> bool:
            # The identifier may be changed on the way, as a port is.
            return message[0] == _ECHO_REQUEST[version] and message[8:] == data

        asked = _await(ear, version, is_request, timeout)
        if asked is None:
            return NOBODY
        answer = _await(
            sock,
            version,
            lambda message: message[0] == _ECHO_REPLY[version] and message[8:] == data,
            _ANSWER_SECONDS,
        )
        assert answer is not None, f"{address} did not answer the echo request that {asked.source} sent"
        assert answer.source == address, f"{answer.source} answered instead of {address}"
        return Visit(asked.source, 0, asked.target)


def path_mtu(client: Namespace, to: Endpoint, size: int) -> int | None:
    """Send a UDP datagram that must not be fragmented, to a port where nobody listens.

    Args:
        size: of its payload.

    Returns:
        The path MTU that the client was told, None if the datagram arrived.

    Raises:
        TimeoutError: neither, so that the client would go on for ever.
    """
    version = version_of(to[0])
    with closing(client.socket(_FAMILIES[version], socket.SOCK_DGRAM)) as sock:
        sock.connect(to)
        _forbid_fragments(sock, version)
        try:
            sock.send(bytes(size))
            return _told_mtu(sock, version)
        except ConnectionRefusedError:
            return None  # it arrived


def path_mtu_back(client: Namespace, to: Endpoint, server: Namespace, port: int, size: int) -> int | None:
    """Ask a server for a UDP datagram that must not be fragmented.

    Returns:
        The path MTU that the server was told, None if the datagram arrived.

    Raises:
        TimeoutError: neither.
    """
    version = version_of(to[0])
    with (
        closing(_with_packet_info(server, version, socket.SOCK_DGRAM)) as ear,
        closing(server.socket(_FAMILIES[version], socket.SOCK_DGRAM)) as answering,
        closing(client.socket(_FAMILIES[version], socket.SOCK_DGRAM)) as sock,
    ):
        _bind(ear, ("", port))
        sock.connect(to)
        sock.send(b"?")
        ear.settimeout(_ANSWER_SECONDS)
        _, ancillary, _, peer = ear.recvmsg(1, 128)
        # Only a connected socket hears of errors.
        _bind(answering, (_target(version, ancillary), port))
        answering.connect(peer)
        _forbid_fragments(answering, version)
        answering.send(bytes(size))
        ready, _, _ = select.select([sock, answering], [], [], _ANSWER_SECONDS)
        if sock in ready:
            assert len(sock.recv(65536)) == size
            return None
        return _told_mtu(answering, version)


def transfer(
    client: Namespace, to: Endpoint, server: Namespace, port: int, size: int, *, download: bool = False
) -> Visit:
    """Send bytes over one TCP connection, one way, and see that they are whole at the other end."""
    family = _FAMILIES[version_of(to[0])]
    with closing(server.socket(family)) as ear, closing(client.socket(family)) as sock:
        _bind(ear, ("", port))
        ear.listen()
        for one in (ear, sock):
            one.settimeout(_ANSWER_SECONDS)
        sock.connect(to)
        connection, _ = ear.accept()
        with closing(connection):
            connection.settimeout(_ANSWER_SECONDS)
            sender, receiver = (connection, sock) if download else (sock, connection)
            block = secrets.token_bytes(1 << 16)
            blocks, rest = divmod(size, len(block))
            expected = hashlib.sha256(block * blocks + block[:rest]).digest()

            def send() -> None:
                # A sender that gives up is seen by the receiver, which then has less.
                with suppress(OSError):
                    for _ in range(blocks):
                        sender.sendall(block)
                    sender.sendall(block[:rest])
                    sender.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=send)
            thread.start()
            received, digest = 0, hashlib.sha256()
            try:
                while data := receiver.recv(1 << 16):
                    received += len(data)
                    digest.update(data)
            except TimeoutError:
                raise AssertionError(f"no more came after {received} of {size} bytes") from None
            finally:
                thread.join()
            assert (received, digest.digest()) == (size, expected)
            return _tcp_visit(connection, sock)


def crowd(
    protocol: str, client: Namespace, to: Endpoint, server: Namespace, port: int, own: Sequence[Endpoint]
) -> list[Endpoint]:
    """Have many flows open at once, each with a question and an answer of its own.

    Args:
        own: the client's address and port of each; ("", 0) if they do not matter.

    Returns:
        What each flow comes from as the server sees it.
    """
    with _many_files(2 * len(own)), ExitStack() as stack:
        open_all = _crowd_of_tcp if protocol == "tcp" else _crowd_of_udp
        return open_all(stack, client, to, server, port, own)


def version_of(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def _ask_tcp(
    client: Namespace, to: Endpoint, server: Namespace, port: int, own: Endpoint, timeout: float
) -> Visit:
    family = _FAMILIES[version_of(to[0])]
    with closing(server.socket(family)) as ear, closing(client.socket(family)) as sock:
        _bind(ear, ("", port))
        ear.listen()
        _bind(sock, own)
        sock.setblocking(False)
        if sock.connect_ex(to) not in (0, errno.EINPROGRESS):
            sock.connect(to)  # raises what the first one met
        ready, _, _ = select.select([ear, sock], [sock], [], timeout)
        if sock in ready and (number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            raise OSError(number, os.strerror(number))
        if not _readable(ear, timeout):
            return NOBODY
        connection, _ = ear.accept()
        with closing(connection):
            sock.settimeout(_ANSWER_SECONDS)
            connection.settimeout(_ANSWER_SECONDS)
            for sender, receiver in ((sock, connection), (connection, sock)):
                words = secrets.token_bytes(16)
                select.select([], [sender], [], _ANSWER_SECONDS)
                sender.sendall(words)
                assert receiver.recv(64) == words
            return _tcp_visit(connection, sock)


def _ask_udp(
    client: Namespace, to: Endpoint, server: Namespace, port: int, own: Endpoint, timeout: float
) -> Visit:
    version = version_of(to[0])
    question, answer = secrets.token_bytes(16), secrets.token_bytes(16)
    with (
        closing(_with_packet_info(server, version, socket.SOCK_DGRAM)) as ear,
        closing(client.socket(_FAMILIES[version], socket.SOCK_DGRAM)) as sock,
    ):
        ear.bind(("", port))
        _bind(sock, own)
        sock.connect(to)  # from here on it hears nobody else
        sock.send(question)
        sock.settimeout(_ANSWER_SECONDS)
        if not _readable(ear, timeout):
            _raise_refusal(sock)
            return NOBODY
        words, ancillary, _, peer = ear.recvmsg(64, 128)
        assert words == question
        ear.sendmsg([answer], ancillary, 0, peer)
        assert sock.recv(64) == answer
        return Visit(peer[0], peer[1], _target(version, ancillary))


def _crowd_of_tcp(
    stack: ExitStack, client: Namespace, to: Endpoint, server: Namespace, port: int, own: Sequence[Endpoint]
) -> list[Endpoint]:
    version = version_of(to[0])
    ear = stack.enter_context(closing(server.socket(_FAMILIES[version])))
    _bind(ear, ("", port))
    ear.listen(len(own))
    ear.settimeout(_ANSWER_SECONDS)
    pairs = []
    for sock in _sockets(stack, client, version, socket.SOCK_STREAM, own):
        sock.connect(to)
        connection = stack.enter_context(closing(ear.accept()[0]))
        connection.settimeout(_ANSWER_SECONDS)
        pairs.append((sock, connection))
    for sock, connection in pairs:
        for sender, receiver in ((sock, connection), (connection, sock)):
            words = secrets.token_bytes(8)
            sender.sendall(words)
            assert receiver.recv(8) == words
    return [connection.getpeername()[:2] for _, connection in pairs]


def _crowd_of_udp(
    stack: ExitStack, client: Namespace, to: Endpoint, server: Namespace, port: int, own: Sequence[Endpoint]
) -> list[Endpoint]:
    version = version_of(to[0])
    ear = stack.enter_context(closing(_with_packet_info(server, version, socket.SOCK_DGRAM)))
    _bind(ear, ("", port))
    ear.settimeout(_ANSWER_SECONDS)
    asked = []
    for sock in _sockets(stack, client, version, socket.SOCK_DGRAM, own):
        sock.connect(to)
        words = secrets.token_bytes(8)
        sock.send(words)
        question, ancillary, _, peer = ear.recvmsg(8, 128)
        assert question == words
        asked.append((sock, ancillary, peer))
    for sock, ancillary, peer in asked:
        words = secrets.token_bytes(8)
        ear.sendmsg([words], ancillary, 0, peer)
        assert sock.recv(8) == words
    return [peer[:2] for _, _, peer in asked]


def _sockets(
    stack: ExitStack, client: Namespace, version: int, kind: int, own: Sequence[Endpoint]
) -> list[socket.socket]:
    socks = within(client.path, lambda: [socket.socket(_FAMILIES[version], kind) for _ in own])
    for sock, endpoint in zip(socks, own, strict=True):
        stack.enter_context(closing(sock))
        _bind(sock, endpoint)
        sock.settimeout(_ANSWER_SECONDS)
    return socks


def _ask_sctp(
    client: Namespace, to: Endpoint, server: Namespace, port: int, own: Endpoint, timeout: float
) -> Visit:
    """The first two packets of an association (RFC 9260, section 5.1), since the kernel may lack SCTP itself."""
    version = version_of(to[0])
    tag, own_tag = secrets.randbits(31) + 1, secrets.randbits(31) + 1
    own_port = own[1] or 20000 + secrets.randbelow(10000)
    with (
        closing(_raw(server, version, socket.IPPROTO_SCTP)) as ear,
        closing(_raw(client, version, socket.IPPROTO_SCTP)) as sock,
    ):
        sock.sendto(sctp.init(own_port, to[1], tag), (to[0], 0))
        asked = _await(
            ear, version, lambda packet: sctp.is_chunk(packet, sctp.INIT, port=port, tag=tag), timeout
        )
        if asked is None:
            return NOBODY
        assert sctp.is_intact(asked.message), "the checksum is wrong after translation"
        source_port = sctp.source_port(asked.message)
        reply = sctp.init_ack(port, source_port, tag, own_tag)
        ear.sendmsg([reply], asked.ancillary, 0, (asked.source, 0))
        answer = _await(
            sock,
            version,
            lambda packet: sctp.is_chunk(packet, sctp.INIT_ACK, port=own_port, tag=own_tag),
            _ANSWER_SECONDS,
        )
        assert answer is not None, f"the answer to {asked.source} was lost"
        assert sctp.is_intact(answer.message), "the checksum of the answer is wrong after translation"
        assert (answer.source, sctp.source_port(answer.message)) == to
        return Visit(asked.source, source_port, asked.target)


def _tcp_visit(connection: socket.socket, sock: socket.socket) -> Visit:
    peer, target = connection.getpeername(), connection.getsockname()
    server_mss, client_mss = (
        one.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for one in (connection, sock)
    )
    return Visit(peer[0], peer[1], target[0], (server_mss, client_mss))


def _forbid_fragments(sock: socket.socket, version: int) -> None:
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)


def _told_mtu(sock: socket.socket, version: int) -> int:
    """What a connected socket is told after it has sent too much."""
    sock.settimeout(_ANSWER_SECONDS)
    try:
        sock.recv(1)
    except OSError as error:
        if error.errno != errno.EMSGSIZE:
            raise
    if version == 4:
        return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
    return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)


@contextmanager
def _many_files(number: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, soft + number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass(frozen=True)
class _Packet:
    """What a raw socket has received; ancillary data that send an answer from the same address."""

    message: bytes
    source: str
    target: str
    ancillary: list[tuple[int, int, bytes]]


def _await(
    sock: socket.socket, version: int, wanted: Callable[[bytes], bool], timeout: float
) -> _Packet | None:
    deadline = time.monotonic() + timeout
    while _readable(sock, deadline - time.monotonic()):
        data, ancillary, _, peer = sock.recvmsg(65536, 128)
        # A raw socket of IPv4 hands out the IP header too.
        message = data[(data[0] & 0xF) * 4 :] if version == 4 else data
        if len(message) >= 8 and wanted(message):
            return _Packet(message, peer[0], _target(version, ancillary), ancillary)
    return None


def _raw(namespace: Namespace, version: int, protocol: int) -> socket.socket:
    return _with_packet_info(namespace, version, socket.SOCK_RAW, protocol)


def _with_packet_info(namespace: Namespace, version: int, kind: int, protocol: int = 0) -> socket.socket:
    sock = namespace.socket(_FAMILIES[version], kind, protocol)
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    return sock


def _target(version: int, ancillary: list[tuple[int, int, bytes]]) -> str:
    """The address that a packet came to."""
    for level, kind, data in ancillary:
        if version == 4 and (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if version == 6 and (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    raise AssertionError(f"no packet information in {ancillary}")


def _echo_request(version: int, identifier: int, data: bytes) -> bytes:
    def message(checksum: int) -> bytes:
        return struct.pack("!BBHHH", _ECHO_REQUEST[version], 0, checksum, identifier, 1) + data

    # The kernel sums up ICMPv6 itself, since the pseudo-header belongs to it (RFC 3542, section 3.1).
    return message(_internet_checksum(message(0)) if version == 4 else 0)


def _internet_checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _bind(sock: socket.socket, own: Endpoint) -> None:
    if own != ("", 0):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(own)


def _readable(sock: socket.socket, timeout: float) -> bool:
    return bool(select.select([sock], [], [], max(0.0, timeout))[0])


def _raise_refusal(sock: socket.socket) -> None:
    if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, os.strerror(number))
