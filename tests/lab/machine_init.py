"""The first process of a machine (machine.py): gives it a root file system of its own, and buries its dead.

The root is the host's, with a layer in memory on top that takes all that is written. Started in new mount, PID and
network namespaces by `python3 -IS machine_init.py DIRECTORY`; prints `ready` when all is mounted.
"""

import os
import subprocess
import sys

# What kubelet would set: they are the whole host's, so it finds them set already.
SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
# Mounted anew, or none of the machine's business.
_OWN = ("/proc", "/sys", "/dev", "/run", "/var/run")


def main(directory: str) -> None:
    """Become the machine."""
    hosts = [line.split()[4] for line in _lines("/proc/self/mountinfo")]
    _run("mount", "--make-rprivate", "/")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
    upper, work, root, sysctls = (f"{directory}/{name}" for name in ("upper", "work", "root", "sysctl"))
    for name in (upper, work, root, sysctls):
        os.mkdir(name)
    _run("mount", "-t", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", "overlay", root)
    for path in hosts:
        if path != "/" and not path.startswith(_OWN) and os.path.exists(root + path):
            _run("mount", "--bind", path, root + path)
    _mount_kernel(root, sysctls)
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{root}/run")
    os.makedirs(f"{root}/var/lib/containerd", exist_ok=True)
    # Images' layers are overlays too, which do not take an overlay as their upper layer.
    _run("mount", "-t", "tmpfs", "tmpfs", f"{root}/var/lib/containerd")
    os.chdir(root)
    _run("pivot_root", ".", ".")
    _run("umount", "--lazy", ".")
    os.chdir("/")
    _run("mount", "--make-rshared", "/")  # as systemd does; volumes' propagation needs it


def _mount_kernel(root: str, sysctls: str) -> None:
    _run("mount", "-t", "proc", "proc", f"{root}/proc")
    # Of the sysctls only those of the network are the machine's own.
    _run("mount", "--bind", f"{root}/proc/sys", f"{root}/proc/sys")
    _run("mount", "--bind", f"{root}/proc/sys/net", f"{root}/proc/sys/net")
    _run("mount", "-o", "remount,bind,ro", f"{root}/proc/sys")
    for name, value in SYSCTLS.items():
        path = f"{sysctls}/{name.replace('/', '-')}"
        with open(path, "w") as file:
            file.write(f"{value}\n")
        _run("mount", "--bind", path, f"{root}/proc/sys/{name}")
    _run("mount", "-t", "sysfs", "sysfs", f"{root}/sys")
    _run("mount", "--rbind", "/sys/fs/cgroup", f"{root}/sys/fs/cgroup")
    _run("mount", "--rbind", "/dev", f"{root}/dev")


def bury() -> None:
    """Wait for children for ever: those whose parents have died are given to the first process."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            subprocess.run(["sleep", "1"], check=False)


def _lines(path: str) -> "list[str]":
    with open(path) as file:
        return file.read().splitlines()


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)


if __name__ == "__main__":
    main(sys.argv[1])
    print("ready", flush=True)
    bury()
