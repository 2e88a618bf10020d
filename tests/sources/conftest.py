"""Fixtures of the tests of the annotations' sources: an authority, an API server, a kubeconfig that leads to it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import ApiServer
from authority import Authority, Pair
from kubeconfigs import Kubeconfig


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The cluster's."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the package openssl")
    return Authority(tmp_path_factory.mktemp("pki"), "cluster-ca")


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Authority:
    """One that nobody in the cluster trusts."""
    return Authority(tmp_path_factory.mktemp("strangers"), "another-ca")


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Pair:
    """The API server's."""
    return authority.server("IP:127.0.0.1", "DNS:api.test")


@pytest.fixture
def api(certificate: Pair, authority: Authority) -> Iterator[ApiServer]:
    server = ApiServer(socket.socket(), certificate, authority)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def kubeconfig(api: ApiServer, authority: Authority, tmp_path: Path) -> Kubeconfig:
    return Kubeconfig(tmp_path, api.url, authority.certificate)
