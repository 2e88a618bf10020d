"""Everything that a call may leave behind: in the pod, on the node, in files, and in the processes that stay."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from lab import Namespace, Node, Pod
from lab.snapshot import _COMMANDS as COMMANDS
from lab.snapshot import SHOWN, Snapshot, differences, take

from .aiming import Runner

# Locks are a fixed few and stay; what the log and host-local's notebook say is another thing each time.
_STAY = (".lock", "plugin.log", "/lock", "last_reserved_ip.0")
_POLL_SECONDS, _POLLS = 0.02, 50
_QUESTIONS = 12


class Surroundings:
    """A node and some pods as they are now; `changes` says what is otherwise later."""

    def __init__(self, runner: Runner, node: Node, *pods: Pod) -> None:
        self._runner = runner
        self._node = node
        self._pods = pods
        self._before = self._look()
        self._descriptors = runner.descriptors()

    def changes(self, *, patient: bool = False) -> list[str]:
        """What has come and gone, and what has stayed that should not; none if all is as it was.

        Args:
            patient: wait until it is: what is in a namespace goes a moment after it.
        """
        found = _persistent(self._namespace_changes) if patient else self._namespace_changes()
        return [*found, *self._locked(), *_persistent(self._descriptor_changes)][:SHOWN]

    def _look(self) -> dict[str, Snapshot]:
        namespaces = {"node": self._node, **{f"pod {number}": pod for number, pod in enumerate(self._pods)}}
        with ThreadPoolExecutor(_QUESTIONS) as pool:
            asked = {name: _Asked(namespace, pool) for name, namespace in namespaces.items()}
            found = {name: take(cast(Namespace, one)) for name, one in asked.items()}
        found["node"]["files"] = _files(self._node.directory)
        return found

    def _namespace_changes(self) -> list[str]:
        return [
            f"{name}: {line}"
            for name, snapshot in self._look().items()
            for line in differences(self._before[name], snapshot)
        ]

    def _locked(self) -> list[str]:
        """Locks that somebody still holds."""
        return [f"{path} is locked" for path in _lock_files(self._node.run_dir) if _is_locked(path)]

    def _descriptor_changes(self) -> list[str]:
        """Processes that have more or less open than before; a worker that came later is like those before."""
        usual = list(self._descriptors.values())
        return [
            f"process {pid} has open {files}, not {self._descriptors.get(pid, usual[-1])}"
            for pid, files in self._runner.descriptors().items()
            if (files != self._descriptors[pid] if pid in self._descriptors else files not in usual)
        ]


class _Asked:
    """A namespace to which ip(8) has put all questions of a snapshot at once: waiting in turn takes far longer."""

    def __init__(self, namespace: Namespace, pool: ThreadPoolExecutor) -> None:
        self.path = namespace.path
        self._namespace = namespace
        self._answers = {one: pool.submit(namespace.show, one) for one in COMMANDS.values()}

    def show(self, command: str) -> list[dict[str, Any]]:
        """The answer that has come, or is asked for anew."""
        answer = self._answers.pop(command, None)
        return answer.result() if answer else self._namespace.show(command)


def _persistent(look: Callable[[], list[str]]) -> list[str]:
    """What does not go away by itself at once: a connection is closed after its answer has been read."""
    found: list[str] = []
    for _ in range(_POLLS):
        found = look()
        if not found:
            break
        time.sleep(_POLL_SECONDS)
    return found


def _files(directory: str) -> list[str]:
    """Every file, link and directory below a directory, with its mode and content."""
    found = []
    for folder, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            if path.endswith(_STAY):
                continue
            mode = f"{os.lstat(path).st_mode:o}"
            if os.path.islink(path):
                found.append(f"{path} {mode} -> {os.readlink(path)}")
            elif os.path.isdir(path):
                found.append(f"{path} {mode}")
            else:
                with open(path, errors="replace") as file:
                    found.append(f"{path} {mode}: {file.read()}")
    return sorted(found)


def _lock_files(directory: str) -> list[str]:
    return [entry.path for entry in os.scandir(directory) if entry.name.endswith(".lock")]


def _is_locked(path: str) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
