"""Finds containerd and CRI-O: their configuration, their socket, and the version of what runs there."""

from __future__ import annotations

import glob
import os
import re
import socket
import struct
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .programs import ask

_VERSION = re.compile(r"\bv?(\d+)\.(\d+)\.\d+")
_SECONDS = 5.0
_BINARIES = ("/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin", "/usr/local/sbin", "/opt/bin")
# The table of CRI by versions of containerd's configuration: 3, 2, 1.
_CRI_TABLES = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "cri")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a distribution keeps a runtime.

    Attributes:
        passes_since: the first version that passes a pod's annotations.
        configurations: the first file that is there counts.
        additions: globs of files that are read after it.
        binaries: further directories of the executable.
    """

    name: str
    passes_since: tuple[int, int]
    socket: str
    configurations: tuple[str, ...]
    additions: tuple[str, ...] = ()
    binaries: tuple[str, ...] = ()


LAYOUTS = (
    Layout(
        "containerd", (1, 5), "/run/containerd/containerd.sock", ("/etc/containerd/config.toml",)
    ),
    Layout(
        "containerd",
        (1, 5),
        "/run/k3s/containerd/containerd.sock",  # k3s and RKE2
        (
            "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
            "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        ),
        binaries=("/var/lib/rancher/k3s/data/current/bin", "/var/lib/rancher/rke2/bin"),
    ),
    Layout(
        "containerd",
        (1, 5),
        "/var/snap/microk8s/common/run/containerd.sock",
        ("/var/snap/microk8s/current/args/containerd.toml",),
        binaries=("/snap/microk8s/current/bin",),
    ),
    Layout("crio", (1, 28), "/run/crio/crio.sock", ("/etc/crio/crio.conf",), ("/etc/crio/crio.conf.d/*",)),
)  # fmt: skip


@dataclass(slots=True)
class Runtime:
    """A container runtime of this node.

    Attributes:
        configuration: the file that was read; empty if there is none, and all is at its defaults.
        problems: path and reason for each file that could not be read.
        socket_problem: why nobody could be reached at the socket; empty if somebody was.
        version: major and minor; None if it could not be found out.
        version_evidence: what it said of itself, or why nothing.
        conf_dir, bin_dir: for CNI; empty where the configuration leaves the default.
        default_network: name of the network to take, where the configuration says so.
        cri: whether Kubernetes can use it.
    """

    layout: Layout
    configuration: str = ""
    problems: list[tuple[str, str]] = field(default_factory=list)
    socket_problem: str = ""
    socket_errno: int = 0
    version: tuple[int, int] | None = None
    version_evidence: str = ""
    conf_dir: str = ""
    bin_dir: str = ""
    default_network: str = ""
    cri: bool = True

    @property
    def name(self) -> str:
        """`containerd` or `crio`, as its executable is called."""
        return self.layout.name

    @property
    def passes_annotations(self) -> bool | None:
        """Whether it is new enough; None if nobody knows."""
        return None if self.version is None else self.version >= self.layout.passes_since

    @property
    def skips_invalid_files(self) -> bool:
        """Whether a CNI configuration file that cannot be read is passed over, instead of being the end."""
        return self.name == "crio"


def find(root: str) -> list[Runtime]:
    """Every runtime there is, those that can be reached first.

    Args:
        root: where the node's file system is mounted.
    """

    def locate(path: str) -> str:
        return path if root == "/" else root + path

    found = [one for layout in LAYOUTS if (one := _look(layout, locate, root)) is not None]
    return sorted(found, key=lambda one: bool(one.socket_problem))


def _look(layout: Layout, locate: Callable[[str], str], root: str) -> Runtime | None:
    configuration = next(filter(os.path.exists, map(locate, layout.configurations)), "")
    additions = [path for one in layout.additions for path in sorted(glob.glob(locate(one)))]
    path = locate(layout.socket)
    # A program alone tells nothing of the distributions that bring their own: it may be the plain one's.
    executable = "" if layout.binaries else _executable(layout, locate)
    if not configuration and not additions and not os.path.exists(path) and not executable:
        return None
    runtime = Runtime(layout, configuration)
    _read_configuration(runtime, [*filter(None, [configuration]), *additions], locate)
    process = _ask_who_listens(runtime, path)
    # One that listens below another root may be of another PID namespace as well.
    running = _executable_of(process, layout.name) if root == "/" else ""
    _ask_version(runtime, running or _executable(layout, locate), root)
    return runtime


def _read_configuration(runtime: Runtime, paths: Iterable[str], locate: Callable[[str], str]) -> None:
    for path in paths:
        for one, document in _documents(runtime, path, locate):
            if runtime.name == "crio":
                _apply_crio(runtime, document)
            else:
                _apply_containerd(runtime, document)
            runtime.configuration = runtime.configuration or one


def _documents(
    runtime: Runtime, path: str, locate: Callable[[str], str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A file, and those that it imports (containerd-config.toml(5))."""
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        runtime.problems.append(
            (path, error.strerror or str(error) if isinstance(error, OSError) else str(error))
        )
        return
    yield path, document
    imports = document.get("imports")
    for pattern in imports if isinstance(imports, list) else []:
        # Imported files import no others here: whoever does that names a circle, or nearly.
        for one in sorted(glob.glob(locate(str(pattern)))):
            if one == path:
                continue
            try:
                with open(one, "rb") as file:
                    yield one, tomllib.load(file)
            except (OSError, ValueError) as error:
                runtime.problems.append((one, str(error)))


def _apply_containerd(runtime: Runtime, document: dict[str, Any]) -> None:
    disabled = document.get("disabled_plugins")
    names = {str(one).rpartition(".")[2] for one in disabled} if isinstance(disabled, list) else set()
    runtime.cri = runtime.cri and "cri" not in names
    tables = _table(document, "plugins")
    for name in _CRI_TABLES:
        cni = _table(_table(tables, name), "cni")
        directories = cni.get("bin_dirs")
        first = directories[0] if isinstance(directories, list) and directories else cni.get("bin_dir")
        runtime.bin_dir = _text(first) or runtime.bin_dir
        runtime.conf_dir = _text(cni.get("conf_dir")) or runtime.conf_dir


def _apply_crio(runtime: Runtime, document: dict[str, Any]) -> None:
    network = _table(_table(document, "crio"), "network")
    directories = network.get("plugin_dirs")
    if isinstance(directories, list) and directories:
        runtime.bin_dir = _text(directories[0])
    runtime.conf_dir = _text(network.get("network_dir")) or runtime.conf_dir
    named = network.get("cni_default_network")
    runtime.default_network = named if isinstance(named, str) and named else runtime.default_network


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    """A directory, empty if it is none."""
    return value.rstrip("/") if isinstance(value, str) and value.startswith("/") else ""


def _ask_who_listens(runtime: Runtime, path: str) -> int:
    """The process at the socket, 0 if there is none; nothing is sent."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_SECONDS)
            sock.connect(path)
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except OSError as error:
        runtime.socket_problem = f"{path}: {error.strerror or error}"
        runtime.socket_errno = error.errno or 0
        return 0
    return int(struct.unpack("3i", credentials)[0])


def _executable_of(process: int, name: str) -> str:
    """What runs there, by way of /proc: it may be of another file system than ours."""
    if not process:
        return ""
    try:
        path = os.readlink(f"/proc/{process}/exe")
    except OSError:  # it has ended, or is none of our business
        return ""
    return f"/proc/{process}/exe" if os.path.basename(path).startswith(name) else ""


def _executable(layout: Layout, locate: Callable[[str], str]) -> str:
    paths = (f"{locate(directory)}/{layout.name}" for directory in (*layout.binaries, *_BINARIES))
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def _ask_version(runtime: Runtime, executable: str, root: str) -> None:
    if not executable:
        runtime.version_evidence = f"no executable {runtime.name} in {', '.join(_BINARIES)}"
        return
    answered, text = ask(executable, "--version", root=root)
    runtime.version_evidence = text.partition("\n")[0] if answered else f"{executable} --version: {text}"
    if answered and (match := _VERSION.search(text)):
        runtime.version = int(match[1]), int(match[2])
