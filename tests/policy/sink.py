"""Addresses outside the cluster, and an ear that tells to which of them a pod's packets get."""

from __future__ import annotations

import select
import socket
from contextlib import closing

from lab import Lan, Namespace
from lab.attacker import token
from lab.sockets import ANSWER_SECONDS, target_of, with_packet_info

# DENIED is what the tests' policies deny, ALLOWED what they allow by a rule, FREE what no rule is about.
DENIED, ALLOWED, FREE = "203.0.113.25", "203.0.113.26", "203.0.113.27"
# In clusterNetworks, so that no policy blocks it, not even a broken one.
CLUSTER = "10.255.255.254"
PORT = 4000
_ROUNDS = 3  # the first packet to an address may be overtaken while its neighbour is looked for


class Sink:
    """The host outside, with all of these addresses."""

    def __init__(self, lan: Lan, outside: Namespace) -> None:
        self._outside = outside
        outside.ip(
            *(f"address add {one}/24 dev eth0" for one in (ALLOWED, FREE)),
            f"address add {CLUSTER}/32 dev eth0",
        )
        lan.ip(f"route add {CLUSTER} via {DENIED}")

    def reached(
        self, pod: Namespace, *, source: str = "", last: str = CLUSTER, seconds: float = ANSWER_SECONDS
    ) -> set[str]:
        """Which of DENIED, ALLOWED and FREE a pod can send to.

        Args:
            source: the pod's address to send from, the kernel's choice if empty.
            last: an address that has to be reached: when its packet has come, so have the others.
        """
        words = token()
        with (
            closing(with_packet_info(self._outside, 4, socket.SOCK_DGRAM)) as ear,
            closing(pod.socket(socket.AF_INET, socket.SOCK_DGRAM)) as mouth,
        ):
            ear.bind(("", PORT))
            if source:
                mouth.bind((source, 0))
            heard: set[str] = set()
            for number in range(_ROUNDS):
                end = words + bytes([number])
                for address in (DENIED, ALLOWED, FREE):
                    mouth.sendto(words, (address, PORT))
                mouth.sendto(end, (last, PORT))
                while True:
                    ready, _, _ = select.select([ear], [], [], seconds)
                    assert ready, f"nothing has come to {last}, which no policy denies"
                    data, ancillary, _, _ = ear.recvmsg(64, 128)
                    if data == words:
                        heard.add(target_of(4, ancillary))
                    if data == end:
                        break
            return heard

    def hears_nothing(self, pod: Namespace, source: str) -> bool:
        """Whether nothing that is sent from a source arrives, while what the pod sends in its own name does."""
        words = token()
        with (
            closing(self._outside.socket(socket.AF_INET, socket.SOCK_DGRAM)) as ear,
            closing(pod.socket(socket.AF_INET, socket.SOCK_DGRAM)) as liar,
            closing(pod.socket(socket.AF_INET, socket.SOCK_DGRAM)) as mouth,
        ):
            ear.bind(("", PORT))
            ear.settimeout(ANSWER_SECONDS)
            liar.bind((source, 0))
            for number in range(_ROUNDS):
                liar.sendto(words, (FREE, PORT))
                mouth.sendto(words + bytes([number]), (FREE, PORT))
            while (data := ear.recv(64)) != words + bytes([_ROUNDS - 1]):
                if data == words:
                    return False
        return True
