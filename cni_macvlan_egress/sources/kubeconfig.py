"""How to reach the API server, and as whom: by a kubeconfig, or by the service account of the pod this runs in.

Files become data here; whether the certificates are any good is found out in kubernetes.py. Where client-go would
run a program, go without TLS or pretend to be somebody else, there is an error that says so: none of that belongs
into the start of a pod. No secret gets into an error.
"""

from __future__ import annotations

import binascii
import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..model.complaints import show
from ..protocol.errors import INVALID_CONFIGURATION, IO_FAILURE, CniError
from .regular_file import BYTES_MAX, content

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # client-go, rest.InClusterConfig
HOST_VARIABLE, PORT_VARIABLE = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
HTTPS_PORT = 443
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_HOST_MAX, _LABEL_MAX = 253, 63
_USE_TOKEN = "use a service account's token ('token', 'tokenFile') or a client certificate"  # noqa: S105
_OWN_ACCOUNT = "impersonation is not supported; give the plugin a service account of its own"
_REFUSED_OF_CLUSTER = {
    "insecure-skip-tls-verify": "the API server is always verified, since it decides who gets an address; set "
    "'certificate-authority' and, if need be, 'tls-server-name' instead",
    "proxy-url": "no proxy is used; name an address in 'server' that the node reaches by itself",
}
_REFUSED_OF_USER = {
    "exec": f"no credential plugin is run; {_USE_TOKEN}",
    "auth-provider": f"auth providers are not supported; {_USE_TOKEN}",
    "username": f"API servers have no basic authentication any more; {_USE_TOKEN}",
    "as": _OWN_ACCOUNT,
    "as-uid": _OWN_ACCOUNT,
    "as-groups": _OWN_ACCOUNT,
    "as-user-extra": _OWN_ACCOUNT,
}


@dataclass(frozen=True, slots=True)
class Pem:
    """Certificates or a key.

    Attributes:
        where: the file and key it came from, for errors.
        data: PEM, or what is taken for it.
    """

    where: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """An API server and the credentials for it.

    Attributes:
        origin: the file or directory that the credentials came from, for errors.
        named_by: what names the server, for errors.
        host: name or address; IPv6 without brackets.
        path: what stands before /api; "" for most servers.
        server_name: what the server's certificate has to be for.
        authorities: the certificates to trust; None for those of the system.
        token: for `Authorization: Bearer`; "" for none.
        certificate, key: the client's; both or neither.
    """

    origin: str
    named_by: str
    host: str
    port: int
    path: str
    server_name: str
    authorities: Pem | None
    token: str = field(default="", repr=False)
    certificate: Pem | None = None
    key: Pem | None = None

    @property
    def authority(self) -> str:
        """Host and port as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"https://{self.authority}{self.path}"


def in_cluster(variables: Mapping[str, str], directory: str = SERVICE_ACCOUNT) -> bool:
    """Whether this runs in a pod with a service account.

    The variables alone are no sign of it: a plugin that a pod starts in the node's file system inherits them.
    """
    if not (variables.get(HOST_VARIABLE) and variables.get(PORT_VARIABLE)):
        return False
    try:
        os.stat(f"{directory}/token")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # let the reading say what is wrong
    return True


def from_service_account(variables: Mapping[str, str], directory: str = SERVICE_ACCOUNT) -> Access:
    """What a pod's variables and the files of its service account say.

    Raises:
        CniError: IO_FAILURE or INVALID_CONFIGURATION, naming file or variable.
    """
    host, port = variables[HOST_VARIABLE], variables[PORT_VARIABLE]
    if not is_host(host):
        raise CniError(INVALID_CONFIGURATION, f"{HOST_VARIABLE}: {show(host)}: a name or address is expected")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 1 << 16):
        raise CniError(INVALID_CONFIGURATION, f"{PORT_VARIABLE}: {show(port)}: a port number is expected")
    token, authorities = f"{directory}/token", f"{directory}/ca.crt"
    return Access(
        origin=directory,
        named_by=HOST_VARIABLE,
        host=host,
        port=int(port),
        path="",
        server_name=host,
        authorities=Pem(authorities, _read(authorities, authorities)),
        token=_bearer(_read(token, token), token),
    )


def from_file(path: str) -> Access:
    """What the current context of a kubeconfig says.

    Raises:
        CniError: IO_FAILURE if the file, or one that it names, cannot be read; INVALID_CONFIGURATION if it is
            malformed or asks for what the plugin does not do. File and key are named.
    """
    return resolve(decode(_read(path, path), path), path)


def decode(data: bytes, path: str) -> object:
    """The document in a kubeconfig, be it JSON or YAML."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CniError(INVALID_CONFIGURATION, f"{path}: byte {error.start} is not UTF-8") from None
    if text.lstrip().startswith("{"):
        try:
            document: object = json.loads(text)
        except (ValueError, RecursionError):
            pass  # YAML may start like that, too
        else:
            return document
    import yaml

    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.MarkedYAMLError as error:  # its own text quotes the file, secrets included
        syntax = isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError)
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        reason = f"{error.problem if syntax else type(error).__name__}{line}"
    except (yaml.YAMLError, ValueError) as error:
        reason = type(error).__name__
    except RecursionError:
        reason = "nested too deeply"
    else:
        return document
    raise CniError(INVALID_CONFIGURATION, f"{path}: neither JSON nor YAML: {reason}")


def resolve(document: object, path: str) -> Access:
    """The current context of a decoded kubeconfig; reads the files that it names."""
    if not isinstance(document, dict):
        raise CniError(INVALID_CONFIGURATION, f"{path}: no kubeconfig: an object with 'clusters' is expected")
    top = _Section(path, "", document)
    for name, expected in (("kind", "Config"), ("apiVersion", "v1")):
        if top.text(name) not in ("", expected):
            raise top.error(name, f"{show(top.text(name))}: a kubeconfig has {expected!r}")
    context = top.entry("contexts", "context", top.required("current-context"), "current-context")
    cluster = top.entry("clusters", "cluster", context.required("cluster"), context.name("cluster"))
    user = top.entry("users", "user", context.required("user"), context.name("user"))
    for section, refused in ((cluster, _REFUSED_OF_CLUSTER), (user, _REFUSED_OF_USER)):
        for name, rule in refused.items():
            if section.values.get(name):
                raise section.error(name, rule)
    host, port, prefix = _server(cluster)
    server_name = (cluster.text("tls-server-name") or host).removesuffix(".")  # no certificate has the dot
    if not is_host(server_name):
        raise cluster.error("tls-server-name", f"{show(server_name)}: a name or address is expected")
    token, certificate, key = _token(user), user.pem("client-certificate"), user.pem("client-key")
    if (certificate is None) != (key is None):
        missing, present = ("client-key", "client-certificate")[:: 1 if key is None else -1]
        raise user.error(missing, f"this key, or the same with '-data', is required by {present!r}")
    if not token and certificate is None:
        raise user.error("token", f"there are no credentials; {_USE_TOKEN}")
    return Access(
        origin=path,
        named_by=f"'server' in {path}",
        host=host,
        port=port,
        path=prefix,
        server_name=server_name,
        authorities=cluster.pem("certificate-authority"),
        token=token,
        certificate=certificate,
        key=key,
    )


def is_host(text: str) -> bool:
    """Whether a text is an IP address, or a name that a resolver and a certificate may know."""
    if ":" in text:
        try:
            return "%" not in text and ipaddress.ip_address(text).version == 6
        except ValueError:
            return False
    labels = text.removesuffix(".").split(".")
    return len(text) <= _HOST_MAX and all(
        0 < len(label) <= _LABEL_MAX and _HOST_CHARACTERS.issuperset(label) for label in labels
    )


class _Section:
    """One object of a kubeconfig, which knows how errors name its keys.

    Args:
        path: the kubeconfig's.
        where: what stands before a key in an error.
        values: the object.
    """

    def __init__(self, path: str, where: str, values: Mapping[str, Any]) -> None:
        self.path = path
        self.where = where
        self.values = values

    def name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def error(self, key: str, rule: str) -> CniError:
        return CniError(INVALID_CONFIGURATION, f"{self.path}: {self.name(key)}: {rule}")

    def text(self, key: str) -> str:
        """A string; "" where it is missing or null. It may be a secret, so that no error shows it."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, "a string is expected; put it into quotes")
        return value or ""

    def required(self, key: str) -> str:
        if not self.text(key):
            raise self.error(key, "this key is required")
        return self.text(key)

    def entry(self, listing: str, kind: str, name: str, named_by: str) -> _Section:
        """The object KIND in that entry of a list that has a name; `named_by` is the key that said the name."""
        entries = self.values.get(listing)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise self.error(listing, f"a list of objects with 'name' and {kind!r} is expected")
        found = [entry.get(kind) for entry in entries if entry.get("name") == name]
        if not found:
            raise self.error(named_by, f"{show(name)}: there is none of that name in '{listing}'")
        where = f"{listing}[{show(name)}]"
        if not isinstance(found[0], dict):
            raise self.error(f"{where}.{kind}", "an object is expected")
        return _Section(self.path, where, found[0])

    def pem(self, key: str) -> Pem | None:
        """What KEY-data holds in base64, else the content of the file that KEY names (client-go's order)."""
        encoded = self.text(f"{key}-data")
        if not encoded:
            return Pem(*self.file(key)) if self.text(key) else None
        try:
            data = binascii.a2b_base64("".join(encoded.split()), strict_mode=True)
        except ValueError:
            raise self.error(f"{key}-data", "base64 is expected") from None
        return Pem(f"{self.path}: {self.name(key)}-data", data)

    def file(self, key: str) -> tuple[str, bytes]:
        """Name and content of the file that a key names, seen from the kubeconfig's directory (client-go)."""
        path = os.path.join(os.path.dirname(self.path), self.text(key))
        where = f"{self.path}: {self.name(key)}: {path if path.isprintable() else ascii(path)}"
        return where, _read(path, where)


def _server(cluster: _Section) -> tuple[str, int, str]:
    """Host, port and path of `server`."""
    text = cluster.required("server")
    form = "https://HOST[:PORT][/PATH] is expected"
    if not (text.isascii() and text.isprintable()) or any(character in " ?#@\\" for character in text):
        raise cluster.error("server", f"{form}, without white space, user and query")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise cluster.error("server", f"{show(text)}: {form}") from None
    if parts.scheme == "http":
        raise cluster.error("server", f"{show(text)}: credentials are not sent without TLS; {form}")
    if parts.scheme != "https" or not is_host(host) or port == 0:
        raise cluster.error("server", f"{show(text)}: {form}")
    return host, port or HTTPS_PORT, parts.path.rstrip("/")


def _token(user: _Section) -> str:
    """The token in the file, which goes first because somebody renews it (client-go), or the token itself."""
    if user.text("tokenFile"):
        where, data = user.file("tokenFile")
        return _bearer(data, where)
    token = user.text("token")
    return (
        _bearer(token.encode("utf-8", "surrogatepass"), f"{user.path}: {user.name('token')}") if token else ""
    )


def _bearer(data: bytes, where: str) -> str:
    """A token that may stand in a header."""
    token = data.decode("latin-1").strip()
    if not token or not all("!" <= character <= "~" for character in token):
        raise CniError(
            INVALID_CONFIGURATION, f"{where}: a token of printable ASCII without spaces is expected"
        )
    return token


def _read(path: str, where: str) -> bytes:
    """A file's content; `where` is what an error calls it."""
    try:
        data = content(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the path holds a forbidden character"
        raise CniError(IO_FAILURE, f"cannot read {where}: {reason}") from None
    if len(data) > BYTES_MAX:
        raise CniError(IO_FAILURE, f"cannot read {where}: it is larger than {BYTES_MAX >> 20} MiB")
    return data
