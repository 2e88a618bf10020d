"""Where the plugin keeps its files. Light: DEL of an unannotated pod asks only whether a record exists."""

from __future__ import annotations

from ..protocol import environment
from ..protocol.errors import INVALID_CONFIGURATION, CniError


def record(state_dir: str, container_id: str, ifname: str) -> str:
    """The state file of one attachment; `@` cannot occur in a container ID."""
    return f"{state_dir}/attachments/{container_id}@{ifname}.json"


def unfinished(path: str) -> str:
    """Where a file is written before it gets its name: always the same place, so that a kill leaves at most one."""
    parent, _, name = path.rpartition("/")
    return f"{parent}/.{name}.tmp"


def pod_note(run_dir: str, container_id: str, ifname: str) -> str:
    """What is known of a pod for the sake of policies."""
    return f"{run_dir}/policy/pods/{container_id}@{ifname}.json"


def policy_mark(run_dir: str, container_id: str, ifname: str) -> str:
    """An empty file that says: rules on the node concern this attachment."""
    return f"{run_dir}/policy/enforced/{container_id}@{ifname}"


def policy_index(run_dir: str) -> str:
    """Which namespaces have a policy, and of which state of the directory that is true."""
    return f"{run_dir}/policy/index"


def directory(value: object, key: str, default: str) -> str:
    """A directory of the configuration, or its default.

    Raises:
        CniError: INVALID_CONFIGURATION.
    """
    if value is None:
        return default
    if not isinstance(value, str) or not environment.is_absolute(value):
        raise CniError(INVALID_CONFIGURATION, f"{key}: {value!r} is not an absolute path")
    return value.rstrip("/") or "/"
