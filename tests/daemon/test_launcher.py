"""The native launcher beside a daemon that is absent, broken or hostile: an error that can be read, never a success."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cni_macvlan_egress.protocol.errors import NOT_AVAILABLE, TRY_AGAIN_LATER

from .impostor import HEAD, Conduct, answering, frame, impostor, take
from .running import MACHINE, emulator, make_launcher

SOURCE = Path(__file__).resolve().parents[2] / "launcher" / "macvlan-egress.c"
CONF = b'{"cniVersion": "0.4.0", "name": "n", "type": "macvlan-egress"}'
QUICK = 0.4  # seconds that a launcher waits which is not to be answered


class Launcher:
    """Runs launchers with a socket of the test.

    Args:
        machine: whose launcher it is; another one's runs in an emulator.
    """

    def __init__(self, directory: Path, machine: str = MACHINE) -> None:
        self._machine = machine
        self._program = directory / "launcher"
        self.socket = str(directory / "sock")

    def argv(self, *, direct: str = "", deadline: float = 20.0) -> list[str]:
        """A launcher with settings of its own, to be run."""
        program = make_launcher(
            self._program, self.socket, direct=direct, deadline=deadline, machine=self._machine
        )
        return [program] if self._machine == MACHINE else [emulator(self._machine), program]

    def run(
        self,
        verb: str | None = "ADD",
        stdin: bytes = CONF,
        *,
        deadline: float = 20.0,
        direct: str = "",
        redirections: str = "",
        variables: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        command = self.argv(direct=direct, deadline=deadline)
        if redirections:
            command = ["sh", "-c", f'exec "$0" "$@" {redirections}', *command]
        environment = {
            "PATH": "/usr/bin:/bin",
            **({"CNI_COMMAND": verb} if verb is not None else {}),
            **(variables or {}),
        }
        return subprocess.run(
            command, input=stdin, env=environment, capture_output=True, check=False, timeout=60
        )


@pytest.fixture(params=["x86_64", "aarch64"])
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Launcher:
    return Launcher(tmp_path, request.param)


def refused(
    done: subprocess.CompletedProcess[bytes], code: int = TRY_AGAIN_LATER, *words: str
) -> dict[str, Any]:
    """An error of the launcher's own, as the specification has it."""
    assert done.returncode == 1, done
    body = json.loads(done.stdout)
    assert set(body) == {"cniVersion", "code", "msg"}
    assert body["code"] == code, body
    for word in words:
        assert word in body["msg"], body
    assert done.stderr.decode() == f"macvlan-egress: {body['msg']}\n"
    return dict(body)


def executable(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


# -- a daemon that is away


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "GC", "VERSION", "nonsense"])
def test_missing_daemon_is_an_error_for_every_verb(launcher: Launcher, verb: str) -> None:
    body = refused(
        launcher.run(verb, deadline=QUICK), TRY_AGAIN_LATER, "does not answer", "No such file", "again later"
    )
    assert body["cniVersion"] == ("1.1.0" if verb == "VERSION" else "0.4.0")


def test_status_has_a_code_of_its_own(launcher: Launcher) -> None:
    refused(launcher.run("STATUS", deadline=QUICK), NOT_AVAILABLE, "does not answer")


def test_socket_that_nobody_listens_at_is_an_error(launcher: Launcher) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(launcher.socket)
    refused(launcher.run(deadline=QUICK), TRY_AGAIN_LATER, "Connection refused")


def test_missing_daemon_is_waited_for_a_moment(launcher: Launcher) -> None:
    def start_late() -> None:
        time.sleep(0.3)
        with impostor(launcher.socket, answering(frame(b"{}"))):
            done.wait(20)

    done = threading.Event()
    late = threading.Thread(target=start_late)
    late.start()
    try:
        assert launcher.run().stdout == b"{}"
    finally:
        done.set()
        late.join()


def test_missing_daemon_is_replaced_by_direct_mode(launcher: Launcher, tmp_path: Path) -> None:
    direct = executable(tmp_path / "direct", 'echo "$CNI_COMMAND $EXTRA"; cat; exit 3')
    big = CONF + b" " * 300_000
    done = launcher.run(stdin=big, direct=direct, variables={"EXTRA": "a=b\nc"})
    assert (done.returncode, done.stdout) == (3, b"ADD a=b\nc\n" + big)
    assert launcher.run("VERSION", b"not read", direct=direct).stdout == b"VERSION \nnot read"


def test_direct_mode_that_is_missing_too_is_an_error(launcher: Launcher, tmp_path: Path) -> None:
    refused(launcher.run("DEL", direct=str(tmp_path / "none")), TRY_AGAIN_LATER, "does not answer")


def test_without_a_verb_it_is_the_command_line_of_direct_mode(launcher: Launcher, tmp_path: Path) -> None:
    direct = executable(tmp_path / "direct", "echo command line; exit 4")
    done = launcher.run(None, direct=direct)
    assert (done.returncode, done.stdout) == (4, b"command line\n")
    done = launcher.run(None)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"CNI_COMMAND" in done.stderr


# -- a daemon that breaks off


def close_unread(_: socket.socket) -> None:
    """As a listener does that is closed with callers in its queue."""


def read_a_little(connection: socket.socket) -> None:
    connection.recv(HEAD.size)


def read_all(connection: socket.socket) -> None:
    take(connection)


@pytest.mark.parametrize("first", [close_unread, read_a_little])
def test_call_that_was_not_read_is_made_again(launcher: Launcher, first: Conduct) -> None:
    with impostor(launcher.socket, first, first, answering(frame(b'{"cniVersion": "0.4.0"}'))):
        done = launcher.run()
    assert (done.returncode, done.stdout) == (0, b'{"cniVersion": "0.4.0"}')


def test_call_that_was_not_read_goes_direct_when_the_daemon_is_away_then(
    launcher: Launcher, tmp_path: Path
) -> None:
    def vanish(_: socket.socket) -> None:
        os.unlink(launcher.socket)

    with impostor(launcher.socket, vanish):
        done = launcher.run(direct=executable(tmp_path / "direct", "cat"))
    assert (done.returncode, done.stdout) == (0, CONF)


def test_call_that_may_have_begun_is_not_made_again(launcher: Launcher, tmp_path: Path) -> None:
    direct = executable(tmp_path / "direct", "echo direct")
    for conduct in (
        read_all,
        answering(frame(b"{}")[:7]),
        answering(frame(b'{"a": 1}')[:-3]),
        answering(b"x"),
    ):
        with impostor(launcher.socket, conduct, answering(frame(b"twice"))):
            refused(launcher.run("DEL", direct=direct), TRY_AGAIN_LATER, "daemon")
        os.unlink(launcher.socket)


# -- a daemon that answers nonsense


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (frame(b"{}", magic=b"HTTP"), "another version"),
        (frame(b"{}", version=2), "another version"),
        (frame(b"", status=1), "no sense"),
        (frame(b"{}", status=256), "no sense"),
        (HEAD.pack(b"MVEG", 1, 0, 1 << 31, 0), "no sense"),
        (HEAD.pack(b"MVEG", 1, 0, 0, (16 << 20) + 1), "no sense"),
        (HEAD.pack(b"MVEG", 1, 0, 16 << 20, 16 << 20) + b"{}", "too early"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_nonsense_is_an_error_and_no_success(launcher: Launcher, verb: str, data: bytes, word: str) -> None:
    with impostor(launcher.socket, answering(data)):
        refused(launcher.run(verb), TRY_AGAIN_LATER, word)


def test_answer_in_drips_is_put_together(launcher: Launcher) -> None:
    def drip(connection: socket.socket) -> None:
        take(connection)
        for byte in frame(b'{"code": 7}', b"words\n", status=1):
            connection.sendall(bytes((byte,)))
            time.sleep(0.002)

    with impostor(launcher.socket, drip):
        done = launcher.run()
    assert (done.returncode, done.stdout, done.stderr) == (1, b'{"code": 7}', b"words\n")


def test_answer_that_does_not_come_is_an_error_in_the_end(launcher: Launcher) -> None:
    silent = threading.Event()

    def wait(connection: socket.socket) -> None:
        take(connection)
        silent.wait(30)

    with impostor(launcher.socket, wait):
        refused(launcher.run("DEL", deadline=QUICK), TRY_AGAIN_LATER, "gave no answer", "timed out")
        silent.set()


def test_drips_do_not_outlast_the_deadline(launcher: Launcher) -> None:
    heard = threading.Event()

    def drip(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(HEAD.pack(b"MVEG", 1, 0, 1 << 20, 0))
        while not heard.wait(0.05):
            connection.sendall(b"x")

    with impostor(launcher.socket, drip):
        refused(launcher.run(deadline=QUICK), TRY_AGAIN_LATER, "too early")
        heard.set()


def test_full_queue_is_waited_for_and_then_an_error(launcher: Launcher) -> None:
    with impostor(launcher.socket, backlog=0), socket.socket(socket.AF_UNIX) as waiting:
        # One is let in beyond the queue's length.
        waiting.connect(launcher.socket)
        refused(launcher.run(deadline=QUICK), TRY_AGAIN_LATER, "temporarily unavailable")


def test_daemon_that_does_not_read_is_an_error(launcher: Launcher) -> None:
    with impostor(launcher.socket, backlog=4):
        refused(launcher.run(stdin=CONF + b" " * (4 << 20), deadline=QUICK), TRY_AGAIN_LATER)


# -- what it passes on


def test_request_holds_environment_and_stdin(launcher: Launcher) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def remember(connection: socket.socket) -> None:
        seen.append(take(connection))
        connection.sendall(frame(b"{}"))

    big = CONF + b" " * (1 << 20)
    with impostor(launcher.socket, remember, remember):
        launcher.run("ADD", big, variables={"CNI_ARGS": "a=b;c=\u00e9\n", "EMPTY": ""})
        launcher.run("VERSION", CONF)
    (environment, stdin), (_, nothing) = seen
    assert {b"CNI_COMMAND=ADD", "CNI_ARGS=a=b;c=é\n".encode(), b"EMPTY="} <= set(environment.split(b"\0"))
    assert stdin == big
    assert nothing == b""


def test_huge_environment_is_passed_on(launcher: Launcher) -> None:
    seen: list[int] = []

    def measure(connection: socket.socket) -> None:
        seen.append(len(take(connection)[0]))
        connection.sendall(frame(b"{}"))

    with impostor(launcher.socket, measure):
        assert launcher.run(variables={f"V{number}": "x" * 100_000 for number in range(15)}).returncode == 0
    assert seen[0] > 1_500_000


def test_more_stdin_than_the_plugin_takes_is_not_waited_for(launcher: Launcher) -> None:
    seen: list[int] = []

    def measure(connection: socket.socket) -> None:
        seen.append(len(take(connection)[1]))
        connection.sendall(frame(b'{"code": 6}', status=1))

    argv = launcher.argv()
    with impostor(launcher.socket, measure):
        process = subprocess.Popen(
            argv,
            env={"CNI_COMMAND": "ADD"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin
        assert process.stdout
        # The writer goes on and never ends.
        process.stdin.write(b"x" * ((8 << 20) + 1))
        process.stdin.flush()
        assert process.stdout.read() == b'{"code": 6}'
        assert process.wait(10) == 1
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream
            stream.close()
    assert seen == [(8 << 20) + 1]


def test_version_does_not_wait_for_stdin(launcher: Launcher) -> None:
    argv = launcher.argv()
    out, into = os.pipe()
    try:
        with impostor(launcher.socket, answering(frame(b"{}"))):
            done = subprocess.run(
                argv,
                env={"CNI_COMMAND": "VERSION"},
                stdin=out,
                capture_output=True,
                check=False,
                timeout=20,
            )
        assert (done.returncode, done.stdout) == (0, b"{}")
    finally:
        os.close(out)
        os.close(into)


def test_stdin_that_does_not_end_is_an_error_in_the_end(launcher: Launcher) -> None:
    argv = launcher.argv(deadline=QUICK)
    out, into = os.pipe()
    try:
        os.write(into, CONF)
        done = subprocess.run(
            argv, env={"CNI_COMMAND": "DEL"}, stdin=out, capture_output=True, check=False, timeout=20
        )
        refused(done, TRY_AGAIN_LATER, "stdin cannot be read")
    finally:
        os.close(out)
        os.close(into)


def test_unreadable_stdin_is_an_error(launcher: Launcher) -> None:
    refused(launcher.run(redirections="</"), 5, "stdin cannot be read", "directory")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_not_mistaken_for_the_connection(launcher: Launcher, closed: str) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def remember(connection: socket.socket) -> None:
        seen.append(take(connection))
        connection.sendall(frame(b'{"a": 1}', b"words\n"))

    with impostor(launcher.socket, remember) as errors:
        done = launcher.run(redirections=closed)
    assert errors == []
    assert seen[0][1] == (b"" if "<" in closed else CONF)
    if closed in ("<&-", "2>&-"):
        assert (done.returncode, done.stdout) == (0, b'{"a": 1}')
    else:
        assert (done.returncode, done.stdout) == (1, b"")
    if closed == ">&-":
        assert (
            done.stderr == b"macvlan-egress: cannot write the answer to stdout: Bad file descriptor\nwords\n"
        )


def test_direct_mode_finds_descriptors_as_they_were(launcher: Launcher, tmp_path: Path) -> None:
    direct = executable(tmp_path / "direct", "readlink /proc/self/fd/1 >&2; ls /proc/self/fd >&2")
    done = launcher.run(direct=direct, redirections=">&-")
    assert b"/dev/null" not in done.stderr


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (b'{"cniVersion":"1.0.0"}', "1.0.0"), (b'{ "cniVersion"\n :\t"0.3.1" }', "0.3.1"), (b"{}", "1.1.0"),
        (b'{"cniVersion": "1.0.0\\"}, \\"x\\": \\""}', "1.1.0"), (b'{"cniVersion": "9.9.9"}', "1.1.0"),
        (b'{"cniVersion": "1.0', "1.1.0"), (b'{"cniVersion"', "1.1.0"), (b'"cniVersion": \x00"1.0.0"', "1.1.0"),
        (b"", "1.1.0"),
    ],
)  # fmt: skip
def test_errors_are_valid_whatever_version_is_asked(launcher: Launcher, text: bytes, version: str) -> None:
    assert refused(launcher.run(stdin=text, deadline=QUICK))["cniVersion"] == version


def test_being_stopped_for_a_while_harms_nothing(launcher: Launcher) -> None:
    argv = launcher.argv()
    taken, go_on = threading.Event(), threading.Event()

    def wait(connection: socket.socket) -> None:
        take(connection)
        taken.set()
        go_on.wait(20)
        connection.sendall(frame(b"{}"))

    with impostor(launcher.socket, wait):
        process = subprocess.Popen(
            argv, env={"CNI_COMMAND": "VERSION"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert taken.wait(20)
        for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGWINCH):
            os.kill(process.pid, number)
        go_on.set()
        assert process.communicate(timeout=20)[0] == b"{}"
        assert process.returncode == 0


# -- the program itself


@pytest.mark.parametrize(
    "options", [["-O2"], ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]]
)
def test_it_compiles_without_a_warning(tmp_path: Path, options: list[str]) -> None:
    flags = [*options, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion"]
    done = subprocess.run(
        ["cc", *flags, "-o", str(tmp_path / "out"), str(SOURCE)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_needs_no_library(launcher: Launcher) -> None:
    done = subprocess.run(["readelf", "-ld", launcher.argv()[-1]], capture_output=True, text=True, check=True)
    assert "INTERP" not in done.stdout
    assert "NEEDED" not in done.stdout
