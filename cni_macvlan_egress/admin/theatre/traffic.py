"""Real packets: a question by UDP, and a witness that answers with the source address it saw."""

from __future__ import annotations

import select
import socket
import time
from contextlib import closing

from .interruption import Interruption
from .namespace import Namespace

PORT = 4000
PATIENCE_SECONDS = 5.0
_AGAIN_SECONDS = 0.25
_QUESTION = b"who am I?"


def ask(
    sender: Namespace,
    witness: Namespace,
    address: str,
    interruption: Interruption,
    *,
    by: str = "",
    patience: float = PATIENCE_SECONDS,
) -> str:
    """Ask a witness who the sender is.

    Args:
        address: the witness's own.
        by: the address to send to, where another stands for the witness's.
        patience: seconds to wait for an answer.

    Returns:
        The address that the witness saw, as the sender read it in the answer; or what went wrong.
    """
    deadline = time.monotonic() + patience
    with closing(witness.udp()) as server, closing(sender.udp()) as client:
        server.bind((address, PORT))
        try:
            while time.monotonic() < deadline:
                interruption.check()
                client.sendto(_QUESTION, (by or address, PORT))
                if _reply(server) and (answer := _receive(client)):
                    return answer[0].decode()
        except OSError as error:
            return f"nothing ({error.strerror})"
    return f"nothing (no answer in {patience:.0f} s)"


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
