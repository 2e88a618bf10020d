"""The pod's annotations from the Kubernetes API: one GET over TLS, within one deadline.

No answer may pass for "no annotations": everything but a good one is an error. Nothing is kept from call to call,
HTTPS_PROXY is not used (it is meant for the runtime's image pulls), and no redirect is followed. ssl, socket and
http.client are imported only when there really is a server to ask.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from .. import __version__
from ..model.complaints import show
from ..protocol.errors import (
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    IO_FAILURE,
    TRY_AGAIN_LATER,
    CniError,
)
from .kubeconfig import Access, Pem, from_file, from_service_account, in_cluster

if TYPE_CHECKING:
    import http.client
    import socket
    import ssl

# A pod's start waits for the answer, and the kubelet waits two minutes for the whole sandbox.
DEADLINE_SECONDS = 5.0
# etcd refuses objects over 1.5 MiB, which JSON may make some times larger.
MAX_ANSWER_BYTES = 8 * 1024 * 1024

_REASON_BYTES, _SHOWN_CHARACTERS = 64 * 1024, 300  # read and shown of what a server says about a refusal
# The metadata alone, which every server since 1.15 can give; else the whole pod.
_ACCEPT = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"
_KINDS = ("Pod", "PartialObjectMetadata")
# The API server knows a static pod by a mirror with another UID; here the kubelet notes the one it has itself.
_MIRROR = "kubernetes.io/config.mirror"
_LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_NAMESPACE_MAX, _NAME_MAX = 63, 253
# X509_V_ERR_… in OpenSSL's x509_vfy.h: not yet valid, expired; name or address mismatch.
_WRONG_TIME, _WRONG_NAME = (9, 10), (62, 64)


def configured(kubeconfig: str | None) -> bool:
    """Whether there is an API server to ask."""
    return kubeconfig is not None or in_cluster(os.environ)


def fetch_for(args: Mapping[str, str], kubeconfig: str | None) -> Mapping[str, Any]:
    """The annotations of the pod that CNI_ARGS names; see fetch_annotations()."""
    return fetch_annotations(
        kubeconfig, args["K8S_POD_NAMESPACE"], args["K8S_POD_NAME"], args.get("K8S_POD_UID", "")
    )


def fetch_annotations(kubeconfig: str | None, namespace: str, name: str, uid: str) -> Mapping[str, Any]:
    """The annotations that the API server has for a pod; {} if it has none.

    Args:
        kubeconfig: path of a kubeconfig; None for the service account of the pod this runs in.
        namespace: K8S_POD_NAMESPACE.
        name: K8S_POD_NAME.
        uid: K8S_POD_UID; "" where the runtime does not tell.

    Raises:
        CniError: TRY_AGAIN_LATER if the server cannot be reached, refuses or has no such pod;
            INVALID_ENVIRONMENT, INVALID_CONFIGURATION or IO_FAILURE if it cannot even be asked.
    """
    _check_names(namespace, name)
    access = from_file(kubeconfig) if kubeconfig is not None else from_service_account(os.environ)
    question = _Question(access, namespace, name)
    return question.annotations(question.ask(), uid)


class _Question:
    """One GET of one pod, and the words for whatever goes wrong with it."""

    def __init__(self, access: Access, namespace: str, name: str) -> None:
        self._access = access
        self._namespace = namespace
        self._name = name
        self._end = time.monotonic() + DEADLINE_SECONDS
        self._doing = ""

    def ask(self) -> bytes:
        """The body of the answer."""
        import http.client

        context = _tls(self._access)
        try:
            with self._connect() as plain, self._secure(plain, context) as connection:
                self._send(connection)
                self._doing = "waiting for the answer"
                incoming = _Incoming(connection, self._left)
                response = http.client.HTTPResponse(cast("socket.socket", incoming), method="GET")
                response.begin()
                if response.status != 200:
                    raise self._refused(response)
                self._doing = "reading the answer"
                body = response.read(MAX_ANSWER_BYTES + 1)
        except http.client.HTTPException as error:
            raise self._error(
                f"the answer is cut off or not HTTP ({type(error).__name__})", self._check_server
            ) from None
        except OSError as error:
            raise self._unreachable(error) from None
        if len(body) > MAX_ANSWER_BYTES:
            raise self._error(f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB", self._check_server)
        return body

    def annotations(self, body: bytes, uid: str) -> Mapping[str, Any]:
        """The annotations in a body, once it is clear that it is the pod's."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise self._garbage("it is not JSON", body) from None
        if not isinstance(answer, dict) or answer.get("kind") not in _KINDS:
            raise self._garbage("it is no object of kind Pod", body)
        metadata = answer.get("metadata")
        if not isinstance(metadata, dict):
            raise self._garbage("it has no metadata", body)
        for key, asked in (("namespace", self._namespace), ("name", self._name)):
            if metadata.get(key, asked) != asked:
                raise self._garbage(f"its {key} is {show(metadata[key])}", body)
        found = metadata.get("annotations")
        annotations = {} if found is None else found
        if not isinstance(annotations, dict) or not all(isinstance(one, str) for one in annotations.values()):
            raise self._garbage("its annotations are not strings", body)
        if uid and uid not in (metadata.get("uid"), annotations.get(_MIRROR)):
            raise self._error(
                f"it has a pod of that name with UID {show(metadata.get('uid'))}, not {show(uid)}",
                "the pod was replaced; the runtime tries again if this one is still wanted",
            )
        return annotations

    @property
    def _check_server(self) -> str:
        client = ", and that it knows the client certificate" if self._access.certificate else ""
        return f"check that {self._access.named_by} leads to the API server{client}"

    def _error(self, what: str, cure: str, details: str = "") -> CniError:
        return CniError(
            TRY_AGAIN_LATER,
            f"cannot get the annotations of pod {self._namespace}/{self._name} from the API server "
            f"{self._access.url}: {what}; {cure}",
            details,
        )

    def _garbage(self, what: str, body: bytes) -> CniError:
        return self._error(f"the answer is not the pod: {what}", self._check_server, _words(body))

    def _refused(self, response: http.client.HTTPResponse) -> CniError:
        """The error for a status other than 200."""
        import http.client

        status, origin = response.status, self._access.origin
        if 300 <= status < 400:
            what = f"it redirects to {show(response.getheader('Location'))}"
            cure = f"credentials are not carried there; correct {self._access.named_by}"
        elif status == 401:
            what = "it does not accept the credentials"
            cure = f"the token or client certificate of {origin} expired or is for another cluster; renew it"
        elif status == 403:
            what = "it does not let the plugin read the pod"
            cure = f"give the user of {origin} the verb 'get' on 'pods' by a ClusterRole and a ClusterRoleBinding"
        elif status == 404:
            what = "it has no such pod"
            cure = f"the pod was deleted meanwhile, or {origin} leads to another cluster"
        elif status == 429 or status >= 500:
            what = "it is overloaded or out of order"
            cure = "the runtime tries again; if it stays, look at the API server and what stands before it"
        else:
            what, cure = "it does not answer the question", self._check_server
        try:
            said = _words(response.read(_REASON_BYTES))
        except (OSError, http.client.HTTPException):
            said = ""  # the status says enough
        return self._error(f"{what} (status {status})", cure, said)

    def _unreachable(self, error: OSError) -> CniError:
        """The error for what happened before there was an answer."""
        import socket
        import ssl

        if isinstance(error, ssl.SSLCertVerificationError):
            what = f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
            return self._error(what, _certificate_cure(self._access, error.verify_code))
        if isinstance(error, ssl.SSLError):
            what = f"TLS failed while {self._doing}: {error.reason or 'the connection was cut off'}"
            return self._error(what, self._check_server)
        if isinstance(error, TimeoutError):
            what = f"no answer within {DEADLINE_SECONDS:g} s, which ended while {self._doing}"
            return self._error(
                what, "it is overloaded, or a firewall or missing route keeps the node from it"
            )
        if isinstance(error, socket.gaierror):
            return self._error(f"its name cannot be resolved: {error.strerror}", self._check_server)
        what = f"{error.strerror or type(error).__name__} while {self._doing}"
        return self._error(what, f"if it is up, {self._check_server}")

    def _left(self) -> float:
        """Seconds that remain, never none."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

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
        import threading

        host, port = self._access.host, self._access.port
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            self._doing = f"resolving {host}"
        found: list[Any] = []
        failed: list[OSError] = []

        def look_up() -> None:
            try:
                found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=look_up, daemon=True)
        thread.start()
        thread.join(self._left())
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
            connection.settimeout(self._left())
            connection.do_handshake()
        except BaseException:
            connection.close()
            raise
        return connection

    def _send(self, connection: ssl.SSLSocket) -> None:
        self._doing = "sending the request"
        lines = [
            f"GET {self._access.path}/api/v1/namespaces/{self._namespace}/pods/{self._name} HTTP/1.1",
            f"Host: {self._access.authority}",
            f"User-Agent: macvlan-egress/{__version__}",
            f"Accept: {_ACCEPT}",
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
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # as in typeshed, WriteableBuffer
        self._connection.settimeout(self._left())
        return self._connection.recv_into(buffer)


def _tls(access: Access) -> ssl.SSLContext:
    """TLS as client-go would have it, always verified."""
    import ssl

    # Not create_default_context(), which writes the session's keys to where SSLKEYLOGFILE says.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if access.authorities is None:
        context.load_default_certs()
    else:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as Go trusts an intermediate that is listed
        try:
            context.load_verify_locations(cadata=access.authorities.data.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError):
            raise CniError(
                INVALID_CONFIGURATION, f"{access.authorities.where}: a certificate in PEM is expected"
            ) from None
    if access.certificate is not None and access.key is not None:
        _load_client(context, access.certificate, access.key)
    return context


def _load_client(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    import ssl

    def no_password() -> str:  # without this, OpenSSL asks the terminal
        raise CniError(
            INVALID_CONFIGURATION, f"{key.where}: the key is encrypted; store it without pass phrase"
        )

    try:
        with _file_in_memory(certificate) as certificate_path, _file_in_memory(key) as key_path:
            context.load_cert_chain(certificate_path, key_path, no_password)
    except ssl.SSLError as error:
        raise CniError(
            INVALID_CONFIGURATION,
            f"{certificate.where} and {key.where}: a certificate and its key in PEM are expected",
            str(error.reason or ""),
        ) from None
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot load the client certificate: {error.strerror}") from None


@contextmanager
def _file_in_memory(pem: Pem) -> Iterator[str]:
    """A path for some data: OpenSSL reads keys from files only, and one on disk would outlive a killed call."""
    with os.fdopen(os.memfd_create("macvlan-egress"), "wb") as file:
        file.write(pem.data)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _certificate_cure(access: Access, code: int) -> str:
    """What to do about a certificate that OpenSSL refused."""
    if code in _WRONG_TIME:
        return "renew the server's certificate, or set the node's clock"
    if code in _WRONG_NAME:
        return f"correct {access.named_by}, or set 'tls-server-name' to a name in the certificate"
    trusted = access.authorities.where if access.authorities else "the system's certificate authorities"
    return f"it is not signed by {trusted}; the cluster's CA certificate belongs there"


def _words(body: bytes) -> str:
    """What a server said, on one line: the message of a Status object, or the beginning of whatever it sent."""
    try:
        said = json.loads(body)["message"]
    except (ValueError, RecursionError, LookupError, TypeError):
        said = None
    if not isinstance(said, str):
        said = body[:_SHOWN_CHARACTERS].decode(errors="replace")
    return "".join(one if one.isprintable() else " " for one in said[:_SHOWN_CHARACTERS]).strip()


def _check_names(namespace: str, name: str) -> None:
    """The names become part of a path: nothing but what Kubernetes itself allows (RFC 1123 labels)."""
    characters = "lower-case letters, digits and '-'"
    if len(namespace) > _NAMESPACE_MAX or not _is_label(namespace):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_ARGS: K8S_POD_NAMESPACE: {show(namespace)}: at most {_NAMESPACE_MAX} {characters} are expected, "
            "the first and last no '-'",
        )
    if len(name) > _NAME_MAX or not all(map(_is_label, name.split("."))):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_ARGS: K8S_POD_NAME: {show(name)}: at most {_NAME_MAX} {characters} are expected, or such parts "
            "joined by '.', the first and last of a part no '-'",
        )


def _is_label(text: str) -> bool:
    return text != "" and _LABEL_CHARACTERS.issuperset(text) and "-" not in (text[0], text[-1])
