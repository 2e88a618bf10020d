"""Much traffic: large transfers and many flows at once."""

from __future__ import annotations

import hashlib
import resource
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

from .namespace import Namespace, within
from .sockets import ANSWER_SECONDS, FAMILIES, Endpoint, bind, version_of, with_packet_info
from .traffic import Visit, tcp_visit


def transfer(
    client: Namespace, to: Endpoint, server: Namespace, port: int, size: int, *, download: bool = False
) -> Visit:
    """Send bytes over one TCP connection, one way, and see that they are whole at the other end."""
    family = FAMILIES[version_of(to[0])]
    with closing(server.socket(family)) as ear, closing(client.socket(family)) as sock:
        bind(ear, ("", port))
        ear.listen()
        for one in (ear, sock):
            one.settimeout(ANSWER_SECONDS)
        sock.connect(to)
        connection, _ = ear.accept()
        with closing(connection):
            connection.settimeout(ANSWER_SECONDS)
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
            return tcp_visit(connection, sock)


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


def _crowd_of_tcp(
    stack: ExitStack, client: Namespace, to: Endpoint, server: Namespace, port: int, own: Sequence[Endpoint]
) -> list[Endpoint]:
    version = version_of(to[0])
    ear = stack.enter_context(closing(server.socket(FAMILIES[version])))
    bind(ear, ("", port))
    ear.listen(len(own))
    ear.settimeout(ANSWER_SECONDS)
    pairs = []
    for sock in _sockets(stack, client, version, socket.SOCK_STREAM, own):
        sock.connect(to)
        connection = stack.enter_context(closing(ear.accept()[0]))
        connection.settimeout(ANSWER_SECONDS)
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
    ear = stack.enter_context(closing(with_packet_info(server, version, socket.SOCK_DGRAM)))
    bind(ear, ("", port))
    ear.settimeout(ANSWER_SECONDS)
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
    socks = within(client.path, lambda: [socket.socket(FAMILIES[version], kind) for _ in own])
    for sock, endpoint in zip(socks, own, strict=True):
        stack.enter_context(closing(sock))
        bind(sock, endpoint)
        sock.settimeout(ANSWER_SECONDS)
    return socks


@contextmanager
def _many_files(number: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, soft + number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
