"""What becomes of the question for a pod's annotations, over real TLS to a server on the loopback interface."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from api_server import PODS, TOKEN, USER, ApiServer, head
from authority import Authority, data, openssl
from kubeconfigs import Kubeconfig

from cni_macvlan_egress.protocol.errors import CniError
from cni_macvlan_egress.sources import kubernetes

NAMESPACE, NAME, UID = "shop", "router-7d4f.0", "5a0f4e7e-0c61-4f7e-9d3b-0f6f1f0a7a11"
ANNOTATIONS = {"macvlan-egress/source": "192.168.12.99/24", "other.example/ümlaut": "\u2603 x"}
INVALID_ENVIRONMENT, IO_FAILURE, INVALID_CONFIGURATION, TRY_AGAIN_LATER = 4, 5, 7, 11


@pytest.fixture(autouse=True)
def pod(api: ApiServer) -> None:
    api.add_pod(NAMESPACE, NAME, UID, ANNOTATIONS)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than the test servers take who answer too slowly."""
    monkeypatch.setattr(kubernetes, "DEADLINE_SECONDS", 0.4)


def fetch(kubeconfig: Kubeconfig, uid: str = UID, namespace: str = NAMESPACE, name: str = NAME) -> Any:
    return kubernetes.fetch_annotations(kubeconfig.write(), namespace, name, uid)


def refused(kubeconfig: Kubeconfig, *words: str, code: int = TRY_AGAIN_LATER, uid: str = UID) -> str:
    with pytest.raises(CniError) as caught:
        fetch(kubeconfig, uid)
    text = str(caught.value)
    assert caught.value.code == code, text
    assert "\n" not in text
    assert TOKEN not in text
    for word in words:
        assert word in text, f"{word!r} is missing in: {text}"
    if code == TRY_AGAIN_LATER:
        assert f"{NAMESPACE}/{NAME}" in text
        assert str(kubeconfig.cluster["server"]) in text
    return text


# Good answers


def test_annotations_of_a_pod(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    assert fetch(kubeconfig) == ANNOTATIONS
    (request,) = api.requests
    assert (request.method, request.path) == ("GET", f"{PODS}{NAMESPACE}/pods/{NAME}")
    assert request.headers["host"] == f"127.0.0.1:{api.port}"


def test_pod_without_annotations_has_none(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    api.add_pod(NAMESPACE, NAME, UID)
    assert fetch(kubeconfig) == {}
    api.pods[f"{NAMESPACE}/{NAME}"]["metadata"]["annotations"] = None
    assert fetch(kubeconfig) == {}


def test_metadata_alone_is_asked_for_and_understood(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    api.pods[f"{NAMESPACE}/{NAME}"]["kind"] = "PartialObjectMetadata"
    assert fetch(kubeconfig) == ANNOTATIONS
    accepted = [one.strip() for one in api.requests[0].headers["accept"].split(",")]
    assert accepted[0] == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    assert accepted[-1] == "application/json"


def test_chunked_answer(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    body = json.dumps(api.pods[f"{NAMESPACE}/{NAME}"]).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:100], body[100:]))
    api.raw(head(200, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")
    assert fetch(kubeconfig) == ANNOTATIONS


def test_answer_that_ends_with_the_connection(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    api.raw(head(200) + json.dumps(api.pods[f"{NAMESPACE}/{NAME}"]).encode())
    assert fetch(kubeconfig) == ANNOTATIONS


def test_large_annotations_are_read_whole(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    many = {f"example/{number}": "x" * 1000 for number in range(250)}  # 256 KiB is what Kubernetes allows
    api.add_pod(NAMESPACE, NAME, UID, many, managedFields=[{"manager": "y" * 1_000_000}])
    assert fetch(kubeconfig) == many


def test_servers_own_path_comes_first(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    kubeconfig.cluster["server"] = f"{api.url}/k8s/clusters/c-1/"
    with pytest.raises(CniError):
        fetch(kubeconfig)
    assert api.requests[0].path == f"/k8s/clusters/c-1{PODS}{NAMESPACE}/pods/{NAME}"


def test_nothing_is_kept_from_call_to_call(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    fetch(kubeconfig)
    api.add_pod(NAMESPACE, NAME, UID, {"now": "other"})
    assert fetch(kubeconfig) == {"now": "other"}


# Which pod


def test_pod_of_another_uid_is_refused(kubeconfig: Kubeconfig) -> None:
    refused(kubeconfig, UID, "5b0", "replaced", uid="5b0")


def test_uid_does_not_matter_where_the_runtime_tells_none(kubeconfig: Kubeconfig) -> None:
    assert fetch(kubeconfig, uid="") == ANNOTATIONS


def test_pod_without_uid_is_not_taken_for_the_one(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    del api.pods[f"{NAMESPACE}/{NAME}"]["metadata"]["uid"]
    refused(kubeconfig, UID)


def test_static_pod_is_known_by_its_mirrors_annotation(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    mirror = {"kubernetes.io/config.mirror": "4c1d0b7a"}
    api.add_pod(NAMESPACE, NAME, UID, mirror)
    assert fetch(kubeconfig, uid="4c1d0b7a") == mirror
    refused(kubeconfig, "4c1d0b7b", uid="4c1d0b7b")


@pytest.mark.parametrize("key", ["name", "namespace"])
def test_answer_about_another_pod_is_refused(kubeconfig: Kubeconfig, api: ApiServer, key: str) -> None:
    api.pods[f"{NAMESPACE}/{NAME}"]["metadata"][key] = "another"
    refused(kubeconfig, key, "another")


@pytest.mark.parametrize(
    ("namespace", "name", "words"),
    [
        ("shop/pods/x?", NAME, ["K8S_POD_NAMESPACE", "shop/pods/x?"]),
        ("..", NAME, ["K8S_POD_NAMESPACE"]),
        ("", NAME, ["K8S_POD_NAMESPACE"]),
        ("Shop", NAME, ["K8S_POD_NAMESPACE"]),
        ("-shop", NAME, ["K8S_POD_NAMESPACE"]),
        ("a" * 64, NAME, ["K8S_POD_NAMESPACE", "63"]),
        ("shop", "../../secrets", ["K8S_POD_NAME", "../../secrets"]),
        ("shop", "x%2f..", ["K8S_POD_NAME"]),
        ("shop", "x y", ["K8S_POD_NAME"]),
        ("shop", "x\r\nHost: evil", ["K8S_POD_NAME"]),
        ("shop", "x#", ["K8S_POD_NAME"]),
        ("shop", ".", ["K8S_POD_NAME"]),
        ("shop", "a..b", ["K8S_POD_NAME"]),
        ("shop", "a.-b", ["K8S_POD_NAME"]),
        ("shop", "a-", ["K8S_POD_NAME"]),
        ("shop", "ä", ["K8S_POD_NAME"]),
        ("shop", "a\udc80", ["K8S_POD_NAME"]),
        ("shop", "a" * 254, ["K8S_POD_NAME", "253"]),
    ],
)
def test_name_that_is_none_is_refused_without_a_question(
    kubeconfig: Kubeconfig, api: ApiServer, namespace: str, name: str, words: list[str]
) -> None:
    with pytest.raises(CniError) as caught:
        fetch(kubeconfig, namespace=namespace, name=name)
    assert caught.value.code == INVALID_ENVIRONMENT
    assert "\n" not in caught.value.msg
    for word in words:
        assert word in caught.value.msg
    assert api.connections == 0


def test_longest_names_are_allowed(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    api.add_pod("a" * 63, "b" * 253, UID, ANNOTATIONS)
    assert fetch(kubeconfig, namespace="a" * 63, name="b" * 253) == ANNOTATIONS


# Credentials


def test_token_opens_the_door(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    fetch(kubeconfig)
    assert api.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    kubeconfig.user["token"] = "another"
    refused(kubeconfig, "401", "expired", str(kubeconfig.write()))


def test_token_file_is_read_every_time(kubeconfig: Kubeconfig) -> None:
    file = kubeconfig.file("token", f"{TOKEN}\n")
    kubeconfig.user.update(token="stale", tokenFile=str(file))
    assert fetch(kubeconfig) == ANNOTATIONS
    file.write_text("another")
    refused(kubeconfig, "401")


@pytest.mark.parametrize("form", ["files", "data", "one file"])
def test_client_certificate_opens_the_door(
    kubeconfig: Kubeconfig, api: ApiServer, authority: Authority, tmp_path: Path, form: str
) -> None:
    client = authority.client(USER)
    kubeconfig.user.clear()
    if form == "files":
        kubeconfig.user.update({"client-certificate": client.certificate, "client-key": client.key})
    elif form == "data":
        kubeconfig.user.update(
            {"client-certificate-data": data(client.certificate), "client-key-data": data(client.key)}
        )
    else:
        both = client.in_one_file(tmp_path / "kubelet-client-current.pem")
        kubeconfig.user.update({"client-certificate": both, "client-key": both})
    refused(kubeconfig, "401")
    api.users.add(USER)
    assert fetch(kubeconfig) == ANNOTATIONS
    assert api.requests[-1].client == USER
    assert "authorization" not in api.requests[-1].headers


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificate_of_strangers_is_not_let_in(
    kubeconfig: Kubeconfig, api: ApiServer, strangers: Authority, newest: ssl.TLSVersion
) -> None:
    api.tls.maximum_version = newest
    client = strangers.client(USER)
    kubeconfig.user.update({"client-certificate": client.certificate, "client-key": client.key})
    refused(kubeconfig, "client certificate")
    assert not api.requests


def test_key_of_another_certificate_is_refused(
    kubeconfig: Kubeconfig, api: ApiServer, authority: Authority
) -> None:
    one, another = authority.client(USER), authority.client("another")
    kubeconfig.user.update({"client-certificate": one.certificate, "client-key": another.key})
    refused(kubeconfig, "client-certificate", one.certificate, another.key, code=INVALID_CONFIGURATION)
    assert api.connections == 0


def test_encrypted_key_is_refused_without_asking_the_terminal(
    kubeconfig: Kubeconfig, authority: Authority, tmp_path: Path
) -> None:
    client = authority.client(USER)
    locked = str(tmp_path / "locked.key")
    openssl("pkcs8", "-topk8", "-in", client.key, "-out", locked, "-passout", "pass:word")
    kubeconfig.user.update({"client-certificate": client.certificate, "client-key": locked})
    refused(kubeconfig, "client-key", locked, "encrypted", code=INVALID_CONFIGURATION)


@pytest.mark.parametrize(
    "content", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_client_certificate_that_is_none_is_refused(kubeconfig: Kubeconfig, content: str) -> None:
    file = str(kubeconfig.file("client.pem", content))
    kubeconfig.user.update({"client-certificate": file, "client-key": file})
    refused(kubeconfig, "client-certificate", file, code=INVALID_CONFIGURATION)


# The server's certificate


def test_authority_in_a_file(kubeconfig: Kubeconfig, authority: Authority) -> None:
    bundle = "Ä comment, as bundles have them\n" + Path(authority.certificate).read_text()
    del kubeconfig.cluster["certificate-authority-data"]
    kubeconfig.cluster["certificate-authority"] = str(kubeconfig.file("ca.crt", bundle))
    assert fetch(kubeconfig) == ANNOTATIONS


def test_server_of_strangers_is_not_told_the_token(
    kubeconfig: Kubeconfig, api: ApiServer, strangers: Authority
) -> None:
    api.use(strangers.server("IP:127.0.0.1"))
    refused(kubeconfig, "certificate", "certificate-authority-data", "CA certificate")
    assert not api.requests


def test_authority_is_not_the_systems_by_default(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    del kubeconfig.cluster["certificate-authority-data"]
    refused(kubeconfig, "certificate", "system's")
    assert not api.requests


def test_intermediate_authority_is_trusted_if_it_is_listed(
    kubeconfig: Kubeconfig, api: ApiServer, authority: Authority, tmp_path: Path
) -> None:
    intermediate = Authority(tmp_path, "intermediate", signed_by=authority)
    kubeconfig.cluster["certificate-authority-data"] = data(intermediate.certificate)
    api.use(intermediate.server("IP:127.0.0.1"))
    assert fetch(kubeconfig) == ANNOTATIONS


@pytest.mark.parametrize(
    "content", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_authority_that_is_none_is_refused(kubeconfig: Kubeconfig, api: ApiServer, content: str) -> None:
    del kubeconfig.cluster["certificate-authority-data"]
    kubeconfig.cluster["certificate-authority"] = str(kubeconfig.file("ca.crt", content))
    refused(kubeconfig, "certificate-authority", "ca.crt", "PEM", code=INVALID_CONFIGURATION)
    assert api.connections == 0


def test_certificate_for_another_name_is_refused(
    kubeconfig: Kubeconfig, api: ApiServer, authority: Authority
) -> None:
    api.use(authority.server("IP:192.0.2.1", "DNS:api.test"))
    refused(kubeconfig, "certificate", "127.0.0.1", "tls-server-name")
    assert not api.requests


def test_tls_server_name_is_the_name_that_counts(
    kubeconfig: Kubeconfig, api: ApiServer, authority: Authority
) -> None:
    api.use(authority.server("DNS:api.test"))
    kubeconfig.cluster["tls-server-name"] = "api.test"
    assert fetch(kubeconfig) == ANNOTATIONS
    kubeconfig.cluster["tls-server-name"] = "other.test"
    refused(kubeconfig, "certificate", "other.test")


def test_expired_certificate_is_refused(kubeconfig: Kubeconfig, api: ApiServer, authority: Authority) -> None:
    api.use(authority.server("IP:127.0.0.1", days=-1))
    refused(kubeconfig, "expired", "clock")
    assert not api.requests


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_server_that_knows_old_tls_only_is_refused(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    api.tls.minimum_version = ssl.TLSVersion.TLSv1
    api.tls.maximum_version = ssl.TLSVersion.TLSv1_1
    api.tls.set_ciphers("ALL:@SECLEVEL=0")
    refused(kubeconfig, "TLS")
    assert not api.requests


# Refusals


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (401, "Unauthorized", ["401", "token", "expired", "renew"]),
        (
            403,
            f'pods "x" is forbidden: User "{USER}" cannot get resource "pods"',
            ["403", "get", "pods", "ClusterRole", USER],
        ),
        (404, 'pods "x" not found', ["404", "no such pod", "deleted", "not found"]),
        (429, "too many requests", ["429", "overloaded"]),
        (500, "etcdserver: request timed out", ["500", "etcdserver: request timed out"]),
        (503, "unavailable", ["503"]),
        (418, "teapot", ["418", "teapot"]),
        (204, "nothing", ["204"]),
    ],
)
def test_refusal_is_explained(
    kubeconfig: Kubeconfig, api: ApiServer, status: int, message: str, words: list[str]
) -> None:
    api.always_status(status, message)
    refused(kubeconfig, *words)


def test_refusal_counts_although_its_reason_never_comes(
    kubeconfig: Kubeconfig, api: ApiServer, impatient: None
) -> None:
    def answer(connection: ssl.SSLSocket, _: object) -> None:
        connection.sendall(head(403, "Content-Length: 100"))
        api.hold(connection)

    api.answer = answer
    refused(kubeconfig, "403", "ClusterRole")


def test_endless_reason_of_a_refusal_is_shown_in_part(
    kubeconfig: Kubeconfig, api: ApiServer, impatient: None
) -> None:
    def answer(connection: ssl.SSLSocket, _: object) -> None:
        connection.sendall(head(500) + b"<html>\r\n\x00\x1b[31m")
        while True:
            connection.sendall(b"x" * 65536)

    api.answer = answer
    assert len(refused(kubeconfig, "500", "<html>")) < 1000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(kubeconfig: Kubeconfig, api: ApiServer, status: int) -> None:
    elsewhere = f"{api.url}/elsewhere\x1b"
    api.always(status, b"", f"Location: {elsewhere}")
    refused(kubeconfig, str(status), f"{api.url}/elsewhere", "redirect")
    assert len(api.requests) == 1


# Garbage


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["not JSON"]),
        (b"<html>Login</html>", ["not JSON", "Login"]),
        (b"\xff\xfe\x00", ["not JSON"]),
        (b'{"kind": "Pod", "metadata": {"na', ["not JSON"]),
        (b"[" * 200_000, ["not JSON"]),
        (b"[]", ["kind"]),
        (b"null", ["kind"]),
        (b'"Pod"', ["kind"]),
        (b"{}", ["kind"]),
        (b'{"kind": "PodList", "items": []}', ["kind"]),
        (b'{"kind": "Status", "message": "all is well"}', ["kind", "all is well"]),
        (b'{"kind": ["Pod"], "metadata": {}}', ["kind"]),
        (b'{"kind": "Pod"}', ["metadata"]),
        (b'{"kind": "Pod", "metadata": []}', ["metadata"]),
        (b'{"kind": "Pod", "metadata": {"annotations": []}}', ["annotations"]),
        (b'{"kind": "Pod", "metadata": {"annotations": "x"}}', ["annotations"]),
        (b'{"kind": "Pod", "metadata": {"annotations": {"macvlan-egress/mtu": 1400}}}', ["annotations"]),
    ],
)
def test_body_that_is_no_pod_is_refused(
    kubeconfig: Kubeconfig, api: ApiServer, body: bytes, words: list[str]
) -> None:
    api.always(200, body)
    refused(kubeconfig, *words)
    refused(kubeconfig, *words, uid="")


def test_truncated_body_is_refused(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    body = json.dumps(api.pods[f"{NAMESPACE}/{NAME}"]).encode()
    for answer in (
        head(200, f"Content-Length: {len(body)}") + body[:-1],
        head(200, "Transfer-Encoding: chunked") + b"%x\r\n%s" % (len(body), body[:-1]),
        head(200) + body[:-1],
    ):
        api.raw(answer)
        refused(kubeconfig)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        head(200, "Transfer-Encoding: chunked") + b"zz\r\n{}",
        b"\x00" * 1000,
    ],
    ids=lambda answer: repr(answer[:24]),
)
def test_answer_that_is_not_http_is_refused(kubeconfig: Kubeconfig, api: ApiServer, answer: bytes) -> None:
    api.raw(answer)
    refused(kubeconfig, "HTTP")


def test_port_that_speaks_no_tls_is_refused(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    def greet(plain: socket.socket) -> None:
        plain.sendall(head(400) + b"Client sent an HTTP request to an HTTPS server.\n")
        api.hold(plain)

    api.greet = greet
    refused(kubeconfig, "TLS", "server")
    assert not api.requests


@pytest.mark.parametrize("headers", [["Content-Length: 99999999999"], ["Transfer-Encoding: chunked"], []])
def test_answer_without_end_is_given_up(kubeconfig: Kubeconfig, api: ApiServer, headers: list[str]) -> None:
    sent = 0

    def answer(connection: ssl.SSLSocket, _: object) -> None:
        nonlocal sent
        connection.sendall(head(200, *headers))
        chunk = b" " * 65536
        while True:
            connection.sendall(b"10000\r\n" + chunk + b"\r\n" if "chunked" in str(headers) else chunk)
            sent += len(chunk)

    api.answer = answer
    refused(kubeconfig, "larger", "8 MiB")
    assert sent < 5 * kubernetes.MAX_ANSWER_BYTES


# Silence


def test_refused_connection(kubeconfig: Kubeconfig) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        kubeconfig.cluster["server"] = f"https://127.0.0.1:{closed.getsockname()[1]}"
        refused(kubeconfig, "Connection refused", "connecting")


@contextmanager
def full(address: str, port: int = 0) -> Iterator[int]:
    """A port whose queue of connections is full, so that the kernel drops further ones; yields its number."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(4):
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_connection_that_nobody_accepts(kubeconfig: Kubeconfig, impatient: None) -> None:
    with full("127.0.0.1") as port:
        kubeconfig.cluster["server"] = f"https://127.0.0.1:{port}"
        refused(kubeconfig, "no answer within 0.4 s", "connecting")


def test_connection_that_is_cut_at_once(kubeconfig: Kubeconfig, api: ApiServer) -> None:
    api.greet = lambda _: None
    refused(kubeconfig, "TLS")


def test_silence_before_tls(kubeconfig: Kubeconfig, api: ApiServer, impatient: None) -> None:
    api.greet = api.hold
    refused(kubeconfig, "no answer within 0.4 s", "TLS")


def test_silence_instead_of_an_answer(kubeconfig: Kubeconfig, api: ApiServer, impatient: None) -> None:
    api.answer = lambda connection, _: api.hold(connection)
    refused(kubeconfig, "no answer within 0.4 s", "waiting")


def test_silence_after_the_headers(kubeconfig: Kubeconfig, api: ApiServer, impatient: None) -> None:
    def answer(connection: ssl.SSLSocket, _: object) -> None:
        connection.sendall(head(200, "Content-Length: 100"))
        api.hold(connection)

    api.answer = answer
    refused(kubeconfig, "no answer within 0.4 s", "reading")


@pytest.mark.parametrize("part", ["headers", "body", "chunks", "continue"])
def test_answer_that_drips(kubeconfig: Kubeconfig, api: ApiServer, impatient: None, part: str) -> None:
    body = json.dumps(api.pods[f"{NAMESPACE}/{NAME}"]).encode()

    def answer(connection: ssl.SSLSocket, _: object) -> None:
        headers = head(200, f"Content-Length: {len(body)}")
        if part == "body":
            connection.sendall(headers)
            api.drip(connection, body)
        elif part == "chunks":
            connection.sendall(head(200, "Transfer-Encoding: chunked"))
            api.drip(connection, b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        elif part == "continue":
            api.drip(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 10)
            connection.sendall(headers + body)
        else:
            api.drip(connection, headers)
            connection.sendall(body)

    api.answer = answer
    refused(kubeconfig, "no answer within 0.4 s")


def test_handshake_that_drips(kubeconfig: Kubeconfig, api: ApiServer, impatient: None) -> None:
    api.greet = api.serve_dripping
    refused(kubeconfig, "no answer within 0.4 s", "TLS")


# Names


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a resolver says to a name: addresses, an error, or an event to wait for."""
    known: dict[str, Any] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: Any, flags: int = 0, **others: Any) -> Any:
        said = None if flags & socket.AI_NUMERICHOST else known.get(host)
        if said is None:
            return real(host, port, *rest, flags=flags, **others)
        if isinstance(said, Exception):
            raise said
        if isinstance(said, threading.Event):
            said.wait(20)
            said = ["127.0.0.1"]
        return [found for one in said for found in real(one, port, *rest, flags=flags, **others)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield known
    for said in known.values():
        if isinstance(said, threading.Event):
            said.set()


def test_server_known_by_name(kubeconfig: Kubeconfig, api: ApiServer, names: dict[str, Any]) -> None:
    names["api.test"] = ["127.0.0.1"]
    kubeconfig.cluster["server"] = f"https://api.test:{api.port}"
    assert fetch(kubeconfig) == ANNOTATIONS
    assert api.requests[0].headers["host"] == f"api.test:{api.port}"


def test_next_address_is_tried_when_one_fails(
    kubeconfig: Kubeconfig, api: ApiServer, names: dict[str, Any]
) -> None:
    names["api.test"] = ["127.0.0.2", "127.0.0.1"]
    kubeconfig.cluster["server"] = f"https://api.test:{api.port}"
    assert fetch(kubeconfig) == ANNOTATIONS


def test_next_address_has_its_share_of_the_time(
    kubeconfig: Kubeconfig, api: ApiServer, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "DEADLINE_SECONDS", 1.0)
    names["api.test"] = ["127.0.0.2", "127.0.0.1"]
    kubeconfig.cluster["server"] = f"https://api.test:{api.port}"
    with full("127.0.0.2", api.port):
        assert fetch(kubeconfig) == ANNOTATIONS


def test_unknown_name(kubeconfig: Kubeconfig, api: ApiServer, names: dict[str, Any]) -> None:
    names["api.test"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    kubeconfig.cluster["server"] = f"https://api.test:{api.port}"
    refused(kubeconfig, "resolved", "Name or service not known")


def test_resolver_that_does_not_answer(
    kubeconfig: Kubeconfig, api: ApiServer, names: dict[str, Any], impatient: None
) -> None:
    names["api.test"] = threading.Event()
    kubeconfig.cluster["server"] = f"https://api.test:{api.port}"
    refused(kubeconfig, "no answer within 0.4 s", "resolving api.test")


# What must not matter, and must not happen


def test_proxies_and_key_logs_of_the_environment_count_for_nothing(
    kubeconfig: Kubeconfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    assert fetch(kubeconfig) == ANNOTATIONS
    assert not keys.exists()


def test_no_descriptor_is_left_open(
    kubeconfig: Kubeconfig, api: ApiServer, authority: Authority, strangers: Authority
) -> None:
    client = authority.client(USER)
    kubeconfig.user.update({"client-certificate": client.certificate, "client-key": client.key})
    fetch(kubeconfig)  # once for what stays by itself, such as the random number generator's
    answers = [api.answer, lambda connection, _: None]

    def descriptors() -> list[str]:
        """Of the client; the server's are sockets that come and go."""
        found = []
        for number in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{number}"))
            except FileNotFoundError:
                continue
        return sorted(one for one in found if "memfd" in one or "kubeconfig" in one or "/pki" in one)

    for answer in answers:
        api.answer = answer
        with suppress(CniError):
            fetch(kubeconfig)
    kubeconfig.user["client-key"] = strangers.client(USER).key
    refused(kubeconfig, code=INVALID_CONFIGURATION)
    assert descriptors() == []


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has after some code."""
    path = [*filter(None, sys.path), str(Path(kubernetes.__file__).parents[2])]
    program = f"import sys; sys.path = {path!r}\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True, env={}
    )
    return set(done.stdout.split())


def test_nothing_heavy_is_imported_where_there_is_no_server(tmp_path: Path) -> None:
    modules = loaded(
        "from cni_macvlan_egress.sources import kubernetes\nassert not kubernetes.configured(None)"
    )
    assert "cni_macvlan_egress.sources.kubernetes" in modules
    assert not modules & {"ssl", "socket", "http.client", "yaml", "threading", "email"}


def test_yaml_is_not_imported_for_a_kubeconfig_in_json(kubeconfig: Kubeconfig) -> None:
    ask = (
        "from cni_macvlan_egress.sources import kubernetes\n"
        f"assert kubernetes.fetch_annotations({kubeconfig.write()!r}, {NAMESPACE!r}, {NAME!r}, {UID!r})"
    )
    modules = loaded(ask)
    assert "ssl" in modules
    assert "yaml" not in modules
