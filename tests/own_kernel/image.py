"""A Debian kernel without installing it, and a first file system that leads to this machine's own files."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .archive import Archive

_PACKAGE = "linux-image-amd64"
_BUSYBOX = "/usr/bin/busybox"
_XZ = ".xz"
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
# Files below / are this machine's; what is written over them stays in the machine's memory.
_INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
for module in {modules}; do $b insmod /modules/$module; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose host /host
$b mount -t tmpfs tmpfs /over
$b mkdir /over/upper /over/work
$b mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work root /new
cd /new
$b mount -t proc proc proc
$b mount -t sysfs sysfs sys
$b mount -t cgroup2 cgroup2 sys/fs/cgroup
$b mount -t devtmpfs dev dev
$b mkdir -p dev/pts dev/shm lib/modules
$b mount -t devpts devpts dev/pts
$b mount -t tmpfs tmpfs dev/shm
$b mount -t tmpfs tmpfs run
$b mount -o bind .{kernel}/lib/modules lib/modules
$b cp /job.sh run/job.sh
exec $b switch_root /new /bin/bash /run/job.sh
"""


@dataclass(frozen=True)
class Kernel:
    """A kernel's package, unpacked.

    Attributes:
        directory: what the package would put below /.
        release: its version as uname(1) prints it.
    """

    directory: Path
    release: str

    @property
    def file(self) -> Path:
        """What is booted."""
        return self.directory / f"boot/vmlinuz-{self.release}"

    @staticmethod
    def of(suite: str, mirror: str, cache: Path) -> Kernel:
        """That of a Debian suite; fetched once."""
        directory = cache / "kernels" / suite
        if not directory.exists():
            directory.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=directory.parent) as name:
                archive = Archive(mirror, suite, Path(name))
                unpacked = Path(name, "unpacked")
                archive.unpack(archive.real_name(_PACKAGE), unpacked)
                if not (unpacked / "lib").exists():  # Debian 13 has it below /usr
                    (unpacked / "lib").symlink_to("usr/lib")
                unpacked.rename(directory)
        release = next((directory / "lib/modules").iterdir()).name
        subprocess.run(["depmod", "--basedir", str(directory), release], check=True)
        return Kernel(directory, release)

    def modules(self) -> list[Path]:
        """Those that reaching the files takes, in the order in which they can be loaded."""
        found: dict[Path, None] = {}
        for name in _MODULES:
            command = ["modprobe", "--dirname", str(self.directory), "--set-version", self.release]
            command += ["--show-depends", name]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
            found.update(dict.fromkeys(Path(line.split()[1]) for line in lines if line.startswith("insmod ")))
        return list(found)


def initial_ramdisk(kernel: Kernel, job: Path) -> bytes:
    """An archive for the kernel to begin with, which ends in running a shell script."""
    modules = {path.name.removesuffix(_XZ): _plain(path) for path in kernel.modules()}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for directory in ("bin", "proc", "host", "over", "new", "dev", "modules"):
            (root / directory).mkdir()
        shutil.copy(_BUSYBOX, root / "bin")
        shutil.copy(job, root / "job.sh")
        for file, content in modules.items():
            (root / "modules" / file).write_bytes(content)
        init = root / "init"
        init.write_text(_INIT.format(modules=" ".join(modules), kernel=kernel.directory))
        init.chmod(0o755)
        paths = "\n".join(str(one.relative_to(root)) for one in sorted(root.rglob("*")))
        archive = subprocess.run(
            [_BUSYBOX, "cpio", "-o", "-H", "newc"],
            cwd=root,
            input=paths.encode(),
            capture_output=True,
            check=True,
        )
        return gzip.compress(archive.stdout, 1)


def _plain(module: Path) -> bytes:
    """A module as busybox loads it; newer kernels' are compressed."""
    content = module.read_bytes()
    return lzma.decompress(content) if module.suffix == _XZ else content
