"""What passes through an egress pod: bytes, packets and new connections, beside plain routing and a ruleset by hand.

All ways lead from one client over a pod of their own to one server on the LAN:

- `routed plainly`: the pod forwards, without any rule and without translating addresses;
- `nft by hand, N rules`: the least that translates N ports through a map and keeps to it, written for this;
- `redirect, N rules`: what the plugin makes of N destinations.

Packets and new connections are UDP, sent as whole frames from the client's interface; veth, bridge, the pod's
namespace and macvlan hand them on in the sender's own system call, so that the time of sending is the time of the way.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cni_macvlan_egress.kernel.nftables import Nftables
from cni_macvlan_egress.model import keys

from . import calls
from .calls import Installation
from .cluster import NIC, ROUTER, Cluster, Pod, inside
from .process import BenchmarkError, Program, Sample
from .report import Result, ratio
from .sampling import Contender, Series, interleave

OUTSIDE = "203.0.113.25"
SIZES = (1, 10, 500)
PLAIN = "routed plainly"
_FIRST_PORT, _TARGET_PORT = 1000, 9000
_FLOWS, _PACKETS, _BYTES = 1000, 10_000, 64 << 20
_QUICK_FLOWS, _QUICK_PACKETS, _QUICK_BYTES = 50, 50, 1 << 20
_KEPT = 0.95
_TCP_PORT = 9001
_RATES = tuple(head for unit in ("flows/ms", "packets/ms", "Gbit/s") for head in (unit, "× plain", "× hand"))


@dataclass
class Way:
    """One way to the server.

    Attributes:
        to: the address that the client sends to.
        port: the UDP port that the client sends to; the last rule's.
        tcp_port: the same for TCP.
    """

    name: str
    pod: Pod
    to: str
    port: int
    tcp_port: int
    source_port: int = field(default=1024)


class Client:
    """Sends; knows the frame to send for each way."""

    def __init__(self, pod: Pod, server: Server) -> None:
        self.namespace = pod.namespace
        self.address = pod.previous["ips"][0]["address"].split("/")[0]
        self._server = server
        self._raw = pod.namespace.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self._raw.bind((NIC, 0))
        self._mac = _mac(pod, NIC)

    def flows(self, way: Way, count: int) -> Sample:
        """Open that many connections, a packet each."""
        frames = []
        mac = _mac(way.pod, NIC)  # asked of the kernel once, not for every frame
        for _ in range(count):
            way.source_port = way.source_port + 1 if way.source_port < 65535 else 1025
            frames.append(self._frame(way, mac, way.source_port))
        return self._send(way, frames)

    def packets(self, way: Way, count: int) -> Sample:
        """Send that many packets of one connection."""
        return self._send(way, [self._frame(way, _mac(way.pod, NIC), 1024)] * count)

    def transfer(self, way: Way, size: int) -> Sample:
        """Send that many bytes through one TCP connection."""
        with self.namespace.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as sock:
            sock.settimeout(10)
            sock.connect((way.to, way.tcp_port))
            with open(os.memfd_create("bytes"), "r+b") as file:
                file.truncate(size)
                start, cpu = time.perf_counter_ns(), time.process_time_ns()
                sock.sendfile(file)
                sock.shutdown(socket.SHUT_WR)
                received = struct.unpack("!Q", sock.recv(8, socket.MSG_WAITALL))[0]
                sample = _sample(start, cpu)
        if received != size:
            raise BenchmarkError(f"{way.name}: the server got {received} of {size} bytes")
        return sample

    def _send(self, way: Way, frames: list[bytes]) -> Sample:
        before = self._server.arrived()
        send = self._raw.send
        start, cpu = time.perf_counter_ns(), time.process_time_ns()
        for frame in frames:
            send(frame)
        sample = _sample(start, cpu)
        deadline = time.monotonic() + 5
        while (got := self._server.arrived() - before) < len(frames):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{way.name}: only {got} of {len(frames)} packets arrived")
            time.sleep(0.001)
        return sample

    def _frame(self, way: Way, mac: bytes, source_port: int) -> bytes:
        payload = struct.pack("!HHHH", source_port, way.port, 8, 0)  # no checksum (RFC 768)
        header = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0x4000, 64, socket.IPPROTO_UDP, 0)
        addresses = socket.inet_aton(self.address) + socket.inet_aton(way.to)
        header = header[:10] + struct.pack("!H", _checksum(header + addresses)) + addresses
        return mac + self._mac + b"\x08\x00" + header + payload


class Server:
    """Takes everything; packets are counted by the kernel, whether anybody reads them or not."""

    def __init__(self, cluster: Cluster) -> None:
        self._lan = cluster.lan
        self._stack = contextlib.ExitStack()
        for number in range(max(SIZES)):
            sock = self._stack.enter_context(cluster.lan.udp())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sock.bind((OUTSIDE, _TARGET_PORT + 10 + number))
        self._plain = self._stack.enter_context(cluster.lan.udp())
        self._plain.bind((OUTSIDE, _TARGET_PORT))
        self._listener = cluster.lan.run(lambda: socket.create_server((OUTSIDE, _TCP_PORT)))
        threading.Thread(target=self._serve, daemon=True).start()

    def arrived(self) -> int:
        """How many packets have come so far."""

        def read() -> int:
            with open("/proc/thread-self/net/snmp", encoding="ascii") as file:
                names, values = (line.split() for line in file if line.startswith("Ip:"))
            return int(values[names.index("InDelivers")])

        return self._lan.run(read)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
        self._stack.close()

    def _serve(self) -> None:
        buffer = bytearray(1 << 20)
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                total = 0
                while got := connection.recv_into(buffer):
                    total += got
                connection.sendall(struct.pack("!Q", total))


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def measure(options: argparse.Namespace, check: Callable[[], None]) -> Result:
    """Run it.

    Raises:
        BenchmarkError: something that was to be measured failed, or is missing.
    """
    flows, packets, size = (
        (_QUICK_FLOWS, _QUICK_PACKETS, _QUICK_BYTES) if options.quick else (_FLOWS, _PACKETS, _BYTES)
    )
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="macvlan-egress-bench-"))
        cluster = stack.enter_context(Cluster())
        cluster.lan.configure(
            "give the LAN's host another address",
            lambda ip: ip.addr("add", index=ip.link_lookup(ifname="br0")[0], address=OUTSIDE, prefixlen=32),
        )
        server = Server(cluster)
        stack.callback(server.close)
        client = Client(cluster.pod("client"), server)
        installation = Installation(directory)
        stack.enter_context(inside(cluster.node))
        ways = [_plain(cluster, installation, client)]
        ways += [_by_hand(cluster, installation, count) for count in SIZES]
        ways += [_redirect(cluster, installation, count) for count in SIZES]
        contenders = [
            Contender(f"{what} {way.name}", _take(act, way, amount))
            for what, act, amount in (
                ("flows", client.flows, flows),
                ("packets", client.packets, packets),
                ("bytes", client.transfer, size),
            )
            for way in ways
        ]
        adds = _adds(cluster, installation, directory)
        found = interleave([*contenders, *adds], max(2, options.rounds // 5), check)
    return _result(found, [way.name for way in ways], flows, packets, size)


def _take(act: Callable[[Way, int], Sample], way: Way, amount: int) -> Callable[[], Sample]:
    return lambda: act(way, amount)


def _plain(cluster: Cluster, installation: Installation, client: Client) -> Way:
    pod = cluster.pod("plain")
    source = "192.168.12.50"
    _attach(installation, pod, source)
    _lead_out(pod)
    cluster.lan.configure(
        "route the client's answers", lambda ip: ip.route("add", dst=f"{client.address}/32", gateway=source)
    )
    client.namespace.configure(
        "route to the server", lambda ip: ip.route("add", dst=f"{OUTSIDE}/32", gateway=_address(pod))
    )
    return Way(PLAIN, pod, OUTSIDE, _TARGET_PORT, _TCP_PORT)


def _by_hand(cluster: Cluster, installation: Installation, count: int) -> Way:
    pod = cluster.pod(f"hand{count}")
    source = f"192.168.12.{60 + SIZES.index(count)}"
    _attach(installation, pod, source)
    _lead_out(pod)
    elements = {
        protocol: ", ".join(f"{_FIRST_PORT + n} : {OUTSIDE} . {port(n)}" for n in range(count))
        for protocol, port in (("udp", _udp_port), ("tcp", lambda _: _TCP_PORT))
    }
    maps = "".join(
        f"map {protocol}ports {{ type inet_service : ipv4_addr . inet_service; elements = {{ {text} }} }}\n"
        for protocol, text in elements.items()
    )
    _run_nft(
        pod,
        f"""table ip byhand {{
            {maps}
            chain prerouting {{
                type nat hook prerouting priority dstnat
                iifname eth0 meta l4proto udp dnat ip addr . port to udp dport map @udpports
                iifname eth0 meta l4proto tcp dnat ip addr . port to tcp dport map @tcpports
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat
                oifname macvlan0 snat to {source}
            }}
            chain forward {{
                type filter hook forward priority filter; policy drop
                ct state established,related accept
                iifname eth0 oifname macvlan0 ct status dnat accept
            }}
        }}""",
    )
    return Way(f"nft by hand, {count} rules", pod, _address(pod), _FIRST_PORT + count - 1, _FIRST_PORT)


def _redirect(cluster: Cluster, installation: Installation, count: int) -> Way:
    pod = cluster.pod(f"redirect{count}")
    _attach(installation, pod, f"192.168.12.{70 + SIZES.index(count)}", _lines(count))
    return Way(f"redirect, {count} rules", pod, _address(pod), _FIRST_PORT + count - 1, _FIRST_PORT)


def _lines(count: int) -> str:
    """Destinations for UDP, and one for TCP beside them."""
    lines = [f"{_FIRST_PORT + n} udp {OUTSIDE} {_udp_port(n)}" for n in range(count)]
    return "\n".join([*lines, f"{_FIRST_PORT} tcp {OUTSIDE} {_TCP_PORT}"])


def _udp_port(number: int) -> int:
    return _TARGET_PORT + 10 + number


def _adds(cluster: Cluster, installation: Installation, directory: str) -> list[Contender]:
    """ADD by the number of rules, and nft -f with the same rules alone."""
    found = []
    for count in SIZES:
        pod = cluster.pod(f"add{count}")
        annotations = _annotations(f"192.168.12.{80 + SIZES.index(count)}", _lines(count))
        add, delete = (
            installation.call(verb, pod, annotations, conflictDetection="off") for verb in ("ADD", "DEL")
        )
        add.run()
        path = os.path.join(directory, f"{count}.nft")
        with open(path, "w", encoding="ascii") as file:
            file.write(pod.namespace.run(_ruleset))
        delete.run()
        found.append(Contender(f"add redirect, {count} rules", lambda add=add: add.run()[0]))  # type: ignore[misc]
        found.append(Contender("delete", lambda delete=delete: delete.run()[0]))  # type: ignore[misc]
        found.append(Contender(f"nft {count}", _nft_file(cluster.pod(f"nft{count}"), path)))
    return found


def _ruleset() -> str:
    with Nftables() as nftables:
        return nftables.listing()


def _nft_file(pod: Pod, path: str) -> Callable[[], Sample]:
    program = Program(("/usr/sbin/nft", "-f", path), {"PATH": "/usr/sbin:/usr/bin"})

    def take() -> Sample:
        with inside(pod.namespace):
            sample, _ = program.run()
        _run_nft(pod, "flush ruleset")
        return sample

    return take


def _attach(installation: Installation, pod: Pod, source: str, lines: str = "") -> None:
    installation.call("ADD", pod, _annotations(source, lines), conflictDetection="off").run()


def _annotations(source: str, lines: str) -> dict[str, str]:
    destination = {f"{keys.PREFIX}destination": lines} if lines else {}
    return {**calls.source(calls.Place(f"{source}/24")), **destination}


def _lead_out(pod: Pod) -> None:
    """What the plugin does for destinations, by hand."""
    for name in (NIC, "macvlan0"):
        pod.namespace.sysctl(f"net/ipv4/conf/{name}/forwarding", "1")
    pod.namespace.configure(
        "route to the server",
        lambda ip: ip.route(
            "add",
            dst=f"{OUTSIDE}/32",
            gateway=ROUTER,
            oif=ip.link_lookup(ifname="macvlan0")[0],
            flags=4,  # RTNH_F_ONLINK
        ),
    )


def _run_nft(pod: Pod, commands: str) -> None:
    def act() -> None:
        with Nftables() as nftables:
            nftables.run(commands, "install rules by hand")

    pod.namespace.run(act)


def _address(pod: Pod) -> str:
    return str(pod.previous["ips"][0]["address"]).split("/")[0]


def _mac(pod: Pod, interface: str) -> bytes:
    link = pod.namespace.facts().link(interface)
    assert link is not None
    return bytes.fromhex(link.mac.replace(":", ""))


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _sample(start: int, cpu: int) -> Sample:
    return Sample((time.perf_counter_ns() - start) / 1e6, (time.process_time_ns() - cpu) / 1e6)


def _result(found: dict[str, Series], names: list[str], flows: int, packets: int, size: int) -> Result:
    def rate(what: str, name: str, amount: float) -> float:
        return amount / found[f"{what} {name}"].median

    def row(name: str) -> tuple[str, ...]:
        hand = name.replace("redirect", "nft by hand")
        cells = [name]
        for what, amount, scale in (("flows", flows, 1.0), ("packets", packets, 1.0), ("bytes", size, 8e-6)):
            mine, base = rate(what, name, amount), rate(what, PLAIN, amount)
            cells.append(f"{mine * scale:.1f}")
            cells.append(ratio(mine, base))
            cells.append(ratio(mine, rate(what, hand, amount)) if hand != name else "")
        add = found.get(f"add {name}")
        cells.append(f"{add.median:.0f}" if add else "")
        nft = found.get(f"nft {name.split()[1]}") if add else None
        cells.append(f"{nft.median:.1f}" if nft else "")
        return tuple(cells)

    worst = min(
        rate(what, f"redirect, {count} rules", 1) / rate(what, f"nft by hand, {count} rules", 1)
        for what in ("flows", "packets", "bytes")
        for count in SIZES
    )
    kept = "Kept." if worst >= _KEPT else "Not kept."
    return Result(
        ("way", *_RATES, "ADD ms", "nft -f ms"),
        [row(name) for name in names],
        (
            f"Least of the redirect's rates beside the ruleset by hand: {worst:.2f}; promised: at least {_KEPT}. "
            f"{kept}",
            f"A sample is {flows} new connections, {packets} packets of one, or {size >> 20} MiB by TCP.",
            "ADD is a whole process with conflict detection off; nft -f is a process that loads the same rules.",
        ),
    )
