"""A node and a pod for trials: two namespaces without a name, which go when the process that tries is gone."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import asdict

from ...kernel import netns
from ...kernel.netlink import Netlink
from ...kernel.netns import Sandbox
from ...protocol.errors import KERNEL_REFUSED, CniError
from .finding import Finding

# linux/sockios.h, linux/if_tun.h
_SIOCBRADDBR, _TUNSETIFF, _TUNSETPERSIST = 0x89A0, 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_CHUNK = 1 << 16


class NoNic(CniError):
    """There is nothing that a macvlan could be tried on."""


def in_child(work: Callable[[], Iterable[Finding]], seconds: float) -> list[Finding]:
    """Have a process of its own make findings: what hangs there is killed.

    Raises:
        CniError: KERNEL_REFUSED, if it did not end by itself.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(work, writer)
    os.close(writer)
    try:
        data = _read_all(reader, seconds)
    finally:
        os.close(reader)
        os.kill(
            child, signal.SIGKILL
        )  # it is still there until it is waited for, whether it has ended or not
        os.waitpid(child, 0)
    if data is None:
        raise CniError(KERNEL_REFUSED, f"the trials did not end within {seconds:.0f} s")
    answer = json.loads(data or b'{"error": "the process that tries has died"}')
    if "error" in answer:
        raise CniError(answer.get("code", KERNEL_REFUSED), answer["error"])
    return [Finding(**one) for one in answer["findings"]]


def _answer(work: Callable[[], Iterable[Finding]], writer: int) -> None:
    try:
        answer: dict[str, object] = {"findings": [asdict(one) for one in work()]}
    except CniError as error:
        answer = {"error": str(error), "code": error.code}
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    with os.fdopen(writer, "wb") as file:
        file.write(json.dumps(answer).encode())
    os._exit(0)


def _read_all(reader: int, seconds: float) -> bytes | None:
    data = b""
    while True:
        ready, _, _ = select.select([reader], [], [], seconds)
        if not ready:
            return None
        part = os.read(reader, _CHUNK)
        if not part:
            return data
        data += part


def with_pod(work: Callable[[Sandbox], Iterable[Finding]]) -> list[Finding]:
    """Work in a namespace that stands for the node's, with another one for a pod.

    Raises:
        CniError: KERNEL_REFUSED if no namespace can be made.
    """

    def on_node() -> list[Finding]:
        pod = netns.in_new_namespace(lambda: os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        try:
            with Sandbox(f"/proc/self/fd/{pod}") as sandbox:
                return list(work(sandbox))
        finally:
            os.close(pod)

    return netns.in_new_namespace(on_node)


def make_nic(name: str) -> None:
    """Make an Ethernet interface in the calling thread's namespace, and set it up.

    A bridge, because nearly every node has its module loaded already, or else a TAP.

    Raises:
        NoNic: neither can be made.
    """
    reasons = []
    for make in (_make_bridge, _make_tap):
        try:
            make(name)
            break
        except OSError as error:
            reasons.append(f"{make.__name__.removeprefix('_make_')}: {error.strerror}")
    else:
        raise NoNic(KERNEL_REFUSED, ", ".join(reasons))
    with Netlink() as netlink:
        netlink.set_up(name)


def _make_bridge(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCBRADDBR, name.encode() + b"\0")


def _make_tap(name: str) -> None:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    finally:
        os.close(fd)
