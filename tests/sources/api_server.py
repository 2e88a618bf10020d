"""A small API server over TLS: it checks who asks, knows some pods, and can be made to misbehave."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from authority import Authority, Pair

TOKEN = "eyJhbGciOiJub25lIn0.tests.sEcReT"
USER = "system:serviceaccount:kube-system:macvlan-egress"
PODS = "/api/v1/namespaces/"
# So slowly that a whole answer takes many times as long as the tests let the plugin wait.
DRIP_SECONDS = 0.02


@dataclass(frozen=True)
class Request:
    """What came over a connection.

    Attributes:
        headers: by lower-case name.
        client: common name in the client's certificate, "" without one.
    """

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    client: str = ""


class ApiServer:
    """Serves on a listening socket until it is closed.

    Attributes:
        pods: objects by "NAMESPACE/NAME".
        users: common names of client certificates that are let in.
        requests: what was asked so far.
        connections: how many clients have come, with or without a request.
        answer: answers a request over its connection; may be replaced.
        greet: takes a new connection before TLS; may be replaced.
    """

    def __init__(self, listener: socket.socket, certificate: Pair, clients: Authority) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.users: set[str] = set()
        self.requests: list[Request] = []
        self.connections = 0
        self.answer: Callable[[ssl.SSLSocket, Request], None] = self.answer_truly
        self.greet: Callable[[socket.socket], None] = self.serve
        self.closed = threading.Event()
        self._listener = listener
        self._clients = clients
        self.use(certificate)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.port: int = listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def use(self, certificate: Pair, oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> None:
        """Show another certificate from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = oldest
        context.load_cert_chain(certificate.certificate, certificate.key)
        context.load_verify_locations(self._clients.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        self.tls = context

    def add_pod(
        self, namespace: str, name: str, uid: str, annotations: dict[str, str] | None = None, **metadata: Any
    ) -> None:
        found: dict[str, Any] = {"name": name, "namespace": namespace, "uid": uid, **metadata}
        if annotations is not None:
            found["annotations"] = annotations
        self.pods[f"{namespace}/{name}"] = {"kind": "Pod", "apiVersion": "v1", "metadata": found, "spec": {}}

    def close(self) -> None:
        """End every connection and thread."""
        self.closed.set()
        for sock in (self._listener, *self._open):
            with suppress(OSError):  # it may be closed already
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    # Answers

    def answer_truly(self, connection: ssl.SSLSocket, request: Request) -> None:
        """As a real one: credentials first, then the pod."""
        if request.headers.get("authorization") != f"Bearer {TOKEN}" and request.client not in self.users:
            self.send_status(connection, 401, "Unauthorized")
            return
        namespace, _, name = request.path.removeprefix(PODS).partition("/pods/")
        pod = self.pods.get(f"{namespace}/{name}")
        if request.method != "GET" or not request.path.startswith(PODS) or pod is None:
            self.send_status(connection, 404, f'pods "{name}" not found')
            return
        self.send(connection, 200, json.dumps(pod).encode())

    def send_status(self, connection: ssl.SSLSocket, status: int, message: str) -> None:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status}
        self.send(connection, status, json.dumps(body).encode())

    def send(self, connection: ssl.SSLSocket, status: int, body: bytes, *headers: str) -> None:
        connection.sendall(head(status, f"Content-Length: {len(body)}", *headers) + body)

    def always(self, status: int, body: bytes, *headers: str) -> None:
        """Give everybody the same answer from now on."""
        self.answer = lambda connection, _: self.send(connection, status, body, *headers)

    def always_status(self, status: int, message: str) -> None:
        self.answer = lambda connection, _: self.send_status(connection, status, message)

    def raw(self, data: bytes) -> None:
        """Give everybody some bytes, HTTP or not, and hang up."""
        self.answer = lambda connection, _: connection.sendall(data)

    def drip(self, sock: socket.socket, data: bytes) -> None:
        """Send byte by byte, for as long as somebody listens."""
        for position in range(len(data)):
            if self.closed.wait(DRIP_SECONDS):
                return
            sock.sendall(data[position : position + 1])

    @staticmethod
    def hold(sock: socket.socket) -> None:
        """Say nothing until the client hangs up."""
        while sock.recv(4096):
            pass

    # Connections

    def serve(self, plain: socket.socket) -> None:
        """One request over TLS."""
        with self.tls.wrap_socket(plain, server_side=True) as connection:
            self._open.add(connection)
            try:
                request = _read(connection)
                self.requests.append(request)
                self.answer(connection, request)
            finally:
                self._open.discard(connection)

    def serve_dripping(self, plain: socket.socket) -> None:
        """One request over TLS whose every byte to the client, the handshake's included, comes slowly."""
        inner, outer = socket.socketpair()
        threads = [
            threading.Thread(target=self._quietly, args=(self.serve, inner)),
            threading.Thread(target=self._quietly, args=(_pump, plain, outer)),
        ]
        for thread in threads:
            thread.start()
        try:
            while data := outer.recv(4096):
                self.drip(plain, data)
        finally:
            for sock in (plain, outer):
                sock.close()
            for thread in threads:
                thread.join()

    def _accept(self) -> None:
        while not self.closed.is_set():
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(plain)
            thread = threading.Thread(target=self._quietly, args=(self.greet, plain))
            self._threads.append(thread)
            thread.start()

    def _quietly(self, work: Callable[..., None], *sockets: socket.socket) -> None:
        """Work with sockets whose other end may hang up at any time."""
        try:
            with suppress(OSError):
                work(*sockets)
        finally:
            for sock in sockets:
                self._open.discard(sock)
                sock.close()


def head(status: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Text", *headers, "", ""]).encode()


def _read(connection: ssl.SSLSocket) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionResetError
        data += more
    first, *rest = data.decode().split("\r\n\r\n")[0].split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    subject = dict(pair for parts in (connection.getpeercert() or {}).get("subject", ()) for pair in parts)
    return Request(method, path, headers, str(subject.get("commonName", "")))


def _pump(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(4096):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)
