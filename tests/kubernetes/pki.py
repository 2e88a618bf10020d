"""Certificates and kubeconfigs of a cluster, as kubeadm lays them out in /etc/kubernetes."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = "/etc/kubernetes"
_DAYS = "2"


@dataclass(frozen=True)
class Subject:
    """Whose certificate it is: organisation (a group, for Kubernetes) and common name (the user)."""

    name: str
    common_name: str
    organisation: str = ""

    @property
    def text(self) -> str:
        return (
            f"/O={self.organisation}/CN={self.common_name}"
            if self.organisation
            else f"/CN={self.common_name}"
        )


def create(root: Path, server: str, node: str, addresses: list[str]) -> None:
    """Make everything.

    Args:
        root: of the machine.
        server: URL of the API server.
        addresses: that the API server is called by.
    """
    pki = root / DIRECTORY.lstrip("/") / "pki"
    pki.mkdir(parents=True)
    _key(pki / "ca.key")
    _openssl(
        "req",
        "-x509",
        "-key",
        pki / "ca.key",
        "-out",
        pki / "ca.crt",
        "-days",
        _DAYS,
        "-subj",
        "/CN=kubernetes",
    )
    names = ",".join(["DNS:kubernetes", f"DNS:{node}", *(f"IP:{address}" for address in addresses)])
    (pki / "names").write_text(f"subjectAltName={names}\n")
    for subject in (
        Subject("apiserver", "kube-apiserver"),
        Subject("admin", "kubernetes-admin", "system:masters"),
        Subject("kubelet", f"system:node:{node}", "system:nodes"),
    ):
        _certificate(pki, subject)
    _key(pki / "sa.key")
    _openssl("pkey", "-in", pki / "sa.key", "-pubout", "-out", pki / "sa.pub")
    for user in ("admin", "kubelet"):
        credentials = {
            "client-certificate": f"{DIRECTORY}/pki/{user}.crt",
            "client-key": f"{DIRECTORY}/pki/{user}.key",
        }
        (pki.parent / f"{user}.conf").write_text(kubeconfig(server, credentials))


def kubeconfig(server: str, credentials: dict[str, str]) -> str:
    """A kubeconfig of one user of the cluster; JSON, which is YAML."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "k",
                    "cluster": {"server": server, "certificate-authority": f"{DIRECTORY}/pki/ca.crt"},
                }
            ],
            "users": [{"name": "u", "user": credentials}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "current-context": "c",
        }
    )


def _certificate(pki: Path, subject: Subject) -> None:
    key, request = pki / f"{subject.name}.key", pki / f"{subject.name}.csr"
    _key(key)
    _openssl("req", "-new", "-key", key, "-out", request, "-subj", subject.text)
    _openssl(
        "x509", "-req", "-in", request, "-CA", pki / "ca.crt", "-CAkey", pki / "ca.key", "-CAcreateserial",
        "-days", _DAYS, "-out", pki / f"{subject.name}.crt", "-extfile", pki / "names",
    )  # fmt: skip


def _key(path: Path) -> None:
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)


def _openssl(*words: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
