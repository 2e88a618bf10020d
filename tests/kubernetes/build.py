"""Builds Kubernetes from Debian's source package, once: `python3 build.py CACHE` prints the directory of the binaries.

Nothing of the machine's apt configuration changes: the source package's list and files stay in the cache.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

# Debian's own builds, only unpacked: installed, etcd would be a service of this machine.
PACKAGES = {"etcd-server": "etcd", "kubernetes-client": "kubectl"}
COMPONENTS = ("kubelet", "kube-apiserver", "kube-scheduler", "kube-controller-manager", "kube-proxy")
VERSION = "1.20.2"  # what Debian 12 has
# Kubernetes 1.20 carries reflect2 1.0.1, which Go 1.18 and later break: it reads maps by the runtime's own functions,
# one of which got another signature. The API server crashes by it when a custom resource is made. Debian has 1.0.2.
_REFLECT2, _REFLECT2_PACKAGE = "github.com/modern-go/reflect2", "golang-github-modern-go-reflect2-dev"
_RECIPE = 1  # the cache is built anew when this grows
_NO_OPENAPI = re.compile(r"_test\.go$|zz_generated|/testdata/|kube-openapi|code-generator|sample-")


def binaries(cache: Path) -> Path:
    """The directory of the binaries, built if they are not there yet; takes some minutes then."""
    cache.mkdir(parents=True, exist_ok=True)
    stamp = {"kubernetes": VERSION, "recipe": _RECIPE, "machine": os.uname().machine}
    done = cache / "kubernetes.json"
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or json.loads(done.read_text()) != stamp:
            done.unlink(missing_ok=True)
            _build(cache)
            done.write_text(json.dumps(stamp))
    return cache / "bin"


def _build(cache: Path) -> None:
    work = cache / "build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    _say(f"Kubernetes {VERSION}: getting Debian's source package")
    source = _unpack(_download(work), work)
    _replace_reflect2(work, source)
    environment = {
        **os.environ,
        "GOPATH": str(work / "go"),
        "GOCACHE": str(work / "go-build"),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    _generate_openapi(source, work, environment)
    output = cache / "bin"
    output.mkdir(exist_ok=True)
    for component in COMPONENTS:
        _say(f"Kubernetes {VERSION}: building {component}")
        package = f"k8s.io/kubernetes/cmd/{component}"
        _run(
            ["go", "build", "-trimpath", "-ldflags", _linker_flags(), "-o", f"{output}/{component}", package],
            cwd=source,
            env=environment,
        )
    for package, program in PACKAGES.items():
        shutil.copy2(_extract(package, work) / "usr/bin" / program, output)
    shutil.rmtree(work)


def _download(work: Path) -> Path:
    """The original source of Debian's package, found by a list of source packages of our own."""
    lists = work / "apt"
    for name in ("parts", "lists/partial", "archives/partial"):
        (lists / name).mkdir(parents=True)
    for path in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")):
        if path.suffix in (".list", ".sources") and path.exists():
            text = path.read_text()
            text = re.sub(r"^deb\s", "deb-src ", text, flags=re.MULTILINE)
            text = re.sub(r"^Types:.*", "Types: deb-src", text, flags=re.MULTILINE)
            (lists / "parts" / path.name).write_text(text)
    apt = [
        "apt-get", "--quiet=2", "-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={lists}/parts",
        "-o", f"Dir::State::Lists={lists}/lists", "-o", f"Dir::Cache={lists}", "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    _run([*apt, "update"])
    _run([*apt, "source", "--download-only", "kubernetes"], cwd=work)
    found = sorted(work.glob("kubernetes_*.orig.tar.*"))
    # Debian's own number says it last: kubernetes_1.20.5+really1.20.2.orig.tar.gz.
    if len(found) != 1 or f"{VERSION}.orig." not in found[0].name:
        raise SystemExit(f"this machine's Debian has {[one.name for one in found]}, not Kubernetes {VERSION}")
    return found[0]


def _unpack(archive: Path, work: Path) -> Path:
    parent = work / "go/src/k8s.io"
    parent.mkdir(parents=True)
    _run(["tar", "--extract", "--file", str(archive), "--directory", str(parent)])
    source = parent / "kubernetes"
    (parent / f"kubernetes-{VERSION}").rename(source)
    return source


def _replace_reflect2(work: Path, source: Path) -> None:
    debian = _extract(_REFLECT2_PACKAGE, work) / "usr/share/gocode/src" / _REFLECT2
    vendored = source / "vendor" / _REFLECT2
    shutil.rmtree(vendored)
    shutil.copytree(debian, vendored)
    for test in vendored.rglob("*_test.go"):
        test.unlink()


def _extract(package: str, work: Path) -> Path:
    """The files of a Debian package, which is not installed."""
    _run(["apt-get", "--quiet=2", "-o", "APT::Sandbox::User=root", "download", package], cwd=work)
    (archive,) = work.glob(f"{package}_*.deb")
    target = work / package
    _run(["dpkg-deb", "--extract", str(archive), str(target)])
    return target


def _generate_openapi(source: Path, work: Path, environment: dict[str, str]) -> None:
    """What Kubernetes' own Makefile generates and the source package does not have."""
    generator = work / "openapi-gen"
    command = "k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen"
    _run(["go", "build", "-o", str(generator), command], cwd=source, env=environment)
    packages = ",".join(sorted(_openapi_packages(source)))
    _run(
        [
            str(generator), "--go-header-file", "hack/boilerplate/boilerplate.generatego.txt",
            "-O", "zz_generated.openapi", "--output-package", "k8s.io/kubernetes/pkg/generated/openapi",
            "-o", f"{work}/go/src", "-i", packages, "-r", f"{work}/violations.txt",
        ],
        cwd=source,
        env=environment,
    )  # fmt: skip
    generated = source / "pkg/generated/openapi/zz_generated.openapi.go"
    generated.write_text(generated.read_text().replace("k8s.io/kubernetes/vendor/k8s.io", "k8s.io"))


def _openapi_packages(source: Path) -> set[str]:
    packages = set()
    for top in ("pkg", "staging/src", "cmd", "vendor/k8s.io"):
        for path in (source / top).rglob("*.go"):
            name = str(path.relative_to(source))
            # Links of vendor/k8s.io lead into staging/src, which is walked itself.
            if _NO_OPENAPI.search(name) or "+k8s:openapi-gen=" not in path.read_text(errors="replace"):
                continue
            folder = os.path.dirname(name).removeprefix("staging/src/")
            inside = folder if folder.startswith(("pkg/", "cmd/", "vendor/")) else f"vendor/{folder}"
            packages.add(f"k8s.io/kubernetes/{inside}")
    return packages


def _linker_flags() -> str:
    major, minor, _ = VERSION.split(".")
    values = {
        "k8s.io/component-base/version.gitVersion": f"v{VERSION}",
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/client-go/pkg/version.gitVersion": f"v{VERSION}",
    }
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in values.items())])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _run(argv: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    # What it prints is for people; stdout belongs to the answer.
    done = subprocess.run(argv, cwd=cwd, env=env, stdout=sys.stderr, check=False)
    if done.returncode:
        raise SystemExit(f"{argv[0]}: exit status {done.returncode}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: build.py CACHE")
    print(binaries(Path(sys.argv[1]).expanduser()))
