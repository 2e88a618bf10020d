"""dnsmasq on a node's loopback, and a way to run the plugin so that it reads of it in /etc/resolv.conf."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Self

from lab import Answer, Node, Pod, within

from .documents import Policies

START_SECONDS = 10
TTL_SECONDS = 600


class NameServer:
    """The node's name server; it knows the names that it is told and no other.

    Args:
        ttl: of every answer, in seconds.
    """

    def __init__(self, node: Node, ttl: int = TTL_SECONDS) -> None:
        self._node = node
        self._ttl = ttl
        self._hosts = Path(node.directory) / "names"
        self._hosts.write_text("")
        self._hosts.chmod(0o644)
        resolv_conf = Path(node.directory) / "resolv.conf"
        resolv_conf.write_text("nameserver 127.0.0.1\n")
        # For the child alone: a mount namespace of its own, with this file over the machine's.
        script = f'mount --bind {resolv_conf} /etc/resolv.conf; exec "$0" "$@"'
        self.wrapper = ("unshare", "--mount", "sh", "-ec", script)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve, from now on."""
        argv = [
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-daemon",
            "--user=root", "--listen-address=127.0.0.1", "--bind-interfaces", "--local=/example/",
            f"--local-ttl={self._ttl}", f"--addn-hosts={self._hosts}", "--pid-file=",
        ]  # fmt: skip
        self._process = within(
            self._node.path,
            lambda: subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
        )
        deadline = time.monotonic() + START_SECONDS
        with closing(self._node.socket(socket.AF_INET, socket.SOCK_STREAM)) as sock:
            while sock.connect_ex(("127.0.0.1", 53)):
                assert time.monotonic() < deadline, "dnsmasq does not start"
                time.sleep(0.01)

    def stop(self) -> None:
        """Be gone: who asks is refused."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def fall_silent(self) -> None:
        """Answer nobody, and refuse nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def tell(self, name: str, addresses: Sequence[str]) -> None:
        """Give a name these addresses in the place of those that it had."""
        others = [line for line in self._hosts.read_text().splitlines() if line.split()[1] != name]
        lines = [*others, *(f"{address} {name}" for address in addresses)]
        self._hosts.write_text("".join(f"{line}\n" for line in lines))
        if self._process is not None:
            self.stop()
            self.start()

    def add(self, policies: Policies, pod: Pod, annotations: dict[str, str] | None = None) -> Answer:
        """ADD on a node that asks here."""
        conf = {**policies.conf, "conflictTimeoutMs": 20}
        request = self._node.request(pod, annotations, conf=conf)
        answer = self._node.execute(
            {"CNI_COMMAND": "ADD", **request.environment}, request.stdin, wrapper=self.wrapper
        )
        if answer.status == 0:
            pod.requests["eth0"] = request
        return answer


def let_time_pass(node: Node) -> None:
    """All answers have expired."""
    path = os.path.join(node.run_dir, "policy/names.json")
    with open(path) as file:
        document = json.load(file)
    for one in document["answers"].values():
        one["expires"] = time.time() - 1
    with open(path, "w") as file:
        json.dump(document, file)
