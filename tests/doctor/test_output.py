"""How the doctor speaks: to a terminal, to a pipe, to a program; its exit status; and that it leaves no trace."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, Node, Pod, source
from lab.needed import REPOSITORY
from lab.node import MINIMAL_PATH

from cni_macvlan_egress.admin.examination.catalogue import AREAS, KINDS

from .patient import Patient, all_names

ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")
PROGRESS = """
import sys, time
from cni_macvlan_egress.admin import progress
progress._SECONDS = float(sys.argv[1])
with progress.Progress() as shown:
    shown.begin("the first thing")
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        pass
    shown.begin("the second thing")
print("the end")
"""
# What depends on the machine that the tests run on.
MACHINES_OWN = {"clock-synchronised", "run-dir-volatile"}


def on_terminal(argv: list[str], columns: int, **environment: str) -> tuple[str, int]:
    """Run a program on a terminal of a width; returns what is seen, and its exit status."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {"PATH": MINIMAL_PATH, "TERM": "xterm", "LANG": "C.UTF-8", **environment}
    with subprocess.Popen(argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        text = b"".join(_read(ours))
    os.close(ours)
    return text.decode().replace("\r\n", "\n"), process.returncode


def _read(fd: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(fd, 1 << 16)
        except OSError as error:  # the last one has closed the other side
            assert error.errno == errno.EIO
            return


@pytest.fixture
def ills(patient: Patient) -> Patient:
    """With some things wrong, so that there is something to say."""
    patient.chain(allow=None, master="a-name-that-is")
    return patient


# -- on a terminal


@pytest.mark.parametrize("columns", [80, 200])
def test_lines_keep_to_the_terminals_width(ills: Patient, well: Node, columns: int) -> None:
    text, status = on_terminal(ills.argv(well, "conflist", "nic", "runtime"), columns)
    assert status == 2
    lines = ESCAPE.sub("", text).split("\n")
    longest = max(map(len, lines))
    for line in lines:
        # A path is not cut: it would be no path any more.
        assert len(line) <= columns or len(line.split()) == 1, line
    assert longest > columns - 30
    assert "entry-allow: no pod may use the plugin" in ESCAPE.sub("", text)


def test_wider_terminal_needs_fewer_lines(ills: Patient, well: Node) -> None:
    narrow, wide = (on_terminal(ills.argv(well, "conflist"), columns)[0].count("\n") for columns in (60, 200))
    assert wide < narrow


def test_colours_on_a_terminal(ills: Patient, well: Node) -> None:
    text, _ = on_terminal(ills.argv(well, "conflist"), 80)
    assert "\x1b[31merror" in text
    assert "\x1b[32mok" in text


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_no_colours_where_nobody_wants_them(ills: Patient, well: Node, environment: dict[str, str]) -> None:
    text, _ = on_terminal(ills.argv(well, "conflist"), 80, **environment)
    assert "\x1b" not in text
    assert "error" in text


def test_terminal_without_unicode(ills: Patient, well: Node) -> None:
    text, status = on_terminal(ills.argv(well, "conflist"), 80, LANG="C", PYTHONUTF8="0")
    assert status == 2
    assert "error" in text


def test_progress_is_shown_and_wiped_away() -> None:
    text, _ = on_terminal([sys.executable, "-c", PROGRESS, "0.02"], 80, PYTHONPATH=str(REPOSITORY))
    first, second, end = (
        text.index(words) for words in ("looking at the first", "looking at the second", "the end")
    )
    assert first < second < end
    assert text[second:end].endswith("\r\x1b[K")


def test_no_progress_if_it_is_quick() -> None:
    text, _ = on_terminal([sys.executable, "-c", PROGRESS, "30"], 80, PYTHONPATH=str(REPOSITORY))
    assert text == "the end\n"


# -- elsewhere


def test_pipe_gets_one_line_a_thing_without_colours(ills: Patient, well: Node) -> None:
    done = ills.command(well, "conflist")
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    (line,) = [one for one in done.stdout.split("\n") if "entry-allow" in one]
    assert line == "  error    entry-allow: no pod may use the plugin: there is no 'allow'"
    assert done.stdout.endswith("\n1 error\n")


def test_reader_that_has_seen_enough(ills: Patient, well: Node) -> None:
    with subprocess.Popen(
        ills.argv(well, "conflist"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert b"Traceback" not in process.stderr.read()


def test_json_has_all_of_every_finding(ills: Patient, well: Node) -> None:
    done = ills.command(well, "--json", "conflist", "nic")
    document = json.loads(done.stdout)
    assert set(document) == {"severity", "findings"}
    assert document["severity"] == "error"
    for one in document["findings"]:
        assert set(one) == {"area", "id", "severity", "summary", "evidence", "cure"}
        assert one["area"] == KINDS[one["id"]].area
        assert one["area"] in AREAS
        assert one["severity"] in ("ok", "note", "warning", "error")
        assert one["severity"] == "ok" or (one["summary"] and one["evidence"] and one["cure"])
    assert {one["severity"] for one in document["findings"]} >= {"ok", "error"}


def test_quiet_leaves_out_what_is_well(ills: Patient, well: Node) -> None:
    shown = ills.command(well, "-q", "conflist").stdout
    assert "entry-allow" in shown
    assert "  ok " not in shown
    found = json.loads(ills.command(well, "-q", "--json", "conflist").stdout)["findings"]
    assert [one["id"] for one in found] == ["entry-allow"]


# -- the exit status


def test_status_is_0_for_notes(patient: Patient, well: Node) -> None:
    patient.conflist(disableCheck=None)
    done = patient.command(well, "conflist")
    assert "1 note" in done.stdout
    assert done.returncode == 0


def test_status_is_0_and_the_last_line_says_so(patient: Patient, well: Node) -> None:
    done = patient.command(well, "conflist", "nic")
    assert done.stdout.endswith("All is well.\n")
    assert done.returncode == 0


def test_status_is_1_for_warnings(patient: Patient, well: Node) -> None:
    patient.chain(routes="default")
    assert patient.command(well, "conflist").returncode == 1


def test_status_is_2_for_errors(ills: Patient, well: Node) -> None:
    assert ills.command(well, "conflist").returncode == 2


def test_area_that_there_is_not(patient: Patient, well: Node) -> None:
    done = patient.command(well, "conflists")
    assert done.returncode == 2
    assert "did you mean 'conflist'" in done.stderr


# -- the whole


@pytest.fixture
def pod(ill: Node) -> Iterator[Pod]:
    pod = ill.pod()
    ill.add(pod, source("192.168.12.99/24"), conf={"conflictDetection": "off"}).ok()
    yield pod
    pod.remove()


def test_node_that_works_is_well_and_stays_as_it_was(patient: Patient, ill: Node, pod: Pod) -> None:
    patient.chain(stateDir=ill.state_dir, runDir=ill.run_dir, logFile=ill.log_file)
    places = ("--state-dir", ill.state_dir, "--run-dir", ill.run_dir, "--log-file", ill.log_file)
    with patient.listening():
        before = ill.snapshot(), pod.snapshot(), all_names(patient.directory), all_names(Path(ill.directory))
        found = patient.report(ill, *places)
        after = ill.snapshot(), pod.snapshot(), all_names(patient.directory), all_names(Path(ill.directory))
    found.shows("nic-promiscuous", "note", "eth0")  # a veth has no filters for the macvlan's MAC address
    assert found.ills() - MACHINES_OWN == {"nic-promiscuous"}
    assert {KINDS[one.id].area for one in found} == set(AREAS) - {"examination"}
    assert after == before


def test_empty_node_is_examined_to_the_end(patient: Patient, ward: Lab, ill: Node) -> None:
    """Nothing that a check looks for is there."""
    shutil.rmtree(patient.root)
    patient.root.mkdir()
    ill.ip("link delete eth0")
    found = patient.report(ill)
    assert found.of("check-failed") == []
    assert found.ills() >= {"nic-choice", "runtime", "bin-dir", "cni-dir"}


def test_user_that_is_not_root_gets_what_can_be_had(patient: Patient, well: Node) -> None:
    shutil.copytree(REPOSITORY / "cni_macvlan_egress", patient.directory / "package/cni_macvlan_egress")
    patient.directory.chmod(0o755)
    (patient.cni_dir / "10-pods.conflist").chmod(0o600)
    argv = ["ip", "netns", "exec", well.name, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    argv += [sys.executable, "-m", "cni_macvlan_egress", "doctor", "--root", str(patient.root), "--json"]
    done = subprocess.run(
        argv, cwd=patient.directory / "package", capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    found = {one["id"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["privileges"]["severity"] == "note"
    for words in ("kernel features", "the CNI configuration files", "records of attachments"):
        assert words in found["privileges"]["evidence"]
    assert found["nic-choice"]["severity"] == "ok"
    assert found["runtime"]["severity"] == "ok"
    assert not {"check-failed", "conflist-invalid", "entry", "macvlan"} & set(found)
