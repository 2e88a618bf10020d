"""`bin/test-kernel`: a virtual machine that runs tests on another kernel than this machine's."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from .image import Kernel, initial_ramdisk

REPOSITORY = Path(__file__).resolve().parents[2]
_TESTS = [
    *("-n", "2", "tests/own_kernel", "tests/policy/test_enforcement.py"),
    *("tests/redirect/test_rule_forms.py", "tests/redirect/test_flows.py"),
    *(f"tests/netns/test_{name}.py" for name in ("source", "conflict", "check", "link")),
]
_GIBIBYTES = 3
# What runs in the machine, as its first process. The results are all that it can write.
_JOB = """\
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 MACVLAN_EGRESS_OWN_KERNEL=1 TMPDIR=/run/tmp
mkdir -p /run/tmp /run/results
mount -t 9p -o trans=virtio,version=9p2000.L results /run/results
echo 1 >/proc/sys/kernel/printk
ip link set lo up
cd {repository}
echo "Linux $(uname -r)"
{command}
echo $? >/run/results/status
sync
echo o >/proc/sysrq-trigger
while :; do read -r -t 1 _ </dev/zero; done
"""


def main() -> int:
    """Boot, run, and end with the tests' exit status."""
    parser = argparse.ArgumentParser(prog="bin/test-kernel", description="Run tests on another kernel.")
    parser.add_argument("--cache", type=Path, default=_cache(), help="for kernels (default: %(default)s)")
    parser.add_argument(
        "--suite", default="bookworm", help="of Debian, whose kernel to boot (default: %(default)s)"
    )
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", help="default: %(default)s")
    parser.add_argument("--kvm", action="store_true", help="faster, where the machine allows it")
    options, words = parser.parse_known_args()
    kernel = Kernel.of(options.suite, options.mirror, options.cache)
    with tempfile.TemporaryDirectory(prefix="macvlan-egress-kernel-") as name:
        directory = Path(name)
        (directory / "results").mkdir()
        job = directory / "job.sh"
        job.write_text(_JOB.format(repository=shlex.quote(str(REPOSITORY)), command=_command_line(words)))
        ramdisk = directory / "initrd.gz"
        ramdisk.write_bytes(initial_ramdisk(kernel, job))
        subprocess.run(
            _command(kernel, ramdisk, directory / "results", kvm=options.kvm),
            check=True,
            stdin=subprocess.DEVNULL,
        )
        status = directory / "results/status"
        return int(status.read_text()) if status.exists() else 1


def _command_line(words: list[str]) -> str:
    """Without words the demo comes first: it shows the main things, and fills the page cache for tests that wait."""
    pytest = f".venv/bin/pytest -p no:cacheprovider --color=no {shlex.join(words or _TESTS)}"
    return pytest if words else f"bin/demo && {pytest}"


def _command(kernel: Kernel, ramdisk: Path, results: Path, *, kvm: bool) -> list[str]:
    shared = "security_model=none,multidevs=remap"
    return [
        *("qemu-system-x86_64", "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"),
        *("-m", f"{_GIBIBYTES}G", "-smp", str(os.cpu_count() or 1), "-nic", "none"),
        *(("-enable-kvm", "-cpu", "host") if kvm else ("-cpu", "max")),
        *("-kernel", str(kernel.file), "-initrd", str(ramdisk)),
        *("-append", "console=ttyS0 quiet loglevel=0 panic=-1"),
        *("-virtfs", f"local,path=/,mount_tag=host,readonly=on,{shared}"),
        *("-virtfs", f"local,path={results},mount_tag=results,{shared}"),
    ]


def _cache() -> Path:
    """As bin/test-kubernetes has it."""
    own = os.environ.get("MACVLAN_EGRESS_CACHE")
    return Path(own or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "macvlan-egress"))


sys.exit(main())
