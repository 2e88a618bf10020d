"""A certificate authority for the tests, made with openssl(1)."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as paths."""

    certificate: str
    key: str

    def in_one_file(self, path: Path) -> str:
        """Both together, as the kubelet keeps its own."""
        path.write_text(Path(self.certificate).read_text() + Path(self.key).read_text())
        return str(path)


class Authority:
    """Signs certificates and keeps everything in one directory.

    Attributes:
        certificate: path of its own.
    """

    def __init__(self, directory: Path, name: str, signed_by: Authority | None = None) -> None:
        self._directory = directory
        self._name = name
        extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        if signed_by is None:
            self._pair = self._make(name, None, extensions, days=30)
        else:
            self._pair = self._make(name, signed_by._pair, extensions, days=30)

    @property
    def certificate(self) -> str:
        return self._pair.certificate

    def server(self, *names: str, days: int = 30) -> Pair:
        """A server's certificate for names and addresses, each with its kind: DNS:api.test, IP:127.0.0.1."""
        label = f"{self._name}-server-{'-'.join(names).replace(':', '_')}-{days}"
        return self._make(label, self._pair, f"subjectAltName={','.join(names)}\n", days)

    def client(self, name: str) -> Pair:
        """A client's certificate; its common name is the user's for an API server."""
        return self._make(name, self._pair, "extendedKeyUsage=clientAuth\n", days=30)

    def _make(self, name: str, issuer: Pair | None, extensions: str, days: int) -> Pair:
        base = self._directory / name
        paths = {end: f"{base}.{end}" for end in ("key", "csr", "ext", "pem")}
        Path(paths["ext"]).write_text(extensions)
        openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", paths["key"], "-out", paths["csr"], "-subj", f"/CN={name}",
        )  # fmt: skip
        signing = (
            ["-signkey", paths["key"]]
            if issuer is None
            else ["-CA", issuer.certificate, "-CAkey", issuer.key]
        )
        openssl(
            "x509", "-req", "-in", paths["csr"], *signing, "-CAcreateserial", "-days", str(days),
            "-extfile", paths["ext"], "-out", paths["pem"],
        )  # fmt: skip
        return Pair(paths["pem"], paths["key"])


def openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"openssl {' '.join(arguments)}: {done.stderr}"


def data(path: str) -> str:
    """A file's content as a kubeconfig's …-data keys hold it."""
    return base64.b64encode(Path(path).read_bytes()).decode()
