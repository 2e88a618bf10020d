"""The door as a process: whatever its file descriptors and environment are, there is an answer and an exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from cni_macvlan_egress import entry
from cni_macvlan_egress.protocol.errors import INVALID_CONFIGURATION, INVALID_ENVIRONMENT, TABLE

from .calls import configuration, variables

PACKAGE_ROOT = str(Path(entry.__file__).resolve().parent.parent)
# The log's usual place is the node's; the rest is what an installed launcher does.
LAUNCH = f"""
import sys
sys.path += {[PACKAGE_ROOT, sysconfig.get_paths()["purelib"]]!r}
from cni_macvlan_egress.model import keys
keys.DEFAULT_LOG_FILE = sys.argv.pop()
from cni_macvlan_egress.entry import launch
launch()
"""
FAULTY = configuration(mastr=1)


class Process:
    """Runs the plugin as a process, started by a shell with redirections."""

    def __init__(self, directory: Path) -> None:
        self.log_file = directory / "log"

    def run(
        self, environment: dict[str, str], document: object = FAULTY, redirections: str = ""
    ) -> subprocess.CompletedProcess[str]:
        python = [sys.executable, "-IBS", "-c", LAUNCH, str(self.log_file)]
        command = ["sh", "-c", f'exec "$@" {redirections}', "sh", *python]
        raw = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
        return subprocess.run(
            command, env=raw, input=json.dumps(document), capture_output=True, text=True, check=False
        )


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


@pytest.mark.parametrize("redirections", ["", "2>&-", "2>/dev/full"])
def test_process_answers_whatever_its_stderr_is(process: Process, redirections: str) -> None:
    done = process.run({"CNI_COMMAND": "VERSION"}, redirections=redirections)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["cniVersion"] == "1.1.0"
    done = process.run(variables("ADD"), redirections=redirections)
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == INVALID_CONFIGURATION
    assert "Traceback" not in done.stderr
    assert process.log_file.exists()


@pytest.mark.parametrize(
    "environment", [{"CNI_COMMAND": "VERSION"}, variables("ADD")], ids=["answer", "error"]
)
def test_answer_that_cannot_be_written_is_a_failure(process: Process, environment: dict[str, str]) -> None:
    done = process.run(environment, redirections=">/dev/full")
    assert done.returncode != 0
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_process_without_stdin_answers_with_an_error(process: Process) -> None:
    done = process.run(variables("ADD"), redirections="<&-")
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] in TABLE


def test_environment_that_is_not_utf8_is_refused_and_not_stumbled_over(process: Process) -> None:
    done = process.run(variables("ADD", CNI_CONTAINERID="\udcff", OTHER="\udcfe"))
    assert done.returncode == 1
    body = json.loads(done.stdout)
    assert body["code"] == INVALID_ENVIRONMENT
    assert "CNI_CONTAINERID" in body["msg"]


def test_without_a_verb_it_is_the_command_line(process: Process) -> None:
    done = process.run({})
    assert done.returncode == 2
    assert "usage: macvlan-egress" in done.stdout


def test_module_and_console_script_are_the_same_door() -> None:
    for code in (
        "import runpy; runpy.run_module('cni_macvlan_egress', run_name='__main__')",
        "import sys; from cni_macvlan_egress.entry import script; sys.exit(script())",
    ):
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env={"CNI_COMMAND": "VERSION"}, cwd=PACKAGE_ROOT, capture_output=True, check=False
        )
        assert done.returncode == 0
        assert json.loads(done.stdout)["cniVersion"] == "1.1.0"
