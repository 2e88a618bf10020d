"""Real packets: a question by UDP, and a witness that answers with the source address it saw."""

from __future__ import annotations

import select
import socket
import time
from contextlib import closing

from .interruption import Interruption
from .namespace import Namespace

PORT = 4000
_TIMEOUT_SECONDS = 5.0
_AGAIN_SECONDS = 0.25
_QUESTION = b"who am I?"


def ask(
    sender: Namespace, witness: Namespace, address: str, interruption: Interruption, *, source: str = ""
) -> str:
    """Ask a witness who the sender is.

    Args:
        address: the witness's.
        source: the address to send from; the kernel chooses if there is none.

    Returns:
        The address that the witness saw, as the sender read it in the answer; or what went wrong.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    with closing(witness.udp()) as server, closing(sender.udp()) as client:
        server.bind((address, PORT))
        try:
            client.bind((source, 0))
            while time.monotonic() < deadline:
                interruption.check()
                client.sendto(_QUESTION, (address, PORT))
                if _reply(server) and (answer := _receive(client)):
                    return answer[0].decode()
        except OSError as error:
            return f"nothing ({error.strerror})"
    return f"nothing (no answer in {_TIMEOUT_SECONDS:.0f} s)"


def _reply(server: socket.socket) -> bool:
    question = _receive(server)
    if question is None:
        return False
    _, peer = question
    server.sendto(peer[0].encode(), peer)
    return True


def _receive(sock: socket.socket) -> tuple[bytes, tuple[str, int]] | None:
    readable, _, _ = select.select([sock], [], [], _AGAIN_SECONDS)
    return sock.recvfrom(64) if readable else None
