"""bin/release-check: builds twice and compares, then installs each artefact in a clean root and runs the demo there."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import build, deb, library, roots, source, tarball, wheels
from .roots import Root

# All that the documentation asks for.
_NEEDED = (f"python{library.MINOR}", "libnftables1")
_NEEDED_BY_PIP = (*_NEEDED, "python3-venv")
_BIN = "/opt/cni/bin"
_CONFLISTS = "etc/cni/net.d"
_MAIN = '{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0"}]}\n'
_DEL = {
    "CNI_COMMAND": "DEL", "CNI_CONTAINERID": "gone", "CNI_NETNS": "", "CNI_IFNAME": "eth0", "CNI_PATH": _BIN,
}  # fmt: skip
_ENTRY = '{"cniVersion": "1.0.0", "name": "pods", "type": "macvlan-egress", "allow": []}'


class Failure(Exception):
    """The release is not to be made."""


def built_again(made: list[Path], temporary: Path, options: list[str]) -> str:
    """Build once more from the sdist, elsewhere and with other surroundings; every artefact has the same bytes."""
    tree, again = tarball.unpack(_only(made, "cni_*.tar.gz"), temporary / "elsewhere"), temporary / "again"
    surroundings = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "1", "COLUMNS": "40"}
    # The sdist's own time has to do.
    variables = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(
        [sys.executable, "-m", "release", "--output", str(again), *options],
        cwd=tree,
        env=variables | surroundings,
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failure(f"the sdist cannot be built:\n{done.stderr}")
    compared = [one for one in made if one.suffix in (".gz", ".whl", ".deb")]
    different = [one.name for one in compared if one.read_bytes() != (again / one.name).read_bytes()]
    if different:
        raise Failure(f"built twice, these are different: {', '.join(different)}")
    return f"{len(compared)} artefacts have the same bytes when built from the sdist elsewhere"


def debian_package(root: Root, package: Path) -> str:
    """Install the .deb, run the demo, and remove it as far as pods allow."""
    shutil.copy(package, root.path / "tmp")
    _inside(root, "dpkg", "--install", f"/tmp/{package.name}")  # noqa: S108
    told = _demo(root, deb.COMMAND)
    _in_use(root)
    _inside(root, deb.COMMAND, "uninstall", "--executable")
    if (root.path / _CONFLISTS / "10-pods.conflist").read_text() != _MAIN:
        raise Failure("uninstall has not brought the conflist back")
    _inside(root, "dpkg", "--purge", source.NAME)
    left = [str(path) for path in root.path.rglob("*macvlan*egress*") if path.parent.name != "tmp"]
    if left:
        raise Failure(f"purged, it leaves {', '.join(left)}")
    return told


def _in_use(root: Root) -> None:
    """While a runtime may call it, it cannot be removed, and a DEL goes on working."""
    (root.path / _CONFLISTS).mkdir(parents=True)
    (root.path / _CONFLISTS / "10-pods.conflist").write_text(_MAIN)
    (root.path / _BIN.lstrip("/")).mkdir(parents=True)
    _inside(root, deb.COMMAND, "install", "--namespaces", "egress")
    refused = root.run("dpkg", "--purge", source.NAME)
    if refused.returncode == 0 or "uninstall --executable" not in refused.stderr:
        raise Failure(f"it can be purged while it is in use: {refused.stderr}")
    _inside(root, f"{_BIN}/macvlan-egress", stdin=_ENTRY, **_DEL)


def archive(root: Root, package: Path) -> str:
    """Unpack the archive as its INSTALL says, and run the demo; the launcher names the link, not the version."""
    top = tarball.unpack(package, root.path / "opt")
    (root.path / "opt" / source.NAME).symlink_to(top.name)
    command = f"/opt/{source.NAME}/bin/macvlan-egress"
    written = _inside(root, command, "launcher")
    if f"['/opt/{source.NAME}/lib']" not in written:
        raise Failure(f"the launcher of the archive would be\n{written}")
    return _demo(root, command)


def wheel(root: Root, package: Path) -> str:
    """Install the wheel with pip from the locked wheels, and run the demo."""
    offered = root.path / "wheels"
    offered.mkdir()
    for one in (package, *wheels.gather(wheels.RUNTIME)):
        shutil.copy(one, offered)
    _inside(root, library.interpreter(), "-m", "venv", "/opt/venv")
    _inside(
        root, "/opt/venv/bin/pip", "install", "--quiet", "--no-index", "--find-links", "/wheels", source.NAME
    )  # fmt: skip
    return _demo(root, "/opt/venv/bin/macvlan-egress")


def _demo(root: Root, command: str) -> str:
    """Run it, and say what it met."""
    told = _inside(root, command, "version").split()[:2]
    if told != ["macvlan-egress", source.version()]:
        raise Failure(f"version says {' '.join(told)}")
    document = json.loads(_inside(root, command, "demo", "--json"))
    return f"{len(document['steps'])} expectations of the demo met, {len(document['packets'])} packets seen"


def _inside(root: Root, *command: str, stdin: str = "", **variables: str) -> str:
    done = root.run(*command, stdin=stdin, **variables)
    if done.returncode:
        raise Failure(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


INSTALLATIONS: tuple[tuple[str, tuple[str, ...], Callable[[Root, Path], str]], ...] = (
    ("*.deb", _NEEDED, debian_package),
    ("*-linux-*.tar.gz", _NEEDED, archive),
    ("*.whl", _NEEDED_BY_PIP, wheel),
)


def main() -> int:
    """Do all of it; 0 if the release may be made."""
    parser = argparse.ArgumentParser(prog="bin/release-check", description=__doc__)
    parser.add_argument("--wheels", type=Path, metavar="DIRECTORY", help="as for bin/package")
    parser.add_argument("--own-compiler", action="store_true", help="as for bin/package")
    parser.add_argument("--fresh", action="store_true", help="make the clean roots anew")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("only root can make the clean roots and the demo's namespaces")
    options = ["--wheels", str(arguments.wheels)] if arguments.wheels else []
    options += ["--own-compiler"] if arguments.own_compiler else []
    with tempfile.TemporaryDirectory(prefix="macvlan-egress-release-") as temporary:
        try:
            _check(arguments, options, Path(temporary))
        except Failure as failure:
            print(f"\nNot to be released: {failure}", file=sys.stderr)
            return 1
    print("It may be released: dist/ has it.")
    return 0


def _check(arguments: argparse.Namespace, options: list[str], temporary: Path) -> None:
    output = source.ROOT / "dist"
    output.mkdir(exist_ok=True)
    with _step("build into dist/") as told:
        made = build.everything(output, arguments.wheels, own_compiler=arguments.own_compiler)
        told += [", ".join(f"{one.name} ({one.stat().st_size // 1024} KiB)" for one in made)]
    with _step("build again") as told:
        told += [built_again(made, temporary, options)]
    for pattern, packages, work in INSTALLATIONS:
        package = _only(made, pattern)
        with (
            _step(f"{package.name} in a clean root") as told,
            roots.clean(packages, fresh=arguments.fresh) as root,
        ):
            told += [work(root, package)]


@contextmanager
def _step(title: str) -> Iterator[list[str]]:
    """Say what is being done, and then what came of it and how long it took."""
    print(f"{title} ...", flush=True)
    start = time.monotonic()
    told: list[str] = []
    yield told
    print(f"    {'; '.join(told)} ({time.monotonic() - start:.0f} s)", flush=True)


def _only(made: list[Path], pattern: str) -> Path:
    (found,) = (one for one in made if one.match(pattern))
    return found


if __name__ == "__main__":
    sys.exit(main())
