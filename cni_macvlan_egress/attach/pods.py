"""The pods of a node as far as policies are concerned: every one that came by, whether a policy holds for it or not.

A policy may come after the pod. So each leaves a note, in the run-time directory, which a reboot empties as it ends
the pods; nothing is synced to the disk. Light: an unannotated pod's ADD writes its note without any heavy import.
"""

from __future__ import annotations

import posix

from ..model import keys
from ..protocol.errors import IO_FAILURE, CniError
from . import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..protocol.call import Call

# In the place of a MAC address that the main CNI does not tell.
UNKNOWN = "?"
_INDEX_MAX = 1 << 20


def note(call: Call, identity: tuple[int, int] | None = None) -> None:
    """Write down who an ADD is for, and which addresses its main interface has.

    Args:
        identity: device and inode of the namespace where it is open already; its path may lead elsewhere by now.

    Raises:
        CniError: IO_FAILURE.
    """
    from _json import encode_basestring_ascii as quote

    env = call.environment
    device, inode = identity or _identity(env.netns)
    mac, addresses = main_interface(call)
    fields = (
        ("network", call.network),
        ("containerID", env.container_id),
        ("ifname", env.ifname),
        ("namespace", env.args.get("K8S_POD_NAMESPACE", "")),
        ("name", env.args.get("K8S_POD_NAME", "")),
        ("netns", env.netns),
        ("mac", mac),
    )
    # By hand, with json's own quoting in C: the package would cost as much as all else here.
    parts = [f"{quote(name)}:{quote(value)}" for name, value in fields]
    parts.append(f'"netnsDevice":{device},"netnsInode":{inode}')
    parts.append(f'"addresses":[{",".join(map(quote, addresses))}]')
    text = "{" + ",".join(parts) + "}"
    path = paths.pod_note(run_dir(call), env.container_id, env.ifname)
    try:
        _make_parents(path)
        _write(path, text.encode())
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot write {path}: {error.strerror}") from None


def marked(run_dir: str, key: str) -> bool:
    """Whether rules on the node concern an attachment."""
    container_id, _, ifname = key.partition("@")
    try:
        posix.lstat(paths.policy_mark(run_dir, container_id, ifname))
    except OSError:
        return False  # as os.path.lexists() sees it
    return True


def is_free(call: Call) -> bool:
    """Whether it is certain, without reading any document, that no policy holds for the pod of an ADD."""
    policy = call.configuration.get("policy")
    namespace = call.environment.args.get("K8S_POD_NAMESPACE")
    if not isinstance(policy, dict) or policy.get("kubernetes"):
        return False
    if not namespace:
        return True
    directory = policy.get("directory") or keys.DEFAULT_POLICY_DIRECTORY
    if not isinstance(directory, str) or not directory.startswith("/"):
        return False
    from ..sources.policy_directory import fingerprint

    try:
        flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
        fd = posix.open(paths.policy_index(run_dir(call)), flags)
        try:
            text = posix.read(fd, _INDEX_MAX).decode()
        finally:
            posix.close(fd)
        known, _, namespaces = text.partition("\n")
        return (
            known == f"{directory} {fingerprint(directory)}" and f"\n{namespace}\n" not in f"\n{namespaces}"
        )
    except (OSError, UnicodeDecodeError, CniError):
        return False


def forget(run: str, container_id: str, ifname: str) -> None:
    """Remove a note that may be gone already."""
    try:
        posix.unlink(paths.pod_note(run, container_id, ifname))
    except (OSError, ValueError):
        return


def run_dir(call: Call) -> str:
    """The run-time directory that a call's configuration names."""
    return paths.directory(call.configuration.get("runDir"), "runDir", keys.DEFAULT_RUN_DIR)


def main_interface(call: Call) -> tuple[str, list[str]]:
    """MAC and IP addresses of the interface that the main CNI has made, as prevResult tells them."""
    previous = call.previous or {}
    interfaces = previous.get("interfaces")
    mac, place = UNKNOWN, None
    for number, one in enumerate(interfaces if isinstance(interfaces, list) else []):
        if isinstance(one, dict) and one.get("name") == call.environment.ifname and one.get("sandbox"):
            mac, place = str(one.get("mac") or UNKNOWN).lower(), number
    found = []
    ips: Any = previous.get("ips")
    for one in ips if isinstance(ips, list) else []:
        if (
            isinstance(one, dict)
            and isinstance(one.get("address"), str)
            and one.get("interface") in (None, place)
        ):
            found.append(one["address"].partition("/")[0])
    for key in ("ip4", "ip6"):  # before CNI 0.3.0
        one = previous.get(key)
        if isinstance(one, dict) and isinstance(one.get("ip"), str):
            found.append(one["ip"].partition("/")[0])
    return mac, found


def _identity(netns: str) -> tuple[int, int]:
    try:
        status = posix.stat(netns)
    except (OSError, ValueError):
        return 0, 0
    return status.st_dev, status.st_ino


def _write(path: str, data: bytes) -> None:
    """Write a file that has no name before it is complete, so that nothing is left of one that is not."""
    flags = posix.O_WRONLY | posix.O_TMPFILE | posix.O_CLOEXEC
    fd = posix.open(path.rpartition("/")[0], flags, 0o600)
    try:
        posix.write(fd, data)
        # A descriptor makes it linkat(2), which can follow the link below /proc.
        source = f"/proc/self/fd/{fd}"
        try:
            posix.link(source, path, src_dir_fd=fd)
        except FileExistsError:  # of an ADD that was killed; the container is the same
            posix.unlink(path)
            posix.link(source, path, src_dir_fd=fd)
    finally:
        posix.close(fd)


def _make_parents(path: str) -> None:
    parent = path.rpartition("/")[0]
    try:
        posix.mkdir(parent, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_parents(parent)
        try:
            posix.mkdir(parent, 0o700)
        except FileExistsError:
            return
