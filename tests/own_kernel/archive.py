"""A Debian archive of any suite, read beside the machine's own settings of apt, which stay as they are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Archive:
    """One suite of a mirror.

    Args:
        directory: for what apt keeps of it; has to exist.
    """

    def __init__(self, mirror: str, suite: str, directory: Path) -> None:
        (directory / "lists").mkdir()
        (directory / "cache").mkdir()
        sources = directory / "sources.list"
        sources.write_text(f"deb [signed-by={_KEYRING}] {mirror} {suite} main\n")
        settings = {
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "-",
            "Dir::State::Lists": directory / "lists",
            "Dir::Cache": directory / "cache",
            # apt fetches as another user, who may not write here.
            "APT::Sandbox::User": "root",
        }
        self._settings = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        self._apt("apt-get", "update", "-qq", "--error-on=any")

    def real_name(self, package: str) -> str:
        """The package that another one stands for, such as a kernel's of a certain version."""
        shown = self._apt("apt-cache", "depends", package)
        found = re.search(rf"Depends: ({re.escape(package.rpartition('-')[0])}\S+)", shown)
        return found[1] if found else package

    def unpack(self, package: str, into: Path) -> None:
        """Fetch a package and put below a directory what it would put below /."""
        place = into.parent
        self._apt("apt-get", "download", "-qq", package, cwd=place)
        archive = next(place.glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(into)], check=True)

    def _apt(self, program: str, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [program, *self._settings, *words], cwd=cwd, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout
