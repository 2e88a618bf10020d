"""An address that moves from one node to another: how long its traffic still goes to the old place.

The router, whose neighbour cache decides, sends an echo request every few milliseconds all the time. The time is
counted from the end of the ADD on the second node to the first answer from there. Beside the plugin stands what the
kernel does by itself: the same interface and address made by hand, announced by nobody.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cni_macvlan_egress.admin.theatre.namespace import Namespace

from . import calls
from .calls import Installation
from .cluster import NIC, Cluster, Pod, inside
from .process import BenchmarkError
from .report import Result

_PLACE = calls.near(99)
_ADDRESS = _PLACE.address.partition("/")[0]
_SECOND_NODE = "192.168.12.11"
_STEP_SECONDS = 0.005
_AT_MOST_SECONDS = 120.0
_ROUNDS = 3  # the kernel's own way takes most of a minute each time
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_HEADER = struct.Struct("!BBHHH")
_REFERENCE = os.path.join(calls.PLUGINS, "macvlan")


def configure(_parser: argparse.ArgumentParser) -> None:
    """It has no arguments of its own."""


def measure(options: argparse.Namespace, check: Callable[[], None]) -> Result:
    """Run it.

    Raises:
        BenchmarkError: something that was to be measured failed.
    """
    rounds = 1 if options.quick else min(options.rounds, _ROUNDS)
    found: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="macvlan-egress-bench-"))
        scene = _Scene(stack.enter_context(Cluster()), directory)
        for _ in range(rounds):
            for name, cut_off, take_over in (
                ("the old pod is deleted first: this plugin", False, scene.attach),
                ("the old node is cut off: this plugin", True, scene.attach),
                ("the old node is cut off: Go macvlan", True, scene.attach_by_reference),
                ("the old node is cut off: by hand, not announced", True, scene.attach_by_hand),
            ):
                if options.quick and take_over == scene.attach_by_hand:
                    continue
                check()
                found.setdefault(name, []).append(scene.move(take_over, cut_off=cut_off, check=check))
    rows = [
        (name, f"{statistics.median(times):.3f}", f"{min(times):.3f}", f"{max(times):.3f}")
        for name, times in found.items()
    ]
    return Result(
        ("an address moves to another node", "median s", "least s", "most s"),
        rows,
        (
            f"Seconds from the end of the ADD to the first answer; {rounds} times each, an echo request every "
            f"{_STEP_SECONDS * 1000:.0f} ms.",
        ),
    )


@dataclass(frozen=True, slots=True)
class _Side:
    node: Namespace
    installation: Installation


class _Scene:
    """Two nodes on a LAN; the address goes from one to the other."""

    def __init__(self, cluster: Cluster, directory: str) -> None:
        self._cluster = cluster
        second = cluster.another_node("second", _SECOND_NODE)
        self._sides = [
            _Side(node, Installation(os.path.join(directory, f"node{number}")))
            for number, node in enumerate((cluster.node, second))
        ]
        self._moves = 0

    def move(
        self,
        take_over: Callable[[_Side, Pod], Callable[[], None]],
        *,
        cut_off: bool,
        check: Callable[[], None],
    ) -> float:
        """Seconds without an answer from the second node; afterwards the address is nobody's."""
        first, second = self._sides
        self._moves += 1
        old = self._cluster.pod(f"old{self._moves}", first.node)
        new = self._cluster.pod(f"new{self._moves}", second.node)
        self._call(first, "ADD", old)
        with self._pinging() as pinging:
            pinging.wait(check)
            if cut_off:
                self._port("down")
            else:
                self._call(first, "DEL", old)
            pinging.forget()
            undo = take_over(second, new)
            waited = pinging.wait(check)
        undo()
        if cut_off:
            self._port("up")
            self._call(first, "DEL", old)
        return waited

    def attach(self, side: _Side, pod: Pod) -> Callable[[], None]:
        self._call(side, "ADD", pod)
        return lambda: self._call(side, "DEL", pod)

    def attach_by_reference(self, side: _Side, pod: Pod) -> Callable[[], None]:
        with inside(side.node):
            calls.macvlan(_REFERENCE, "ADD", pod, _PLACE).run()

        def detach() -> None:
            with inside(side.node):
                calls.macvlan(_REFERENCE, "DEL", pod, _PLACE).run()

        return detach

    def attach_by_hand(self, side: _Side, pod: Pod) -> Callable[[], None]:
        def make(ip: object) -> None:
            index = ip.link_lookup(ifname=NIC)[0]  # type: ignore[attr-defined]
            ip.link(  # type: ignore[attr-defined]
                "add", ifname="macvlan0", kind="macvlan", link=index, macvlan_mode="bridge",
                net_ns_fd=pod.namespace.fd,
            )  # fmt: skip

        def address(ip: object) -> None:
            index = ip.link_lookup(ifname="macvlan0")[0]  # type: ignore[attr-defined]
            ip.link("set", index=index, state="up")  # type: ignore[attr-defined]
            ip.addr("add", index=index, address=_ADDRESS, prefixlen=24)  # type: ignore[attr-defined]

        def remove(ip: object) -> None:
            ip.link("del", index=ip.link_lookup(ifname="macvlan0")[0])  # type: ignore[attr-defined]

        side.node.configure("make a macvlan by hand", make)
        pod.namespace.configure("give it an address", address)
        return lambda: pod.namespace.configure("remove the macvlan", remove)

    def _call(self, side: _Side, verb: str, pod: Pod) -> None:
        with inside(side.node):
            side.installation.call(verb, pod, calls.source(_PLACE)).run()

    def _port(self, state: str) -> None:
        self._cluster.lan.configure(
            f"set the first node's port {state}",
            lambda ip: ip.link("set", index=ip.link_lookup(ifname="node")[0], state=state),
        )

    @contextlib.contextmanager
    def _pinging(self) -> Iterator[_Pinging]:
        sock = self._cluster.lan.run(
            lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.getprotobyname("icmp"))
        )
        with sock:
            yield _Pinging(sock)


class _Pinging:
    """Echo requests to the address, and the answers."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(False)
        self._number = 0
        self._first = 0

    def forget(self) -> None:
        """Answers to what has been sent do not count any more."""
        self._first = self._number + 1

    def wait(self, check: Callable[[], None]) -> float:
        """Send until there is an answer; the seconds that it took.

        Raises:
            BenchmarkError: there is none for too long.
        """
        began = time.monotonic()
        while (now := time.monotonic()) - began < _AT_MOST_SECONDS:
            check()
            self._send()
            until = now + _STEP_SECONDS
            while (left := until - time.monotonic()) > 0 and select.select([self._socket], [], [], left)[0]:
                kind, number = self._receive()
                if kind == _ECHO_REPLY and number >= self._first:
                    return time.monotonic() - began
        raise BenchmarkError(f"{_ADDRESS} does not answer for {_AT_MOST_SECONDS:.0f} s")

    def _send(self) -> None:
        self._number += 1
        identity, number = os.getpid() & 0xFFFF, self._number & 0xFFFF
        total = (_ECHO_REQUEST << 8) + identity + number
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        frame = _HEADER.pack(_ECHO_REQUEST, 0, ~total & 0xFFFF, identity, number)
        with contextlib.suppress(OSError):  # no answer to ARP: the kernel says so at the next packet
            self._socket.sendto(frame, (_ADDRESS, 0))

    def _receive(self) -> tuple[int, int]:
        data, (address, _) = self._socket.recvfrom(2048)
        head = (data[0] & 15) * 4
        kind, _, _, identity, number = _HEADER.unpack_from(data, head)
        ours = address == _ADDRESS and identity == os.getpid() & 0xFFFF
        return (kind, number) if ours else (_ECHO_REQUEST, 0)
