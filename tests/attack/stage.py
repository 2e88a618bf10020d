"""What attackers of the node have in common: a lab for all tests of a module, and a user without any privilege."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab import Answer, Node, Request, within

NOBODY = 65534
# An interpreter that any user may execute.
PYTHON = "/usr/bin/python3"
# Nothing of what is tried takes half as long, unless it hangs.
SECONDS = 30
OFF = {"conflictDetection": "off"}


def as_nobody(program: str, *arguments: str, stdin: bytes = b"") -> str:
    """What a Python program of an unprivileged user prints."""
    done = subprocess.run(
        [PYTHON, "-I", "-c", program, *arguments],
        user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", input=stdin, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@contextmanager
def open_to_all(path: str | Path) -> Iterator[None]:
    """Let everybody look into the directories that lead to a path, so that only its own mode keeps them out."""
    with ExitStack() as stack:
        for parent in Path(path).parents:
            mode = stat.S_IMODE(parent.stat().st_mode)
            if mode & 0o055 != 0o055:
                parent.chmod(mode | 0o055)
                stack.callback(parent.chmod, mode)
        yield


def executed(
    node: Node, verb: str, request: Request, *, environment: dict[str, str] | None = None, cwd: str = "/"
) -> Answer:
    """A call with more in its environment than it should have, or in a directory where it should not be."""
    variables = {"CNI_COMMAND": verb, "CNI_PATH": node.bin_dir, **request.environment, **(environment or {})}
    variables.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    program = f"{node.bin_dir}/macvlan-egress"
    done = within(
        node.path,
        lambda: subprocess.run(
            [program],
            env=variables,
            input=request.stdin.encode(),
            cwd=cwd,
            capture_output=True,
            check=False,
            timeout=SECONDS,
        ),
    )
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode()).check()


def command(node: Node, *words: str, environment: dict[str, str] | None = None, cwd: str = "/") -> str:
    """What an admin command prints, whatever its exit status."""
    full = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})}
    program = f"{node.bin_dir}/macvlan-egress"
    done = within(
        node.path,
        lambda: subprocess.run(
            [program, *words], env=full, cwd=cwd, capture_output=True, check=False, timeout=SECONDS
        ),
    )
    assert b"Traceback" not in done.stderr, done.stderr
    return (done.stdout + done.stderr).decode()


def status(node: Node) -> str:
    """What `status` prints for people."""
    return command(node, "status", "--state-dir", node.state_dir, "--run-dir", node.run_dir)


def log_lines(node: Node) -> list[dict[str, object]]:
    """The log, which is a JSON object a line, whatever is in it."""
    with open(node.log_file, "rb") as file:
        lines = file.read().split(b"\n")
    assert lines.pop() == b""
    for line in lines:
        assert all(32 <= byte < 127 for byte in line), line
    return [json.loads(line) for line in lines]


def assert_printable(text: str) -> None:
    """A terminal would obey nothing that is in it."""
    assert all(one.isprintable() for one in text.split("\n")), repr(text)
