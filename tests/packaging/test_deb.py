"""The .deb under the real dpkg: installed, in use, upgraded, removed, with this machine's files left as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from release.roots import Root

NAME = "cni-macvlan-egress"
MAIN = '{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0"}]}\n'
ENTRY = '{"cniVersion": "1.0.0", "name": "pods", "type": "macvlan-egress", "allow": []}'
GONE = {"CNI_CONTAINERID": "gone", "CNI_NETNS": "", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin"}
EXECUTABLE = "/opt/cni/bin/macvlan-egress"
# Writes down what it is asked, in place of a systemd that runs.
SYSTEMCTL = '#!/bin/sh\necho "$*" >>/tmp/systemctl.log\n[ "$2" != is-active ] || [ -e /tmp/daemon-runs ]\n'
WITH_SYSTEMD = ("sh", "-ec", 'mkdir -p /run/systemd/system; exec "$0" "$@"')
UNITS = "macvlan-egress.socket macvlan-egress.service macvlan-egress-policy.service"


def run(root: Root, *command: str, **options: str) -> str:
    done = root.run(*command, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def dpkg(root: Root, *words: str) -> None:
    run(root, "dpkg", "--no-triggers", "--force-unsafe-io", *words)


def at(root: Root, path: str) -> Path:
    return root.path / path.lstrip("/")


@pytest.fixture
def installed(machine: Root, artefacts: Any) -> Root:
    shutil.copy(artefacts.deb, machine.path / "tmp/package.deb")
    dpkg(machine, "--install", "/tmp/package.deb")
    return machine


@pytest.fixture
def in_use(installed: Root) -> Root:
    """With the plugin in the node's conflist."""
    at(installed, "/etc/cni/net.d/10-pods.conflist").write_text(MAIN)
    run(installed, "macvlan-egress", "install", "--namespaces", "egress")
    return installed


@pytest.fixture
def systemd(in_use: Root) -> Path:
    """What systemctl has been asked to do."""
    at(in_use, "/usr/bin/systemctl").unlink(missing_ok=True)
    at(in_use, "/usr/bin/systemctl").write_text(SYSTEMCTL)
    at(in_use, "/usr/bin/systemctl").chmod(0o755)
    return at(in_use, "/tmp/systemctl.log")


def test_installed_package_is_whole_and_runs_the_demo(installed: Root) -> None:
    dpkg(installed, "--verify", NAME)
    document = json.loads(run(installed, "macvlan-egress", "demo", "--json"))
    assert document["passed"]
    assert len(document["packets"]) > 5


def test_installing_it_changes_no_network(installed: Root) -> None:
    assert list(at(installed, "/opt/cni/bin").iterdir()) == []
    assert list(at(installed, "/etc/cni/net.d").iterdir()) == []


def test_its_command_is_what_install_writes(in_use: Root) -> None:
    assert at(in_use, EXECUTABLE).read_bytes() == at(in_use, "/usr/bin/macvlan-egress").read_bytes()


@pytest.mark.parametrize("how", ["--remove", "--purge"])
def test_it_stays_while_runtimes_call_it(in_use: Root, how: str) -> None:
    done = in_use.run("dpkg", "--no-triggers", how, NAME)
    assert done.returncode != 0
    assert f"runtimes call {EXECUTABLE}" in done.stderr
    assert "macvlan-egress uninstall" in done.stderr
    run(in_use, EXECUTABLE, stdin=ENTRY, CNI_COMMAND="DEL", **GONE)
    dpkg(in_use, "--verify", NAME)
    assert run(in_use, "dpkg-query", "--show", "--showformat=${db:Status-Status}", NAME) == "installed"


def test_it_stays_while_pods_may_have_to_be_deleted(in_use: Root) -> None:
    run(in_use, "macvlan-egress", "uninstall")
    assert at(in_use, "/etc/cni/net.d/10-pods.conflist").read_text() == MAIN
    assert in_use.run("dpkg", "--no-triggers", "--purge", NAME).returncode != 0
    run(in_use, EXECUTABLE, stdin=ENTRY, CNI_COMMAND="DEL", **GONE)


def test_purged_after_uninstall_it_leaves_nothing(in_use: Root) -> None:
    at(in_use, "/var/log/macvlan-egress.log").touch()
    run(in_use, "macvlan-egress", "uninstall", "--executable")
    dpkg(in_use, "--purge", NAME)
    for path in ("/usr", "/etc", "/var/lib", "/var/log", "/opt"):
        top = in_use.path.with_name("layers") / "upper" / path.lstrip("/")
        left = [one for one in top.rglob("*macvlan*egress*") if not one.is_char_device()]
        assert left == []  # a character device is how overlayfs remembers that something is gone


def test_purge_keeps_the_state_of_pods(in_use: Root) -> None:
    record = at(in_use, "/var/lib/cni/macvlan-egress/attachments/pod@eth0.json")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("{}")
    run(in_use, "macvlan-egress", "uninstall", "--executable")
    dpkg(in_use, "--purge", NAME)
    assert record.exists()


def test_purge_keeps_what_another_installation_uses(in_use: Root) -> None:
    at(in_use, EXECUTABLE).write_text("#!/usr/bin/python3\nimport elsewhere\n")
    log = at(in_use, "/var/log/macvlan-egress.log")
    log.touch()
    dpkg(in_use, "--purge", NAME)
    assert log.exists()
    assert list(at(in_use, "/var/lib/cni/macvlan-egress").rglob("*.json"))


def test_upgrade_brings_the_runtimes_executable_along(in_use: Root) -> None:
    command = at(in_use, "/usr/bin/macvlan-egress").read_text()
    at(in_use, EXECUTABLE).write_text(command.replace("/python3.", "/python2."))
    at(in_use, f"{EXECUTABLE}-direct").write_text("#!/bin/sh\n# somebody else's\n")
    dpkg(in_use, "--install", "/tmp/package.deb")
    assert at(in_use, EXECUTABLE).read_text() == command
    assert at(in_use, EXECUTABLE).stat().st_mode & 0o777 == 0o755
    assert at(in_use, f"{EXECUTABLE}-direct").read_text() == "#!/bin/sh\n# somebody else's\n"
    run(in_use, EXECUTABLE, stdin=ENTRY, CNI_COMMAND="DEL", **GONE)
    assert sorted(path.name for path in at(in_use, "/opt/cni/bin").iterdir()) == [
        "macvlan-egress", "macvlan-egress-direct",
    ]  # fmt: skip


def test_upgrade_restarts_what_runs(in_use: Root, systemd: Path) -> None:
    run(in_use, *WITH_SYSTEMD, "dpkg", "--no-triggers", "--install", "/tmp/package.deb")
    assert systemd.read_text().splitlines()[-2:] == [
        "daemon-reload",
        "try-restart macvlan-egress.service macvlan-egress-policy.service",
    ]


def test_removal_stops_what_runs(in_use: Root, systemd: Path) -> None:
    run(in_use, "macvlan-egress", "uninstall", "--executable")
    run(in_use, *WITH_SYSTEMD, "dpkg", "--no-triggers", "--remove", NAME)
    assert systemd.read_text().splitlines() == [f"disable --now {UNITS}", "daemon-reload"]


def test_it_stays_while_the_native_launcher_needs_its_daemon(in_use: Root, systemd: Path) -> None:
    run(in_use, "macvlan-egress", "uninstall", "--executable")
    run(in_use, "macvlan-egress", "launcher", "--native", "--no-direct", "--write", "/opt/cni/bin")
    at(in_use, "/tmp/daemon-runs").touch()
    done = in_use.run(*WITH_SYSTEMD, "dpkg", "--no-triggers", "--remove", NAME)
    assert done.returncode != 0
    assert "needs this package's daemon" in done.stderr
    at(in_use, "/tmp/daemon-runs").unlink()  # whose launcher it is, is not known; not this daemon's
    run(in_use, *WITH_SYSTEMD, "dpkg", "--no-triggers", "--remove", NAME)
