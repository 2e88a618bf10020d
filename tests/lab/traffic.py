"""Traffic between two namespaces: a question, its answer, and what the server sees of the client.

Every exchange goes there and back. One that reaches the server, and whose answer is lost, is a failure at once.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import struct
from contextlib import closing
from dataclasses import dataclass

from . import sctp
from .namespace import Namespace
from .sockets import (
    ANSWER_SECONDS,
    FAMILIES,
    Endpoint,
    await_packet,
    bind,
    raw_socket,
    readable,
    target_of,
    version_of,
    with_packet_info,
)

_ECHO_REQUEST, _ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_ICMP = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}


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
        closing(raw_socket(server, version, _ICMP[version])) as ear,
        closing(raw_socket(client, version, _ICMP[version])) as sock,
    ):
        sock.sendto(_echo_request(version, identifier, data), (address, 0))

        def is_request(message: bytes) -> bool:
            # The identifier may be changed on the way, as a port is.
            return message[0] == _ECHO_REQUEST[version] and message[8:] == data

        asked = await_packet(ear, version, is_request, timeout)
        if asked is None:
            return NOBODY
        answer = await_packet(
            sock,
            version,
            lambda message: message[0] == _ECHO_REPLY[version] and message[8:] == data,
            ANSWER_SECONDS,
        )
        assert answer is not None, f"{address} did not answer the echo request that {asked.source} sent"
        assert answer.source == address, f"{answer.source} answered instead of {address}"
        return Visit(asked.source, 0, asked.target)


def tcp_visit(connection: socket.socket, sock: socket.socket) -> Visit:
    """What a connection of the server tells of its client."""
    peer, target = connection.getpeername(), connection.getsockname()
    server_mss, client_mss = (
        one.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for one in (connection, sock)
    )
    return Visit(peer[0], peer[1], target[0], (server_mss, client_mss))


def _ask_tcp(
    client: Namespace, to: Endpoint, server: Namespace, port: int, own: Endpoint, timeout: float
) -> Visit:
    family = FAMILIES[version_of(to[0])]
    with closing(server.socket(family)) as ear, closing(client.socket(family)) as sock:
        bind(ear, ("", port))
        ear.listen()
        bind(sock, own)
        sock.setblocking(False)
        if sock.connect_ex(to) not in (0, errno.EINPROGRESS):
            sock.connect(to)  # raises what the first one met
        ready, _, _ = select.select([ear, sock], [sock], [], timeout)
        if sock in ready and (number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            raise OSError(number, os.strerror(number))
        if not readable(ear, timeout):
            return NOBODY
        connection, _ = ear.accept()
        with closing(connection):
            sock.settimeout(ANSWER_SECONDS)
            connection.settimeout(ANSWER_SECONDS)
            for sender, receiver in ((sock, connection), (connection, sock)):
                words = secrets.token_bytes(16)
                select.select([], [sender], [], ANSWER_SECONDS)
                sender.sendall(words)
                assert receiver.recv(64) == words
            return tcp_visit(connection, sock)


def _ask_udp(
    client: Namespace, to: Endpoint, server: Namespace, port: int, own: Endpoint, timeout: float
) -> Visit:
    version = version_of(to[0])
    question, answer = secrets.token_bytes(16), secrets.token_bytes(16)
    with (
        closing(with_packet_info(server, version, socket.SOCK_DGRAM)) as ear,
        closing(client.socket(FAMILIES[version], socket.SOCK_DGRAM)) as sock,
    ):
        ear.bind(("", port))
        bind(sock, own)
        sock.connect(to)  # from here on it hears nobody else
        sock.send(question)
        sock.settimeout(ANSWER_SECONDS)
        if not readable(ear, timeout):
            _raise_refusal(sock)
            return NOBODY
        words, ancillary, _, peer = ear.recvmsg(64, 128)
        assert words == question
        ear.sendmsg([answer], ancillary, 0, peer)
        assert sock.recv(64) == answer
        return Visit(peer[0], peer[1], target_of(version, ancillary))


def _ask_sctp(
    client: Namespace, to: Endpoint, server: Namespace, port: int, own: Endpoint, timeout: float
) -> Visit:
    """The first two packets of an association (RFC 9260, section 5.1), since the kernel may lack SCTP itself."""
    version = version_of(to[0])
    tag, own_tag = secrets.randbits(31) + 1, secrets.randbits(31) + 1
    own_port = own[1] or 20000 + secrets.randbelow(10000)
    with (
        closing(raw_socket(server, version, socket.IPPROTO_SCTP)) as ear,
        closing(raw_socket(client, version, socket.IPPROTO_SCTP)) as sock,
    ):
        sock.sendto(sctp.init(own_port, to[1], tag), (to[0], 0))
        asked = await_packet(
            ear, version, lambda packet: sctp.is_chunk(packet, sctp.INIT, port=port, tag=tag), timeout
        )
        if asked is None:
            return NOBODY
        assert sctp.is_intact(asked.message), "the checksum is wrong after translation"
        source_port = sctp.source_port(asked.message)
        reply = sctp.init_ack(port, source_port, tag, own_tag)
        ear.sendmsg([reply], asked.ancillary, 0, (asked.source, 0))
        answer = await_packet(
            sock,
            version,
            lambda packet: sctp.is_chunk(packet, sctp.INIT_ACK, port=own_port, tag=own_tag),
            ANSWER_SECONDS,
        )
        assert answer is not None, f"the answer to {asked.source} was lost"
        assert sctp.is_intact(answer.message), "the checksum of the answer is wrong after translation"
        assert (answer.source, sctp.source_port(answer.message)) == to
        return Visit(asked.source, source_port, asked.target)


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


def _raise_refusal(sock: socket.socket) -> None:
    if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, os.strerror(number))
