"""The demo as a user runs it: it shows what happens, judges it, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Namespace, unchanged, within

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "cni_macvlan_egress", "demo"]
TIMEOUT_SECONDS = 60
WIDTH = 80

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the demo makes network namespaces")
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def host() -> Iterator[Namespace]:
    """What the demo takes for the host: a namespace that nobody else changes."""
    namespace = Namespace(f"cme-{secrets.token_hex(3)}-host")
    try:
        yield namespace
    finally:
        namespace.remove()


@pytest.fixture
def start(host: Namespace, tmp_path: Path) -> Iterator[Start]:
    """Starts demos, whose temporary directories lie below the test's; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        process = within(
            host.path,
            lambda: subprocess.Popen(
                [*DEMO, *arguments],
                cwd=REPOSITORY,
                env={**os.environ, "TMPDIR": str(tmp_path)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                # Tests run in the background of a shell ignore Ctrl-C, and a child would inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            ),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def namespaces_of(process: subprocess.Popen[str]) -> list[str]:
    """The names of a demo's namespaces in `ip netns list`."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.startswith(f"macvlan-egress-demo-{process.pid}-")]


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {TIMEOUT_SECONDS} s: {what}"
        select.select([], [], [], 0.005)


def test_demo_shows_the_pod_on_the_lan_and_clears_away(start: Start, host: Namespace, tmp_path: Path) -> None:
    with unchanged(host):
        process = start()
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, stderr) == (0, ""), stdout + stderr
    assert "✗" not in stdout
    for what, seen in (
        (r"plain → 10\.96\.0\.50 → egress: outside sees", r"192\.168\.12\.99"),
        (r"egress itself: outside sees", r"192\.168\.12\.99"),
        (r"plain: outside sees", r"10\.88\.0\.3"),
        (r"router → 192\.168\.12\.99: the pod answers", r"nothing.*"),
    ):
        assert re.search(rf"✓ {what} +{seen}$", stdout, re.MULTILINE)
    assert re.search(r"4000 udp 203\.0\.113\.25: [1-9]\d* flow", stdout)
    assert "ARP announce 192.168.12.99" in stdout
    assert "\033" not in stdout, "colour without a terminal"
    assert max(len(line) for line in stdout.splitlines()) < WIDTH
    assert not namespaces_of(process)
    assert not list(tmp_path.iterdir())


def test_json_lists_steps_and_packets(start: Start) -> None:
    process = start("--json")
    stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    document = json.loads(stdout)
    assert (process.returncode, stderr, document["passed"]) == (0, "", True)
    assert {"ADD", "Packets", "CHECK", "DEL"} <= {step["scene"] for step in document["steps"]}
    assert all(step["passed"] for step in document["steps"])
    (mac,) = {packet["mac"] for packet in document["packets"] if packet["source"] == "192.168.12.99"}
    assert any(step["found"] == mac for step in document["steps"] if "pod's own MAC" in step["what"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["building", "calling the plugin"])
def test_demo_that_is_stopped_leaves_nothing(
    start: Start, tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    process = start()
    if moment == "building":
        wait_for(lambda: namespaces_of(process), "a namespace")
    else:
        wait_for(lambda: list(tmp_path.glob("*/state/attachments/*.json")), "a state file of the ADD")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 128 + number, stderr
    assert number.name in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.iterdir())
    assert not namespaces_of(process)


def test_demo_whose_reader_leaves_clears_away(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start()
    assert process.stdout
    assert process.stdout.readline() == "\n"
    process.stdout.close()
    process.wait(TIMEOUT_SECONDS)
    assert not namespaces_of(process)
    assert not list(tmp_path.iterdir())


def test_without_root_one_line_says_what_to_do() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", *DEMO],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "sudo" in done.stderr


def test_kernel_without_macvlan_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cni_macvlan_egress.admin import command_line
    from cni_macvlan_egress.admin.theatre.namespace import Namespace
    from cni_macvlan_egress.kernel.netlink import KernelError

    real = Namespace.configure

    def without_macvlan(self: Namespace, what: str, work: Callable[[object], object]) -> object:
        if "macvlan" in what:
            raise KernelError(what, 95, "")
        return real(self, what, work)

    monkeypatch.setattr(Namespace, "configure", without_macvlan)
    assert command_line.main(["demo"]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "modprobe macvlan" in err
