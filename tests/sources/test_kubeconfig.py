"""Which server a kubeconfig or a service account leads to, as whom, and what is wrong with one that leads nowhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from authority import data
from kubeconfigs import Kubeconfig

from cni_macvlan_egress.protocol.errors import CniError
from cni_macvlan_egress.sources.kubeconfig import Access, from_file, from_service_account, in_cluster

IO_FAILURE, INVALID_CONFIGURATION = 5, 7
SECRET = "eyJzZWNyZXQi-t0ken"
PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
CLUSTER, USER = "clusters['cluster']", "users['plugin']"
VARIABLES = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def good(tmp_path: Path) -> Kubeconfig:
    authority = tmp_path / "ca.pem"
    authority.write_text(PEM)
    found = Kubeconfig(tmp_path, "https://192.0.2.7:6443", str(authority))
    found.user["token"] = SECRET
    return found


def read(good: Kubeconfig) -> Access:
    return from_file(good.write())


def refused(path: str, *words: str, code: int = INVALID_CONFIGURATION) -> None:
    with pytest.raises(CniError) as caught:
        from_file(path)
    text = str(caught.value)
    assert caught.value.code == code, text
    assert "\n" not in text
    assert SECRET not in text
    for word in (path, *words):
        assert word in text, f"{word!r} is missing in: {text}"


# Good ones


@pytest.mark.parametrize(
    "encode", [json.dumps, yaml.safe_dump, lambda document: "\ufeff" + json.dumps(document, indent=2)]
)
def test_current_context_counts_in_json_and_yaml(good: Kubeconfig, encode: Callable[[Any], str]) -> None:
    access = from_file(good.write(encode(good.document)))
    assert access.url == "https://192.0.2.7:6443"
    assert (access.token, access.server_name) == (SECRET, "192.0.2.7")
    assert access.authorities is not None
    assert access.authorities.data == PEM.encode()
    assert (access.certificate, access.key) == (None, None)
    good.document["current-context"] = "other"
    other = from_file(good.write(encode(good.document)))
    assert (other.url, other.token, other.authorities) == (
        "https://192.0.2.1:6443",
        "another",
        None,
    )


def test_yaml_in_flow_style(good: Kubeconfig) -> None:
    text = yaml.safe_dump(good.document, default_flow_style=True)
    assert text.startswith("{")
    assert from_file(good.write(text)).token == SECRET


@pytest.mark.parametrize(
    ("server", "host", "port", "path", "authority"),
    [
        ("https://192.0.2.7", "192.0.2.7", 443, "", "192.0.2.7"),
        ("https://192.0.2.7/", "192.0.2.7", 443, "", "192.0.2.7"),
        (
            "https://Api.Example.test:6443/k8s/clusters/c-1/",
            "api.example.test",
            6443,
            "/k8s/clusters/c-1",
            None,
        ),
        ("HTTPS://api_1.example.test.:6443", "api_1.example.test.", 6443, "", None),
        ("https://[2001:db8::7]:6443", "2001:db8::7", 6443, "", "[2001:db8::7]:6443"),
        ("https://[2001:db8::7]", "2001:db8::7", 443, "", "[2001:db8::7]"),
        ("https://localhost:", "localhost", 443, "", "localhost"),
    ],
)
def test_forms_of_server(
    good: Kubeconfig, server: str, host: str, port: int, path: str, authority: str | None
) -> None:
    good.cluster["server"] = server
    access = read(good)
    assert (access.host, access.port, access.path) == (host, port, path)
    assert access.authority == (authority or f"{host}:{port}")
    assert access.server_name == host.removesuffix(".")


def test_tls_server_name_replaces_the_host(good: Kubeconfig) -> None:
    good.cluster["tls-server-name"] = "kubernetes.default.svc"
    assert read(good).server_name == "kubernetes.default.svc"


def test_files_are_looked_for_beside_the_kubeconfig(
    good: Kubeconfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ca", "crt", "key", "token"):
        good.file(f"pki/{name}", f"the {name}".replace(" ", "-"))
    good.cluster.update({"certificate-authority-data": "", "certificate-authority": "pki/ca"})
    good.user.clear()
    good.user.update(
        {"tokenFile": "pki/token", "client-certificate": "./pki/crt", "client-key": f"{tmp_path}/pki/key"}
    )
    monkeypatch.chdir("/")
    access = read(good)
    assert access.token == "the-token"
    pems = [pem.data if pem else None for pem in (access.authorities, access.certificate, access.key)]
    assert pems == [b"the-ca", b"the-crt", b"the-key"]


def test_data_go_before_files(good: Kubeconfig) -> None:
    good.cluster["certificate-authority"] = "missing"
    wrapped = data(str(good.file("crt", "x" * 100)))
    good.user.update(
        {
            "client-certificate": "missing",
            "client-certificate-data": f"{wrapped[:64]}\n{wrapped[64:]}\n",
            "client-key": "missing",
            "client-key-data": data(str(good.file("key", "y"))),
        }
    )
    access = read(good)
    assert access.certificate is not None
    assert access.certificate.data == b"x" * 100
    assert access.key is not None
    assert access.key.data == b"y"


def test_token_file_goes_before_the_token(good: Kubeconfig) -> None:
    good.user["tokenFile"] = str(good.file("token", "  renewed\r\n"))
    assert read(good).token == "renewed"


def test_null_and_empty_keys_are_as_good_as_none(good: Kubeconfig) -> None:
    good.cluster.update({"proxy-url": "", "insecure-skip-tls-verify": False, "tls-server-name": None})
    good.user.update(
        {"exec": None, "auth-provider": None, "username": "", "as": "", "as-groups": [], "tokenFile": None}
    )
    assert read(good).token == SECRET


def test_secrets_are_not_shown(good: Kubeconfig) -> None:
    good.user.update({"client-certificate": "c", "client-key": "k"})
    good.file("c", "certificate")
    good.file("k", "very-private")
    assert SECRET not in repr(read(good))
    assert "very-private" not in repr(read(good))


# Malformed ones


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", ["no kubeconfig"]),
        (b"# nothing but a comment\n", ["no kubeconfig"]),
        (b"[]", ["no kubeconfig"]),
        (b"a text", ["no kubeconfig"]),
        (b"{}", ["current-context"]),
        (b"\xff\xfe", ["UTF-8"]),
        (b"\x00", ["YAML"]),
        (f"users:\n- name: x\n   token: {SECRET}\n".encode(), ["YAML", "line 3"]),
        (f'{{"users": [{{"token": "{SECRET}"'.encode(), ["YAML"]),
        (f"token: !secret {SECRET}".encode(), ["YAML", "line 1"]),
        (f"a: {SECRET}\n---\nb: 1\n".encode(), ["YAML"]),
        (f"token: *{SECRET}".encode(), ["YAML"]),
        (f"token: !{SECRET} x".encode(), ["YAML"]),
        (f"? [{SECRET}]\n: {{x: y}}\n? {{a: b}}\n: c".encode(), ["YAML"]),
        (b"when: 2024-99-99\n", ["YAML"]),
        (b"[" * 2_000, ["YAML"]),
        (b"{" * 2_000, ["YAML"]),
    ],
    ids=lambda value: repr(value)[:40],
)
@pytest.mark.parametrize("with_libyaml", [True, False])
def test_file_that_is_no_kubeconfig(
    good: Kubeconfig, text: bytes, words: list[str], with_libyaml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_libyaml:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    refused(good.write(text), *words)


def test_python_objects_are_not_made(good: Kubeconfig, tmp_path: Path) -> None:
    made = tmp_path / "made"
    refused(good.write(f'!!python/object/apply:os.mkdir ["{made}"]'), "YAML")
    assert not made.exists()


def change(path: str, value: Any) -> Callable[[Kubeconfig], None]:
    """Set, or with ... remove, a key of `document`, `cluster` or `user`."""

    def apply(good: Kubeconfig) -> None:
        where, *keys = path.split("/")
        target = getattr(good, where)
        for key in keys[:-1]:
            target = target[int(key) if key.isdigit() else key]
        key = keys[-1]
        if value is ...:
            del target[key]
        else:
            target[int(key) if key.isdigit() else key] = value

    return apply


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (change("document/kind", "Pod"), ["kind", "Pod", "Config"]),
        (change("document/kind", 5), ["kind", "string"]),
        (change("document/apiVersion", "v2"), ["apiVersion", "v2", "v1"]),
        (change("document/current-context", ...), ["current-context", "required"]),
        (change("document/current-context", ""), ["current-context", "required"]),
        (change("document/current-context", ["node"]), ["current-context", "string"]),
        (change("document/current-context", "nod"), ["current-context", "'nod'", "contexts"]),
        (change("document/contexts", ...), ["contexts", "list"]),
        (change("document/contexts", {}), ["contexts", "list"]),
        (change("document/contexts/0", "node"), ["contexts", "objects"]),
        (change("document/contexts/1/context", ...), ["contexts['node'].context", "object"]),
        (change("document/contexts/1/context/cluster", ...), ["contexts['node'].cluster", "required"]),
        (change("document/contexts/1/context/cluster", "x"), ["contexts['node'].cluster", "'x'", "clusters"]),
        (change("document/contexts/1/context/user", ...), ["contexts['node'].user", "required"]),
        (change("document/contexts/1/context/user", "x"), ["contexts['node'].user", "'x'", "users"]),
        (change("document/clusters", None), ["clusters", "list"]),
        (change("document/clusters/1/cluster", []), [f"{CLUSTER}.cluster", "object"]),
        (change("document/users", "x"), ["users", "list"]),
        (change("document/users/1/user", SECRET), [f"{USER}.user", "object"]),
        (change("cluster/server", ...), [f"{CLUSTER}.server", "required"]),
        (change("cluster/server", 6443), [f"{CLUSTER}.server", "string"]),
        (change("cluster/server", "192.0.2.7:6443"), [f"{CLUSTER}.server", "192.0.2.7:6443", "https://"]),
        (change("cluster/server", "http://192.0.2.7:8080"), [f"{CLUSTER}.server", "http://192.0.2.7:8080", "TLS"]),
        (change("cluster/server", "ftp://192.0.2.7"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", "https://"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", "https://:6443"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", "https://192.0.2.7:0"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", "https://192.0.2.7:65536"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", "https://192.0.2.7:x"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", "https://[::1"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", "https://[fe80::1%25eth0]:6443"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", "https://a..b"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", f"https://{'a' * 64}.test"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", f"https://{'a.' * 127}test"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", f"https://u:{SECRET}@192.0.2.7"), [f"{CLUSTER}.server", "user"]),
        (change("cluster/server", f"https://192.0.2.7/?token={SECRET}"), [f"{CLUSTER}.server", "query"]),
        (change("cluster/server", "https://192.0.2.7/#x"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/server", "https://192.0.2.7/ HTTP/1.1"), [f"{CLUSTER}.server", "white space"]),
        (change("cluster/server", "https://192.0.2.7/\r\nX: y"), [f"{CLUSTER}.server", "white space"]),
        (change("cluster/server", "https://ünï.test"), [f"{CLUSTER}.server", "https://"]),
        (change("cluster/tls-server-name", "*.example.test"), [f"{CLUSTER}.tls-server-name", "*.example.test"]),
        (change("cluster/tls-server-name", "a\0b"), [f"{CLUSTER}.tls-server-name"]),
        (change("cluster/tls-server-name", True), [f"{CLUSTER}.tls-server-name", "string"]),
        (change("cluster/insecure-skip-tls-verify", True), [f"{CLUSTER}.insecure-skip-tls-verify", "verified"]),
        (change("cluster/insecure-skip-tls-verify", "false"), [f"{CLUSTER}.insecure-skip-tls-verify"]),
        (change("cluster/proxy-url", "http://192.0.2.9"), [f"{CLUSTER}.proxy-url", "proxy"]),
        (change("cluster/certificate-authority-data", "!!"), [f"{CLUSTER}.certificate-authority-data", "base64"]),
        (change("cluster/certificate-authority-data", "ü"), [f"{CLUSTER}.certificate-authority-data", "base64"]),
        (change("cluster/certificate-authority-data", 5), [f"{CLUSTER}.certificate-authority-data", "string"]),
        (change("user/exec", {"command": "aws"}), [f"{USER}.exec", "plugin", "tokenFile"]),
        (change("user/auth-provider", {"name": "oidc"}), [f"{USER}.auth-provider", "tokenFile"]),
        (change("user/username", "admin"), [f"{USER}.username", "basic"]),
        (change("user/as", "admin"), [f"{USER}.as", "impersonation"]),
        (change("user/as-uid", "0"), [f"{USER}.as-uid", "impersonation"]),
        (change("user/as-groups", ["system:masters"]), [f"{USER}.as-groups", "impersonation"]),
        (change("user/as-user-extra", {"a": ["b"]}), [f"{USER}.as-user-extra", "impersonation"]),
        (change("user/token", ...), [f"{USER}.token", "no credentials", "tokenFile"]),
        (change("user/token", 12345), [f"{USER}.token", "string"]),
        (change("user/token", "  "), [f"{USER}.token", "ASCII"]),
        (change("user/token", f"{SECRET}\r\nX: y"), [f"{USER}.token", "ASCII"]),
        (change("user/token", f"{SECRET} {SECRET}"), [f"{USER}.token", "ASCII"]),
        (change("user/token", f"{SECRET}ü"), [f"{USER}.token", "ASCII"]),
        (change("user/tokenFile", {}), [f"{USER}.tokenFile", "string"]),
        (change("user/client-key-data", "eA=="), [f"{USER}.client-certificate", "required"]),
        (change("user/client-certificate-data", "eA=="), [f"{USER}.client-key", "required"]),
        (change("user/client-certificate-data", f"{SECRET}!"), [f"{USER}.client-certificate-data", "base64"]),
    ],
)  # fmt: skip
def test_key_that_breaks_a_rule_is_named(
    good: Kubeconfig, broken: Callable[[Kubeconfig], None], words: list[str]
) -> None:
    read(good)
    broken(good)
    refused(good.write(), *words)


# Files that cannot be read


def test_missing_kubeconfig(tmp_path: Path) -> None:
    refused(f"{tmp_path}/missing", "No such file", code=IO_FAILURE)


@pytest.mark.parametrize("section", ["cluster/certificate-authority", "user/client-key", "user/tokenFile"])
def test_missing_file_is_named_with_its_key(good: Kubeconfig, tmp_path: Path, section: str) -> None:
    good.cluster["certificate-authority-data"] = None
    good.user["client-certificate"] = str(good.file("crt", PEM))
    good.user["client-key"] = str(good.file("key", PEM))
    change(section, "missing")(good)
    refused(good.write(), section.split("/")[1], f"{tmp_path}/missing", "No such file", code=IO_FAILURE)


def test_things_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    refused(str(tmp_path / "fifo"), "regular", code=IO_FAILURE)
    refused(str(tmp_path), "regular", code=IO_FAILURE)
    refused("/dev/zero", "regular", code=IO_FAILURE)


@pytest.mark.parametrize("name", ["a\0b", "a\udc80b\ud800"])
def test_path_that_cannot_be_one(good: Kubeconfig, name: str) -> None:
    good.user["tokenFile"] = name
    refused(good.write(), "tokenFile", "forbidden character", code=IO_FAILURE)


def test_huge_file_is_not_read(good: Kubeconfig) -> None:
    def read_so_far() -> int:
        """Bytes, by this process (proc_pid_io(5))."""
        counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(counters["rchar"])

    huge = good.file("huge", b"")
    os.truncate(huge, 64 << 20)
    before = read_so_far()
    refused(str(huge), "larger than 4 MiB", code=IO_FAILURE)
    assert read_so_far() - before < 32 << 20


def test_empty_token_file(good: Kubeconfig) -> None:
    good.user["tokenFile"] = str(good.file("token", "\n"))
    refused(good.write(), "tokenFile", "ASCII")


# Service account


@pytest.fixture
def account(tmp_path: Path) -> str:
    directory = tmp_path / "serviceaccount"
    directory.mkdir()
    (directory / "token").write_text(f"{SECRET}\n")
    (directory / "ca.crt").write_text(PEM)
    return str(directory)


def test_service_account(account: str) -> None:
    assert in_cluster(VARIABLES, account)
    access = from_service_account(VARIABLES, account)
    assert (access.url, access.server_name, access.token) == ("https://10.96.0.1", "10.96.0.1", SECRET)
    assert access.authorities is not None
    assert access.authorities.data == PEM.encode()


def test_service_account_over_ipv6(account: str) -> None:
    variables = {"KUBERNETES_SERVICE_HOST": "fd00:96::1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert from_service_account(variables, account).url == "https://[fd00:96::1]:6443"


@pytest.mark.parametrize("missing", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"])
def test_there_is_no_cluster_without_both_variables(account: str, missing: str) -> None:
    assert not in_cluster({name: value for name, value in VARIABLES.items() if name != missing}, account)
    assert not in_cluster({**VARIABLES, missing: ""}, account)


def test_there_is_no_cluster_without_a_token(account: str) -> None:
    os.unlink(f"{account}/token")
    assert not in_cluster(VARIABLES, account)
    assert not in_cluster(VARIABLES, f"{account}/ca.crt/missing")


def test_token_that_cannot_be_looked_at_is_no_sign_of_no_cluster(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert in_cluster(VARIABLES, str(loop))
    with pytest.raises(CniError) as caught:
        from_service_account(VARIABLES, str(loop))
    assert caught.value.code == IO_FAILURE
    assert str(loop) in caught.value.msg


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"KUBERNETES_SERVICE_HOST": "a/b"}, "KUBERNETES_SERVICE_HOST"),
        ({"KUBERNETES_SERVICE_HOST": "x\r\n"}, "KUBERNETES_SERVICE_HOST"),
        ({"KUBERNETES_SERVICE_PORT": "https"}, "KUBERNETES_SERVICE_PORT"),
        ({"KUBERNETES_SERVICE_PORT": "0"}, "KUBERNETES_SERVICE_PORT"),
        ({"KUBERNETES_SERVICE_PORT": "65536"}, "KUBERNETES_SERVICE_PORT"),
        ({"KUBERNETES_SERVICE_PORT": "४४३"}, "KUBERNETES_SERVICE_PORT"),
    ],
)
def test_bad_variable_is_named(account: str, variables: dict[str, str], word: str) -> None:
    with pytest.raises(CniError) as caught:
        from_service_account({**VARIABLES, **variables}, account)
    assert caught.value.code == INVALID_CONFIGURATION
    assert word in caught.value.msg


@pytest.mark.parametrize("file", ["token", "ca.crt"])
def test_missing_file_of_the_service_account_is_named(account: str, file: str) -> None:
    os.unlink(f"{account}/{file}")
    with pytest.raises(CniError) as caught:
        from_service_account(VARIABLES, account)
    assert caught.value.code == IO_FAILURE
    assert f"{account}/{file}" in caught.value.msg
