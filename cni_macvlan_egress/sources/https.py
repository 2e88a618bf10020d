"""GET requests to an API server: over verified TLS, each on a connection of its own, within a deadline.

Nothing is kept from question to question, HTTPS_PROXY is not used (it is meant for the runtime's image pulls), and
no redirect is followed. ssl, socket and http.client are imported only when there really is a server to ask. What
is asked for and what an answer means is known by the callers.
"""

from __future__ import annotations

import errno
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from .. import __version__
from ..model.complaints import show
from ..protocol.errors import TRY_AGAIN_LATER, CniError
from . import tls
from .kubeconfig import Access

if TYPE_CHECKING:
    import http.client
    import socket
    import ssl

_REASON_BYTES, _SHOWN_CHARACTERS = 64 * 1024, 300  # read and shown of what a server says about a refusal
_PIECE_BYTES = 64 * 1024
_OUT_OF_ORDER = "this is tried again by itself; if it stays, look at the API server and what stands before it"
# A peer that vanished from the network is noticed within a minute: seconds of silence, between probes, probes.
_KEEPALIVE = (30, 10, 3)


class Refused(CniError):
    """The server answered with a status other than 200.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, msg: str, details: str) -> None:
        super().__init__(TRY_AGAIN_LATER, msg, details)
        self.status = status


class TooLarge(CniError):
    """The answer, or one line of it, is larger than the caller takes."""


class Deadline:
    """A span of time that starts now.

    Args:
        seconds: its length.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that remain, never none: then it is a TimeoutError."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


class Interrupt:
    """Ends what other threads are waiting for, at once and for good."""

    def __init__(self) -> None:
        import threading

        self._called = threading.Event()
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], object]] = []

    @property
    def called(self) -> bool:
        return self._called.is_set()

    def call(self) -> None:
        """Wake everybody, and let nobody wait from now on."""
        self._called.set()
        with self._lock:
            for wake in self._wakers:
                with suppress(OSError):  # a socket that is not connected yet, or not any more
                    wake()

    def sleep(self, seconds: float) -> None:
        self._called.wait(seconds)

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """For the time of a block, call `wake` if interrupted; also if that was before."""
        with self._lock:
            self._wakers.append(wake)
            if self.called:
                with suppress(OSError):
                    wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)


class Server:
    """An API server as one user sees it.

    Args:
        access: where it is, and the credentials.
        interrupt: ends waiting questions from another thread.
    """

    def __init__(self, access: Access, interrupt: Interrupt | None = None) -> None:
        self.access = access
        self.interrupt = interrupt
        self._context: ssl.SSLContext | None = None

    @property
    def context(self) -> ssl.SSLContext:
        """TLS for it; INVALID_CONFIGURATION if the certificates are none."""
        if self._context is None:
            self._context = tls.context(self.access)
        return self._context


class Question:
    """One GET, and the words for whatever goes wrong with it.

    Args:
        server: who is asked.
        subject: what for, as errors name it.
        path: with its query, without what the server has before its own paths.
        refusals: by status, what it means and what to do, where the subject makes that plain.
        accept: media types.
    """

    def __init__(
        self,
        server: Server,
        subject: str,
        path: str,
        refusals: Mapping[int, tuple[str, str]],
        accept: str = "application/json",
    ) -> None:
        self._server = server
        self._access = server.access
        self._subject = subject
        self._path = path
        self._refusals = refusals
        self._accept = accept
        self._deadline = Deadline(0)
        self._doing = ""

    def ask(self, deadline: Deadline, most: int) -> bytes:
        """The body of the answer, of at most so many bytes.

        Raises:
            CniError: Refused, TooLarge or another TRY_AGAIN_LATER; INVALID_CONFIGURATION or IO_FAILURE if the
                certificates of the access cannot be used.
        """
        with self.opened(deadline) as response, self._explained():
            self._doing = "reading the answer"
            body = response.read(most + 1)
        if len(body) > most:
            raise self._too_large("the answer", most)
        return body

    @contextmanager
    def opened(self, deadline: Deadline, lasting: bool = False) -> Iterator[http.client.HTTPResponse]:
        """An answer of status 200, its body still to be read.

        Args:
            deadline: for its beginning.
            lasting: notice it if the server vanishes while it has nothing to say.

        Raises:
            CniError: as ask().
        """
        import http.client

        self._deadline = deadline
        context = self._server.context
        with ExitStack() as stack:
            with self._explained():
                connection = self._secure(stack.enter_context(self._connect()), context)
                stack.enter_context(connection)
                stack.enter_context(self._interruptible(connection))
                if lasting:
                    _keep_alive(connection)
                self._send(connection)
                self._doing = "waiting for the answer"
                incoming = _Incoming(connection, self._left)
                response = http.client.HTTPResponse(cast("socket.socket", incoming), method="GET")
                response.begin()
                if response.status != 200:
                    raise self._refused(response)
            yield response

    def lines(
        self, response: http.client.HTTPResponse, deadline: Deadline, most: int
    ) -> Iterator[list[bytes]]:
        """The lines of an opened answer as they come, some at a time, each of at most so many bytes.

        Raises:
            CniError: as ask(); also for an end in the middle of a line.
        """
        import http.client

        self._deadline = deadline
        self._doing = "reading the answer"
        rest = bytearray()
        while True:
            with self._explained():
                try:
                    piece = response.read1(_PIECE_BYTES)
                except http.client.IncompleteRead:
                    raise self.error("the connection was cut off", _OUT_OF_ORDER) from None
            if not piece:
                break
            searched = len(rest)
            rest += piece
            last = rest.rfind(b"\n", searched)
            if last >= 0:
                found = bytes(rest[:last]).split(b"\n")
                del rest[: last + 1]
                yield found
            if len(rest) > most:
                raise self._too_large("a line of the answer", most)
        if rest:
            raise self.error("the answer ends in the middle of a line", _OUT_OF_ORDER)

    def error(self, what: str, cure: str, details: str = "") -> CniError:
        return CniError(TRY_AGAIN_LATER, self._sentence(what, cure), details)

    def garbage(self, expected: str, what: str, body: bytes) -> CniError:
        """The error for an answer that is not what was asked for."""
        return self.error(f"the answer is not {expected}: {what}", self._check_server, _words(body))

    @property
    def _check_server(self) -> str:
        client = ", and that it knows the client certificate" if self._access.certificate else ""
        return f"check that {self._access.named_by} leads to the API server{client}"

    def _sentence(self, what: str, cure: str) -> str:
        return f"cannot get {self._subject} from the API server {self._access.url}: {what}; {cure}"

    def _too_large(self, what: str, most: int) -> TooLarge:
        return TooLarge(
            TRY_AGAIN_LATER, self._sentence(f"{what} is larger than {most >> 20} MiB", self._check_server)
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of sockets, TLS and HTTP become the project's own."""
        import http.client

        try:
            yield
        except http.client.HTTPException as error:
            raise self.error(
                f"the answer is cut off or not HTTP ({type(error).__name__})", self._check_server
            ) from None
        except OSError as error:
            raise self._unreachable(error) from None

    def _refused(self, response: http.client.HTTPResponse) -> Refused:
        """The error for a status other than 200."""
        import http.client

        status, origin = response.status, self._access.origin
        if status in self._refusals:
            what, cure = self._refusals[status]
        elif 300 <= status < 400:
            what = f"it redirects to {show(response.getheader('Location'))}"
            cure = f"credentials are not carried there; correct {self._access.named_by}"
        elif status == 401:
            what = "it does not accept the credentials"
            cure = f"the token or client certificate of {origin} expired or is for another cluster; renew it"
        elif status == 429 or status >= 500:
            what = "it is overloaded or out of order"
            cure = _OUT_OF_ORDER
        else:
            what, cure = "it does not answer the question", self._check_server
        try:
            said = _words(response.read(_REASON_BYTES))
        except (OSError, http.client.HTTPException):
            said = ""  # the status says enough
        return Refused(status, self._sentence(f"{what} (status {status})", cure), said)

    def _unreachable(self, error: OSError) -> CniError:
        """The error for what happened before there was a whole answer."""
        import socket
        import ssl

        if isinstance(error, ssl.SSLCertVerificationError):
            what = f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
            return self.error(what, tls.certificate_cure(self._access, error.verify_code))
        if isinstance(error, ssl.SSLError):
            what = f"TLS failed while {self._doing}: {error.reason or 'the connection was cut off'}"
            return self.error(what, self._check_server)
        if isinstance(error, TimeoutError):
            what = f"no answer within {self._deadline.seconds:g} s, which ended while {self._doing}"
            return self.error(what, "it is overloaded, or a firewall or missing route keeps the node from it")
        if isinstance(error, socket.gaierror):
            return self.error(f"its name cannot be resolved: {error.strerror}", self._check_server)
        what = f"{error.strerror or type(error).__name__} while {self._doing}"
        return self.error(what, f"if it is up, {self._check_server}")

    def _left(self) -> float:
        if self._server.interrupt is not None and self._server.interrupt.called:
            raise ConnectionAbortedError
        return self._deadline.left()

    @contextmanager
    def _interruptible(self, connection: socket.socket) -> Iterator[None]:
        """Whoever waits for a connection is woken by its shutdown."""
        import socket

        if self._server.interrupt is None:
            yield
            return
        # Not SSLSocket.shutdown(), which takes TLS away from under the thread that reads.
        with self._server.interrupt.waking(lambda: socket.socket.shutdown(connection, socket.SHUT_RDWR)):
            yield

    def _connect(self) -> socket.socket:
        import socket

        addresses = self._resolve()
        self._doing = "connecting"
        failure = OSError()
        for position, (family, kind, protocol, _, address) in enumerate(addresses):
            connection = None
            try:
                connection = socket.socket(family, kind, protocol)
                connection.settimeout(self._left() / (len(addresses) - position))
                with self._interruptible(connection):
                    connection.connect(address)
            except OSError as error:
                failure = error
                if connection is not None:
                    connection.close()
            else:
                return connection
        raise failure

    def _resolve(self) -> list[Any]:
        """The server's addresses; a name is looked up by a thread, because getaddrinfo() knows no timeout."""
        import socket

        host, port = self._access.host, self._access.port
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            self._doing = f"resolving {host}"
        import threading

        found: list[Any] = []
        failed: list[OSError] = []
        done = threading.Event()

        def look_up() -> None:
            try:
                found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except OSError as error:
                failed.append(error)
            done.set()

        try:
            threading.Thread(target=look_up, daemon=True).start()
        except RuntimeError:
            raise OSError(errno.EAGAIN, "no more threads can be had") from None
        with ExitStack() as stack:
            if self._server.interrupt is not None:
                stack.enter_context(self._server.interrupt.waking(done.set))
            done.wait(self._left())
        if failed:
            raise failed[0]
        if not found:
            raise TimeoutError
        return found

    def _secure(self, plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        self._doing = "agreeing on TLS"
        connection = context.wrap_socket(
            plain, server_hostname=self._access.server_name, do_handshake_on_connect=False
        )
        try:
            with self._interruptible(connection):
                connection.settimeout(self._left())
                connection.do_handshake()
        except BaseException:
            connection.close()
            raise
        return connection

    def _send(self, connection: ssl.SSLSocket) -> None:
        self._doing = "sending the request"
        lines = [
            f"GET {self._access.path}{self._path} HTTP/1.1",
            f"Host: {self._access.authority}",
            f"User-Agent: macvlan-egress/{__version__}",
            f"Accept: {self._accept}",
            "Accept-Encoding: identity",
            "Connection: close",
        ]
        if self._access.token:
            lines.append(f"Authorization: Bearer {self._access.token}")
        data = "\r\n".join([*lines, "", ""]).encode("ascii")
        while data:
            connection.settimeout(self._left())
            data = data[connection.send(data) :]


class _Incoming(io.RawIOBase):
    """What a connection brings, as http.client wants it; a read may take what is left of the whole time."""

    def __init__(self, connection: ssl.SSLSocket, left: Callable[[], float]) -> None:
        super().__init__()
        self._connection = connection
        self._left = left

    def makefile(self, _mode: str) -> io.BufferedReader:
        return _Buffered(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # as in typeshed, WriteableBuffer
        self._connection.settimeout(self._left())
        return self._connection.recv_into(buffer)


class _Buffered(io.BufferedReader):
    """Nobody here asks for all there is, but http.client does on behalf of a chunk whose size is negative."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            import http.client

            raise http.client.IncompleteRead(b"")
        return super().read(size)


def _keep_alive(connection: socket.socket) -> None:
    """Let the kernel probe a silent peer."""
    import socket

    idle, interval, probes = _KEEPALIVE
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)


def _words(body: bytes) -> str:
    """What a server said, on one line: the message of a Status object, or the beginning of whatever it sent."""
    try:
        said = json.loads(body)["message"]
    except (ValueError, RecursionError, LookupError, TypeError):
        said = None
    if not isinstance(said, str):
        said = body[:_SHOWN_CHARACTERS].decode(errors="replace")
    return "".join(one if one.isprintable() else " " for one in said[:_SHOWN_CHARACTERS]).strip()
