"""A throwaway network namespace, and what can be done inside it."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from pyroute2 import IPRoute, NetlinkError, netns

from ...decide.facts import HostFacts
from ...kernel import sysctl
from ...kernel.netlink import KernelError, Netlink
from ...kernel.netns import Sandbox
from ...protocol.errors import KERNEL_REFUSED, CniError

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

Value = TypeVar("Value")


class Namespace:
    """A named network namespace; made on construction, IPv4 only, with `lo` up.

    Raises:
        CniError: KERNEL_REFUSED.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"{netns.NETNS_RUN_DIR}/{name}"
        with ExitStack() as undo:
            undo.callback(self._unlink)
            _make(name)
            self._sandbox = Sandbox(self.path)
            undo.callback(self._sandbox.close)
            self.run(_silence_ipv6)
            self.configure("set lo up", lambda ip: ip.link("set", index=1, state="up"))
            undo.pop_all()

    @property
    def fd(self) -> int:
        """The open namespace, to put a link's other end into."""
        return self._sandbox.fd

    def run(self, work: Callable[[], Value]) -> Value:
        """Do something inside; a socket made or a process started there stays there."""
        return self._sandbox.run(work)

    def configure(self, what: str, work: Callable[[Any], Value]) -> Value:
        """Change links, addresses or routes with an IPRoute that lives for this one call.

        Raises:
            KernelError: says what was being tried.
        """

        def act() -> Value:
            try:
                with IPRoute(groups=0) as ip:
                    return work(ip)
            except NetlinkError as error:
                raise self._refusal(what, abs(error.code)) from None
            except OSError as error:
                raise self._refusal(what, error.errno or errno.EIO) from None

        return self.run(act)

    def facts(self) -> HostFacts:
        """Links, addresses, routes and rules."""

        def look() -> HostFacts:
            with Netlink() as netlink:
                return netlink.facts(rules=True)

        return self.run(look)

    def sysctl(self, key: str, value: str) -> None:
        """Write a setting."""
        self.run(lambda: sysctl.write(key, value))

    def udp(self) -> socket.socket:
        """A UDP socket of this namespace."""
        return self.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def remove(self) -> None:
        """Give the name up; with the last process in it the namespace goes, and its links with it."""
        self._sandbox.close()
        self._unlink()

    def _refusal(self, what: str, number: int) -> KernelError:
        error = KernelError(f"{what} in {self.name}", number, "")
        error.details = ""  # whoever tries the demo gets one line
        return error

    def _unlink(self) -> None:
        if os.path.exists(self.path):
            netns.remove(self.name, libc=_LIBC)


def add_bridge(namespace: Namespace, name: str, address: str) -> None:
    """Make a bridge with an address, up.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    namespace.configure(
        f"make bridge {name}",
        lambda ip: ip.link("add", ifname=name, kind="bridge", br_forward_delay=0, state="up"),
    )
    add_address(namespace, name, address)


def add_address(namespace: Namespace, interface: str, address: str) -> None:
    """Give an interface an address with its prefix length.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    host, _, length = address.partition("/")
    namespace.configure(
        f"add {address} to {interface}",
        lambda ip: ip.addr("add", index=index_of(ip, interface), address=host, prefixlen=int(length)),
    )


def plug(
    what: str, one: Namespace, name: str, other: Namespace, other_name: str, *, bridge: str = ""
) -> None:
    """Connect two namespaces by a veth pair, both ends up; the first end may become a port of a bridge."""

    def lay(ip: Any) -> None:  # noqa: ANN401
        ip.link("add", ifname=name, kind="veth", peer={"ifname": other_name, "net_ns_fd": other.fd})
        port: dict[str, Any] = {"index": index_of(ip, name), "state": "up"}
        if bridge:
            port["master"] = index_of(ip, bridge)
        ip.link("set", **port)

    one.configure(what, lay)
    other.configure(what, lambda ip: ip.link("set", index=index_of(ip, other_name), state="up"))


def index_of(ip: Any, name: str) -> int:  # noqa: ANN401
    """The index of an interface, for a request to the kernel.

    Raises:
        NetlinkError: ENODEV.
    """
    found = ip.link_lookup(ifname=name)
    if not found:
        raise NetlinkError(errno.ENODEV, name)
    return int(found[0])


def _make(name: str) -> None:
    """Make a namespace from a thread that moves into a new one, ends, and leaves the name behind."""
    failure: list[OSError] = []

    def unshare() -> None:
        try:
            if _LIBC.unshare(_CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            netns.attach(name, "thread-self", libc=_LIBC)
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=unshare)
    thread.start()
    thread.join()
    if failure:
        reason = os.strerror(failure[0].errno) if failure[0].errno else str(failure[0])
        raise CniError(
            KERNEL_REFUSED,
            f"cannot make a network namespace: {reason}; run it as root with CAP_SYS_ADMIN and CAP_NET_ADMIN "
            "(sudo, or a privileged container)",
        )


def _silence_ipv6() -> None:
    if sysctl.has_ipv6():
        for scope in ("all", "default"):
            sysctl.write(f"net/ipv6/conf/{scope}/disable_ipv6", "1")
