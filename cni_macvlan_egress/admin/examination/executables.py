"""The plugin's executable and its neighbours in the CNI bin directory."""

from __future__ import annotations

import errno
import os
import platform
import re
import stat
from collections.abc import Iterator

from ... import __version__
from .. import launcher
from ..launcher import NAME
from . import native_launcher
from .check import Check
from .conflist_files import ConflistFile
from .daemons import examine_daemon
from .finding import Finding, bad, good, listed
from .node import Node
from .programs import ask

_BYTES_MAX = 4 << 20
_VERSION = re.compile(r'"cniVersion": ?"([0-9.]+)"')


def _directory(node: Node) -> Iterator[Finding]:
    try:
        status = os.stat(node.bin_dir)
        os.listdir(node.bin_dir)
    except OSError as error:
        yield bad("bin-dir", f"{node.bin_dir}: {error.strerror}", path=node.bin_dir)
        return
    yield good("bin-dir", node.bin_dir)
    yield from writable_by_others("executable-writable", node.bin_dir, status)


def _executable(node: Node) -> Iterator[Finding]:
    path = f"{node.bin_dir}/{NAME}"
    if not os.path.isdir(node.bin_dir):
        return
    try:
        status = os.stat(path)
    except OSError as error:
        yield bad("executable", f"{path}: {error.strerror}", path=node.bin_dir)
        return
    yield from writable_by_others("executable-writable", path, status)
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        yield bad("executable-mode", f"{path} has mode {stat.filemode(status.st_mode)}", path=path)
        return
    yield good("executable", path)
    with open(path, "rb") as file:
        settings = launcher.settings_of(data := file.read(_BYTES_MAX))
    if node.places.root != "/" and not node.is_root:
        raise PermissionError(errno.EPERM, "only root may change the root directory")
    if settings is None:
        yield from _answering(node, path)
        yield _same_version(node, path, "")
    else:
        yield from _native(node, path, settings, data)


def _answering(node: Node, path: str) -> Iterator[Finding]:
    """Whether it speaks CNI."""
    variables = {"CNI_COMMAND": "VERSION", "CNI_PATH": os.path.dirname(path)}
    answered, text = ask(path, root=node.places.root, variables=variables)
    version = _VERSION.search(text) if answered else None
    if version:
        yield good("executable-runs", f"{path} speaks CNI up to {version[1]}")
    else:
        yield bad("executable-runs", f"{path}, asked for VERSION: {text}", path=node.bin_dir)


def _same_version(node: Node, path: str, native: str) -> Finding:
    _, text = ask(path, "--version", root=node.places.root)
    if text == f"{NAME} {__version__}":
        return good("executable-current", f"{path} is version {__version__}")
    evidence = f"{path} --version: {text}; this command is {__version__}"
    return bad("executable-current", evidence, native=[native] if native else [], path=node.bin_dir)


def _native(node: Node, path: str, settings: launcher.Settings, data: bytes) -> Iterator[Finding]:
    """The native launcher, what serves calls while the daemon is away, and the daemon."""
    difference = native_launcher.difference(data, platform.machine())
    if difference:
        evidence = f"{path} {difference}"
        yield bad("executable-current", evidence, native=["--native"], path=node.bin_dir)
    else:
        yield good("executable-current", f"{path} is this version's native launcher")
    if settings.direct:
        direct = node.below_root(settings.direct)
        if os.access(direct, os.X_OK):
            yield from _answering(node, direct)
            yield _same_version(node, direct, "--native")
        else:
            yield bad("executable", f"{direct}, for when the daemon is away, is missing", path=node.bin_dir)
    if not node.is_root:
        raise PermissionError(errno.EACCES, "only root may call the daemon")
    yield from examine_daemon(node.below_root(settings.socket), has_direct=bool(settings.direct))


def _chain(node: Node) -> Iterator[Finding]:
    used = node.used
    if used is None or not os.path.isdir(node.bin_dir):
        return
    missing = [name for name in _needed(used) if not os.access(f"{node.bin_dir}/{name}", os.X_OK)]
    if missing:
        evidence = f"{used.path} names {listed(missing)}, not in {node.bin_dir}"
        yield bad("chain-executables", evidence, path=node.bin_dir)
    elif used.plugins:
        yield good("chain-executables", f"all that {used.path} names are there")


CHECKS = (
    Check("the CNI bin directory", _directory),
    Check("the plugin's executable", _executable),
    Check("the other plugins of the chain", _chain),
)


def writable_by_others(kind: str, path: str, status: os.stat_result) -> Iterator[Finding]:
    """Whether somebody but root can change what root runs."""
    if status.st_uid == 0 and not status.st_mode & 0o022:
        return
    evidence = f"{path} has mode {stat.filemode(status.st_mode)} and belongs to user {status.st_uid}"
    yield bad(kind, evidence, path=path)


def _needed(file: ConflistFile) -> list[str]:
    """The executables of a chain and of its IPAM, less our own, each once."""
    ipams = [plugin.get("ipam") for plugin in file.plugins]
    types = [*file.types, *(str(one.get("type", "")) for one in ipams if isinstance(one, dict))]
    return [name for name in dict.fromkeys(types) if name and "/" not in name and name != NAME]
