"""Where inputs are looked at: an empty network namespace, and an empty /run with a pod's namespace in it."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
from pathlib import Path

ROOT = Path("/run/fuzz")
STATE, RUN, LOG, POD = ROOT / "state", ROOT / "run", ROOT / "plugin.log", ROOT / "netns" / "pod"
POLICIES, ANNOTATIONS, KUBECONFIG = ROOT / "policies", ROOT / "annotations", ROOT / "kubeconfig"
MEMORY_BYTES = 2 << 30

_NEWNS, _NEWNET = 0x00020000, 0x40000000
_REC, _PRIVATE, _BIND = 0x4000, 0x40000, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


def enter() -> None:
    """Move this process, which has one thread, into such a place for good."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _check(_libc.unshare(_NEWNS | _NEWNET), "unshare")
    _mount(b"none", b"/", _REC | _PRIVATE)
    _mount(b"tmpfs", b"/run", 0, b"tmpfs")
    POD.parent.mkdir(parents=True)
    POD.touch()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            _check(_libc.unshare(_NEWNET), "unshare")
            _mount(b"/proc/self/ns/net", bytes(POD), _BIND)
            status = 0
        finally:
            os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise OSError("no namespace for a pod")
    os.environ.pop("KUBERNETES_SERVICE_HOST", None)


def tidy() -> None:
    """Remove what an input has left."""
    for path in ROOT.iterdir():
        if path != POD.parent:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _mount(source: bytes, target: bytes, flags: int, kind: bytes = b"none") -> None:
    _check(_libc.mount(source, target, kind, flags, None), f"mount {target!r}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
