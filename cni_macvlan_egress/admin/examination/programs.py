"""Runs programs of the node to hear what they say of themselves."""

from __future__ import annotations

import subprocess

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 10.0


def ask(path: str, *words: str, root: str = "/", variables: dict[str, str] | None = None) -> tuple[bool, str]:
    """Whether it succeeds, and what it prints, or else why it says nothing.

    Args:
        path: as it is seen from here.
        root: where the node's file system is mounted; a program below it runs there, with what is there.
    """
    command = [path]
    if root != "/" and path.startswith(f"{root}/"):
        command = ["chroot", root, path.removeprefix(root)]
    try:
        done = subprocess.run(
            [*command, *words],
            env={"PATH": PATH, **(variables or {})},
            input=b"{}",
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    output = done.stdout.decode(errors="replace").strip()
    if done.returncode == 0 and output:
        return True, output
    said = (output or done.stderr.decode(errors="replace").strip()).rpartition("\n")[2]
    return False, f"exit status {done.returncode}: {said or 'no answer'}"
