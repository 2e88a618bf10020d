"""What becomes of a datagram that is too big for a link on its way and must not be fragmented."""

from __future__ import annotations

import errno
import select
import socket
from contextlib import closing

from .namespace import Namespace
from .sockets import ANSWER_SECONDS, FAMILIES, Endpoint, bind, target_of, version_of, with_packet_info

# <linux/in.h>, <linux/in6.h>
_IP_MTU_DISCOVER, _IP_MTU = 10, 14
_IPV6_MTU_DISCOVER, _IPV6_MTU = 23, 24
_PMTUDISC_DO = 2


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
    with closing(client.socket(FAMILIES[version], socket.SOCK_DGRAM)) as sock:
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
        closing(with_packet_info(server, version, socket.SOCK_DGRAM)) as ear,
        closing(server.socket(FAMILIES[version], socket.SOCK_DGRAM)) as answering,
        closing(client.socket(FAMILIES[version], socket.SOCK_DGRAM)) as sock,
    ):
        bind(ear, ("", port))
        sock.connect(to)
        sock.send(b"?")
        ear.settimeout(ANSWER_SECONDS)
        _, ancillary, _, peer = ear.recvmsg(1, 128)
        # Only a connected socket hears of errors.
        bind(answering, (target_of(version, ancillary), port))
        answering.connect(peer)
        _forbid_fragments(answering, version)
        answering.send(bytes(size))
        ready, _, _ = select.select([sock, answering], [], [], ANSWER_SECONDS)
        if sock in ready:
            assert len(sock.recv(65536)) == size
            return None
        return _told_mtu(answering, version)


def _forbid_fragments(sock: socket.socket, version: int) -> None:
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)


def _told_mtu(sock: socket.socket, version: int) -> int:
    """What a connected socket is told after it has sent too much."""
    sock.settimeout(ANSWER_SECONDS)
    try:
        sock.recv(1)
    except OSError as error:
        if error.errno != errno.EMSGSIZE:
            raise
    if version == 4:
        return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
    return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
