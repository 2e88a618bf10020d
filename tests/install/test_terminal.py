"""What an admin sees on a terminal: colours, folded lines, a question."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

from .installing import CHAIN, SECONDS, Directory, normalised

COLOUR = re.compile(r"\033\[(\d*)m")
ONE_LINE = '{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"calico","note":"' + "x" * 300 + '"}]}'


class Terminal:
    """A pseudo-terminal of some width, on which a command runs."""

    def __init__(self, columns: int, **variables: str) -> None:
        self._environment = {**os.environ, "TERM": "xterm", **variables}
        for name in {"NO_COLOR", "COLUMNS", "LINES"} - variables.keys():
            self._environment.pop(name, None)
        self._size = struct.pack("HHHH", 24, columns, 0, 0)

    def run(self, directory: Directory, *words: str, typed: str = "") -> tuple[int, str]:
        """Exit status and what was on the screen."""
        ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, self._size)
            process = subprocess.Popen(
                [directory.executable, *directory.words(*words)],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=self._environment,
            )
            os.close(theirs)
            os.write(ours, typed.encode())
            screen = self._read(ours)
            return process.wait(SECONDS), screen
        finally:
            os.close(ours)

    @staticmethod
    def _read(fd: int) -> str:
        data = b""
        while True:
            try:
                data += os.read(fd, 1 << 16)
            except OSError:  # the other end is closed
                return data.decode().replace("\r\n", "\n")


def dry_run(directory: Directory, terminal: Terminal) -> str:
    status, screen = terminal.run(directory, "install", "--namespaces", "egress", "--dry-run")
    assert status == 0, screen
    return screen


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("text", [CHAIN, ONE_LINE], ids=["spread", "one line"])
def test_lines_fit_the_terminal(node_directory: Directory, columns: int, text: str) -> None:
    node_directory.put("10-a.conflist", text)
    screen = dry_run(node_directory, Terminal(columns))
    lines = [COLOUR.sub("", line) for line in screen.split("\n")]
    assert max(map(len, lines)) <= columns
    assert any(len(line) > 80 for line in lines) == (columns == 200)  # the width is used as well
    seen = "".join(line[2:] if line.startswith("  x") else line for line in lines)
    assert ("x" * 300 in seen) == (text == ONE_LINE)  # nothing is cut off


def test_diff_is_coloured_on_a_terminal(node_directory: Directory) -> None:
    node_directory.put("10-a.conflist", CHAIN)
    screen = dry_run(node_directory, Terminal(200))
    assert '\033[32m+      "allow": [{"namespaces": ["egress"]}]\033[0m' in screen
    assert '\033[31m-    {"type": "calico"}\033[0m' in screen
    assert {"1", "36", "32", "31", "0"} == set(COLOUR.findall(screen))


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
@pytest.mark.parametrize("columns", [80, 200])
def test_diff_is_plain_where_colours_are_not_wanted(
    node_directory: Directory, variables: dict[str, str], columns: int
) -> None:
    node_directory.put("10-a.conflist", CHAIN)
    screen = dry_run(node_directory, Terminal(columns, **variables))
    assert '+      "allow": [{"namespaces": ["egress"]}]' in screen
    assert "\033" not in screen


def test_diff_for_a_program_is_plain_and_not_folded(node_directory: Directory) -> None:
    node_directory.put("10-a.conflist", ONE_LINE)
    status, output = node_directory.execute("install", "--namespaces", "egress", "--dry-run")
    assert status == 0
    assert "\033" not in output
    assert f"-{ONE_LINE}\n\\ No newline at end of file\n" in output


def test_diff_is_one_that_patch_understands(node_directory: Directory) -> None:
    path = node_directory.put("10-a.conflist", CHAIN)
    _, output = node_directory.execute("install", "--namespaces", "egress", "--dry-run")
    subprocess.run(["patch", "-s", str(path)], input=output, text=True, check=True, capture_output=True)
    by_patch = node_directory.text("10-a.conflist")
    node_directory.put("10-a.conflist", CHAIN)
    node_directory.install("--namespaces", "egress")
    assert by_patch == node_directory.text("10-a.conflist")


def test_control_characters_of_a_file_do_not_reach_the_terminal(node_directory: Directory) -> None:
    hostile = CHAIN.replace('"calico"', '"calico", "note": "\x9b31m\x7f\u202e"')
    node_directory.put("10-a.conflist", hostile)
    screen = dry_run(node_directory, Terminal(200, NO_COLOR="1"))
    assert r"\x9b31m\x7f\u202e" in screen
    assert all(one.isprintable() or one == "\n" for one in screen)


@pytest.mark.parametrize("columns", [80, 200])
def test_namespaces_are_asked_for(node_directory: Directory, columns: int) -> None:
    node_directory.put("10-a.conflist", CHAIN)
    status, screen = Terminal(columns).run(node_directory, "install", typed="egress, team-*\n")
    assert status == 0, screen
    assert "Pods of which namespaces" in screen
    assert node_directory.entry("10-a.conflist")["allow"] == [{"namespaces": ["egress", "team-*"]}]


def test_empty_answer_installs_nothing(node_directory: Directory) -> None:
    node_directory.put("10-a.conflist", CHAIN)
    status, screen = Terminal(80).run(node_directory, "install", typed="\n")
    assert status == 1
    assert "no namespace was named" in normalised(screen)
    assert node_directory.text("10-a.conflist") == CHAIN


def test_nothing_is_asked_that_is_known(node_directory: Directory) -> None:
    node_directory.put("10-a.conflist", CHAIN)
    node_directory.install("--namespaces", "egress")
    status, screen = Terminal(80).run(node_directory, "install")
    assert status == 0
    assert "Pods of which" not in screen
