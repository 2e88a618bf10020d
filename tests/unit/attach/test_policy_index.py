"""The index of policies is written by every ADD that reads the documents, several at once."""

from __future__ import annotations

import os
from pathlib import Path

from cni_macvlan_egress.attach.policy_state import PolicyState

WRITERS, TIMES = 4, 100


def write(run_dir: str, name: str) -> None:
    state = PolicyState(run_dir)
    for number in range(TIMES):
        state.save_index("/policies.d", f"{name}-{number}", ["shop"])


def test_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    children = []
    for number in range(WRITERS):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                write(str(tmp_path), str(number))
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * WRITERS
    first, *namespaces = (tmp_path / "policy/index").read_text().splitlines()
    assert first.startswith("/policies.d ")
    assert namespaces == ["shop"]
    assert [path.name for path in (tmp_path / "policy").iterdir()] == ["index"]
