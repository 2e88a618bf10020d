"""One network namespace of the lab, and what a test can do inside it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import groupby
from typing import Any, TypeVar

from .snapshot import Snapshot, take

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
SO_BINDTODEVICE = 25
SETTLE_SECONDS = 10
_libc = ctypes.CDLL(None, use_errno=True)


def within(path: str, function: Callable[[], T]) -> T:
    """Call a function inside a network namespace.

    It runs in a thread of its own, since setns(2) concerns the calling thread only; a socket made there, or a
    process started there, stays in that namespace.
    """
    outcome: dict[str, Any] = {}

    def body() -> None:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(handle, CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), path)
            finally:
                os.close(handle)
            outcome["value"] = function()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


class Namespace:
    """A named network namespace; made on construction."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"
        _run(["ip", "netns", "add", name])
        # Duplicate address detection delays every IPv6 address by a second; pods turn it on for new links.
        self.sysctl("net/ipv6/conf/all/accept_dad", 0)
        self.sysctl("net/ipv6/conf/default/accept_dad", 0)
        self.ip("link set lo up")

    def remove(self) -> None:
        """Remove it, once or more often."""
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)

    @property
    def exists(self) -> bool:
        return os.path.exists(self.path)

    def ip(self, *commands: str) -> None:
        """Run ip(8) commands in order, each written as on the command line but without `ip`."""
        for with_option, group in groupby(commands, lambda command: command.startswith("-")):
            if with_option:  # a batch takes none
                for command in group:
                    _run(["ip", "-n", self.name, *command.split()])
            else:
                _run(["ip", "-n", self.name, "-batch", "-"], "\n".join(group) + "\n")

    def show(self, command: str) -> list[dict[str, Any]]:
        """The JSON answer of an ip(8) command."""
        text = _run(["ip", "-n", self.name, "-j", "-d", *command.split()]).strip()
        return [item for item in json.loads(text or "[]") if item]

    def run(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        """Run a program inside."""
        return within(self.path, lambda: _run(list(argv), stdin, check=check))

    def sysctl(self, key: str, value: object = None) -> str:
        """Read or write net/…; the key is a path because interface names may hold dots."""
        path = f"/proc/sys/{key}"

        def act() -> str:
            if value is not None:
                with open(path, "w") as handle:
                    handle.write(str(value))
            with open(path) as handle:
                return handle.read().strip()

        return within(self.path, act)

    def link(self, name: str) -> dict[str, Any] | None:
        """One link as `ip -d link show` describes it; None if there is none of that name."""
        return next((item for item in self.show("link show") if item["ifname"] == name), None)

    def settle(self, name: str) -> None:
        """Wait until the kernel has noticed that a link is up, so that nothing more changes by itself."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            (link,) = self.show(f"address show dev {name}")
            if link["operstate"] == "UP" and any(item["scope"] == "link" for item in link["addr_info"]):
                return
            assert time.monotonic() < deadline, f"{name} of {self.name} does not come up: {link}"
            time.sleep(0.005)

    def mac(self, name: str = "eth0") -> str:
        link = self.link(name)
        assert link, f"{self.name} has no {name}"
        return str(link["address"])

    def addresses(self, name: str) -> dict[str, dict[str, Any]]:
        """The addresses of one link with their prefix length, link-local ones left out."""
        return {
            f"{item['local']}/{item['prefixlen']}": item
            for link in self.show(f"address show dev {name}")
            for item in link["addr_info"]
            if item["scope"] != "link"
        }

    def routes(self, table: str = "main", family: int = 4) -> list[dict[str, Any]]:
        return self.show(f"-{family} route show table {table}")

    def rules(self, family: int = 4) -> list[dict[str, Any]]:
        return self.show(f"-{family} rule show")

    def route_get(self, address: str, *options: str) -> dict[str, Any]:
        """What the kernel would do with a packet to an address."""
        return self.show(" ".join(["route get", address, *options]))[0]

    def snapshot(self) -> Snapshot:
        """All of the namespace's network state that does not change by itself."""
        return take(self)

    def socket(self, family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        return within(self.path, lambda: socket.socket(family, kind, protocol))

    def reach(
        self, target: Namespace, address: str, *, source: str = "", device: str = "", timeout: float = 2.0
    ) -> str | None:
        """Open a TCP connection to a listener of the target.

        Returns:
            The client's address as the listener sees it; None if no connection comes about in time.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with closing(target.socket(family)) as server, closing(self.socket(family)) as client:
            server.bind(("", 0))
            server.listen()
            server.setblocking(False)
            client.setblocking(False)
            try:
                if device:
                    client.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
                if source:
                    client.bind((source, 0))
                client.connect((address, server.getsockname()[1]))
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES):
                    return None
                raise
            ready, _, _ = select.select([server], [], [], timeout)
            if not ready:
                return None
            connection, peer = server.accept()
            connection.close()
            return str(peer[0])


def _run(argv: list[str], stdin: str = "", check: bool = True) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(argv)}: exit status {done.returncode}\n{stdin}{done.stdout}{done.stderr}"
        )
    return done.stdout
