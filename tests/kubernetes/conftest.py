"""Fixtures of the Kubernetes tests: one cluster for all of them, each with a node as it was at first.

They are collected only if MACVLAN_EGRESS_KUBERNETES names the directory of Kubernetes' programs, which
bin/test-kubernetes sees to: building them takes minutes, and so does running all this.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Lab

BINARIES = os.environ.get("MACVLAN_EGRESS_KUBERNETES", "")
if BINARIES:
    from lab.machine import eventually, sweep

    from .admin import PREFIX, REPOSITORY, SETTINGS, Admin, Stopwatch
    from .cluster import CONFLIST, Cluster
else:
    collect_ignore_glob = ["test_*.py"]

NAMESPACES = ("egress", "shop", "clients")
_EVIDENCE = pytest.StashKey[Callable[[], list[tuple[str, str]]]]()
_STOPWATCH = pytest.StashKey["Stopwatch"]()


def pytest_configure() -> None:
    """Clear up as after Ctrl-C when somebody else, such as timeout(1), ends the tests."""
    if BINARIES:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster that is ready; the namespaces for pods are there."""
    sweep()
    with tempfile.TemporaryDirectory() as scratch:

        def directory(name: str) -> str:
            path = Path(scratch, name)
            path.mkdir()
            return str(path)

        lab = Lab("", directory)
        try:
            cluster = Cluster(lab, Path(BINARIES).resolve())
            request.config.stash[_EVIDENCE] = cluster.evidence
            try:
                cluster.start()
                for name in NAMESPACES:
                    cluster.kubectl("create", "namespace", name)
                for name in NAMESPACES:
                    eventually(lambda name=name: _has_account(cluster, name), f"{name} gets no account")
                yield cluster
            finally:
                last = cluster.evidence()  # the last test is reported when there is no cluster any more
                request.config.stash[_EVIDENCE] = lambda: last
                cluster.close()
        finally:
            lab.close()


@pytest.fixture(scope="session")
def stopwatch(request: pytest.FixtureRequest) -> Stopwatch:
    """What a new user types; the times are told at the end."""
    watch = Stopwatch()
    request.config.stash[_STOPWATCH] = watch
    return watch


@pytest.fixture(scope="session")
def package(cluster: Cluster, stopwatch: Stopwatch) -> None:
    """The package, installed on the node as the README says."""
    # Timed, but what is installed is the working tree.
    stopwatch.time(cluster, f"git clone --quiet file://{REPOSITORY} /root/cni-macvlan-egress")
    stopwatch.time(cluster, f"python3 -m venv {PREFIX}")
    stopwatch.time(cluster, f"{PREFIX}/bin/pip install --quiet {REPOSITORY}", outside=True)


@pytest.fixture
def admin(cluster: Cluster, package: None) -> Iterator[Admin]:
    """Somebody who may install; afterwards the node is as it was, and nothing is left of the pods."""
    cluster.kubectl.record.clear()
    before = cluster.write_main_cni()
    admin = Admin(cluster)
    yield admin
    try:
        for name in NAMESPACES:
            # This kubelet tells of a pod's end once its sandbox is collected, a minute later; `traces` sees it at once.
            cluster.kubectl("delete", "deployments,services", "--all", "-n", name, "--timeout=30s")
            cluster.kubectl("delete", "pods", "--all", "-n", name, "--force", "--grace-period=0")
        eventually(lambda: not admin.traces(), lambda: f"left on the node: {admin.traces()}", 60)
    finally:
        admin.close()
        cluster.machine.run("rm", "-rf", SETTINGS)
        admin.run("uninstall", "--executable")
    assert cluster.machine.path(CONFLIST).read_text() == before


@pytest.fixture
def installed(admin: Admin) -> Admin:
    """The same after the README's command."""
    admin.run("install", "--namespaces", "egress")
    return admin


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """With a failure, or with -v, go kubectl's words."""
    report = yield
    evidence = item.config.stash.get(_EVIDENCE, None)
    if evidence and report.failed:
        report.sections += evidence()
    elif evidence and report.when == "call" and item.config.get_verbosity() > 0:
        ((name, text), _) = evidence()
        item.config.get_terminal_writer().write(f"\n--- {name}\n{text}\n")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The new user's times."""
    if (watch := config.stash.get(_STOPWATCH, None)) and watch.steps:
        terminalreporter.section("a new user's path")
        terminalreporter.write_line(watch.report())


def _has_account(cluster: Cluster, namespace: str) -> bool:
    return any(
        one["metadata"]["name"] == "default"
        for one in cluster.kubectl.get("serviceaccounts", "-n", namespace)["items"]
    )
