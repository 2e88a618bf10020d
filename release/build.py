"""All that is given to users, in the order in which one is made of the other."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import zlib
from pathlib import Path

from . import archive, deb, library, source, tarball, wheel, wheels

SUMS = "SHA256SUMS"


def everything(output: Path, offered: Path | None = None, *, own_compiler: bool = False) -> list[Path]:
    """Build all of it; returns the paths, the check sums' last.

    Args:
        offered: a directory with the locked wheels, else they come from the cache or pip.
        own_compiler: native launcher for this machine only.
    """
    epoch = source.epoch()
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="macvlan-egress-package-") as temporary:
        work = Path(temporary)
        natives = wheel.launchers(work / "launchers", own_compiler=own_compiler, offered=offered)
        packed = wheel.sdist(output, work, epoch, offered)
        own = wheel.wheel(output, packed, natives, work, epoch, offered)
        tree = tarball.unpack(packed, work / "tree")
        library.build(work / "library", [own, *wheels.gather(wheels.RUNTIME, offered)])
        made = [
            packed,
            own,
            archive.write(output, tree, work / "library", work, epoch),
            deb.write(output, tree, work / "library", work, epoch),
        ]
    made.append(_told(output, epoch))
    sums = output / SUMS
    sums.write_text("".join(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in made))
    return [*made, sums]


def _told(output: Path, epoch: int) -> Path:
    """What somebody needs to know who wants to get the same bytes."""
    path = output / f"{source.NAME}-{source.version()}.buildinfo.json"
    facts = {
        "version": source.version(),
        "commit": source.commit(),
        "SOURCE_DATE_EPOCH": epoch,
        "python": platform.python_version(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "machine": platform.machine(),
        "locks": {
            lock.name: hashlib.sha256(lock.read_bytes()).hexdigest()
            for lock in (wheels.RUNTIME, wheels.BUILD, wheels.COMPILER)
        },
    }
    path.write_text(json.dumps(facts, indent=2) + "\n")
    return path
