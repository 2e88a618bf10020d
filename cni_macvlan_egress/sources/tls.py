"""TLS to an API server: whom to trust, and who we are. ssl is imported only when there really is a server to ask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..protocol.errors import INVALID_CONFIGURATION, IO_FAILURE, CniError
from .kubeconfig import Access, Pem

if TYPE_CHECKING:
    import ssl

# X509_V_ERR_… in OpenSSL's x509_vfy.h: not yet valid, expired; name or address mismatch.
_WRONG_TIME, _WRONG_NAME = (9, 10), (62, 64)


def context(access: Access) -> ssl.SSLContext:
    """TLS as client-go would have it, always verified."""
    import ssl

    # Not create_default_context(), which writes the session's keys to where SSLKEYLOGFILE says.
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if access.authorities is None:
        made.load_default_certs()
    else:
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as Go trusts an intermediate that is listed
        try:
            made.load_verify_locations(cadata=access.authorities.data.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError):
            raise CniError(
                INVALID_CONFIGURATION, f"{access.authorities.where}: a certificate in PEM is expected"
            ) from None
    if access.certificate is not None and access.key is not None:
        _load_client(made, access.certificate, access.key)
    return made


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


def certificate_cure(access: Access, code: int) -> str:
    """What to do about a certificate that OpenSSL refused."""
    if code in _WRONG_TIME:
        return "renew the server's certificate, or set the node's clock"
    if code in _WRONG_NAME:
        return f"correct {access.named_by}, or set 'tls-server-name' to a name in the certificate"
    trusted = access.authorities.where if access.authorities else "the system's certificate authorities"
    return f"it is not signed by {trusted}; the cluster's CA certificate belongs there"
