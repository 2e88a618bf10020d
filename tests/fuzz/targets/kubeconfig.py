"""A kubeconfig, as YAML or JSON, up to where a connection would be made."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from cni_macvlan_egress.protocol.errors import INVALID_CONFIGURATION, IO_FAILURE, CniError
from cni_macvlan_egress.sources.kubeconfig import Access, from_file, is_host

from .. import enclosure
from ..mutations.documents import Vocabulary, changed_file, choice, listed
from ..target import Target
from . import terms

# Errors may name any value but this one, as long as it stands where it belongs.
_SECRET = "s3cret-s3cret-s3cret"
_IN_ITS_PLACE = re.compile(rb'"?token"?: *"?' + _SECRET.encode())
_BASE64 = choice("LS0tLS1CRUdJTg==", "LS0t\nLS1C", "====", "é", "", "A" * 3000)
_SERVER = choice(
    "https://192.0.2.1:6443", "https://[2001:db8::1]", "https://api.example.com/prefix/", "http://192.0.2.1",
    "https://user@192.0.2.1", "https://[::1%25eth0]", "https://192.0.2.1:99999", "https://:443", "https://a b",
    "HTTPS://EXAMPLE.com.", "https://[", "https://x#y", "//192.0.2.1", "",
)  # fmt: skip
_CLUSTER = choice(
    {"server": "https://192.0.2.1:6443", "certificate-authority-data": "LS0tLS1CRUdJTg=="},
    {"server": "https://api.example.com", "tls-server-name": "kubernetes"},
    {"server": "https://192.0.2.1", "insecure-skip-tls-verify": True},
    None,
)
_USER = choice(
    {"token": _SECRET},
    {"client-certificate-data": "LS0t", "client-key-data": "LS0t"},
    {"exec": {"command": "/bin/sh"}},
    {"tokenFile": "../../etc/hostname"},
    {},
)
_CONTEXT = choice({"cluster": "c", "user": "u"}, {"cluster": "c"}, {"cluster": "C", "user": "u"}, [])
VOCABULARY = Vocabulary(
    keys=(
        "apiVersion", "kind", "current-context", "contexts", "context", "clusters", "cluster", "users", "user", "name",
        "server", "tls-server-name", "certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify",
        "proxy-url", "token", "tokenFile", "client-certificate", "client-certificate-data", "client-key",
        "client-key-data", "exec", "auth-provider", "username", "password", "as", "as-groups", "preferences",
    ),
    values=("Config", "v1", "c", "u", "x", *terms.NAMES, *terms.PATHS),
    makers={
        "apiVersion": choice("v1", "v2", 1),
        "kind": choice("Config", "Pod"),
        "current-context": choice("x", "y", "", None),
        "clusters": listed(lambda random: {"name": random.choice("ccd"), "cluster": _CLUSTER(random)}),
        "users": listed(lambda random: {"name": random.choice("uuv"), "user": _USER(random)}),
        "contexts": listed(lambda random: {"name": random.choice("xxy"), "context": _CONTEXT(random)}),
        "cluster": choice("c", _CLUSTER),
        "user": choice("u", _USER),
        "context": _CONTEXT,
        "server": _SERVER,
        "tls-server-name": terms.name,
        "certificate-authority-data": _BASE64,
        "client-certificate-data": _BASE64,
        "client-key-data": _BASE64,
        "token": choice(_SECRET, f"{_SECRET}\nX-Header: y", f"{_SECRET}é", " ", 1),
        "tokenFile": terms.path,
        "certificate-authority": terms.path,
    },
)  # fmt: skip
_DICTIONARY = (
    *terms.NAMES, *VOCABULARY.keys, "---", "...", "- ", ": ", "&a", "*a", "!!str", "!!python/object:os.system", "|",
    ">", "<<", "{", "}", "[", "]", "? ", "%YAML 1.2", "null", "~", "yes", "#", "\t",
)  # fmt: skip


def examine(data: bytes, _seen: Callable[[], list[str]]) -> None:
    enclosure.KUBECONFIG.write_bytes(data)
    is_misplaced = _SECRET.encode() in _IN_ITS_PLACE.sub(b"", data)
    try:
        access = from_file(str(enclosure.KUBECONFIG))
    except CniError as error:
        assert error.code in (IO_FAILURE, INVALID_CONFIGURATION), error
        for text in (error.msg, error.details):
            assert text.isprintable(), ascii(text)
            assert len(text) < 1000, "the error is a novel"
            assert _SECRET not in text or is_misplaced, "a secret is told"
        return
    assert _SECRET not in repr(access) or is_misplaced
    _check(access)


def _check(access: Access) -> None:
    """What goes into a request has to be fit for it, and to be spoken to in secret."""
    assert is_host(access.host), access.host
    assert is_host(access.server_name), access.server_name
    assert 0 < access.port < 1 << 16, access.port
    assert access.url.startswith("https://")
    for text in (access.url, access.token):
        assert text.isascii(), ascii(text)
        assert text.isprintable(), ascii(text)
        assert " " not in text, text
    assert access.token or access.certificate is not None
    assert (access.certificate is None) == (access.key is None)


def mutate(data: bytes, random: Random) -> bytes:
    return changed_file(data, random, VOCABULARY, _DICTIONARY)


TARGET = Target("kubeconfig", examine, mutate, packages=("yaml",), writes=True)
