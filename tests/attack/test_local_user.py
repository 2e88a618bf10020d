"""A user of the node without any privilege, and what somebody may have planted or set beforehand."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from daemon.running import Daemon, eventually, make_launcher
from lab import ASSIGN, Answer, Lab, Node, Pod, Request, source, unchanged, within
from lab.needed import REPOSITORY, made_lab

from cni_macvlan_egress.admin import launcher
from cni_macvlan_egress.protocol.errors import CniError

from .stage import NOBODY, OFF, as_nobody, command, executed, open_to_all

IO_FAILURE, KERNEL_REFUSED = 5, 105
DESTINATION = "80 tcp 203.0.113.25 8080"
WISH = source("192.168.12.99/24", destination=DESTINATION)


@pytest.fixture(scope="module")
def lab(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with made_lab(bin_dir, tmp_path_factory) as lab:
        yield lab


@pytest.fixture
def node(lab: Lab, tmp_path: Path) -> Node:
    """The same node with directories that nobody has used yet."""
    node = lab.node
    node.directory = str(tmp_path / "node")
    os.mkdir(node.directory)
    node.state_dir, node.run_dir = f"{node.directory}/state/deep", f"{node.directory}/run/deep"
    node.log_file = f"{node.directory}/plugin.log"
    return node


@pytest.fixture
def pod(node: Node) -> Iterator[Pod]:
    pod = node.pod()
    yield pod
    node.delete(pod)


@pytest.fixture
def native(tmp_path: Path) -> str:
    """The native launcher of a host without direct mode."""
    try:
        return make_launcher(tmp_path / "launcher", str(tmp_path / "daemon" / "daemon.sock"))
    except CniError as error:
        pytest.skip(f"needs a C compiler: {error.msg}")


@pytest.fixture
def make_daemon(node: Node, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    made: list[Daemon] = []

    def make(*, wrapper: tuple[str, ...] = ()) -> Daemon:
        made.append(Daemon(node, tmp_path / "daemon", wrapper=wrapper))
        return made[-1]

    yield make
    for one in made:
        one.close()


# -- what lies about


def below(*tops: str) -> list[str]:
    return [
        path
        for top in tops
        for folder, _, names in os.walk(top)
        for path in (folder, *(f"{folder}/{name}" for name in names))
    ]


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_files_and_directories_are_for_root_alone(node: Node, pod: Pod, umask: int) -> None:
    """Whatever umask the runtime has: a directory that all may write to would be everybody's to plant in."""
    before = os.umask(umask)
    try:
        policy = {"policy": {"directory": f"{node.directory}/none"}, "clusterNetworks": ["10.0.0.0/8"]}
        node.add(pod, WISH, conf={**OFF, **policy}).ok()
    finally:
        os.umask(before)
    kinds = {stat.S_IFDIR: 0o700, stat.S_IFREG: 0o600}
    found = below(os.path.dirname(node.state_dir), os.path.dirname(node.run_dir))
    assert len(found) > 12
    for path in found:
        status_ = os.lstat(path)
        assert (status_.st_uid, status_.st_gid) == (0, 0), path
        if not stat.S_ISLNK(status_.st_mode):
            assert stat.S_IMODE(status_.st_mode) == kinds[stat.S_IFMT(status_.st_mode)], path
    assert stat.S_IMODE(os.stat(node.log_file).st_mode) & 0o137 == 0, "others may read or anybody may execute"


TOUCH = """
import os, sys
for path in sys.argv[1:]:
    for name, act in {
        "list": lambda: os.listdir(path), "read": lambda: open(path).read(1), "append": lambda: open(path, "a"),
        "make": lambda: open(path + "/x", "w"), "link": lambda: os.symlink("/etc", path + "/y"),
        "move": lambda: os.rename(path, path + ".old"), "remove": lambda: os.unlink(path),
        "mode": lambda: os.chmod(path, 0o777),
    }.items():
        try:
            act()
        except (PermissionError, IsADirectoryError, NotADirectoryError, FileNotFoundError):
            continue
        print(name, path)
"""


def test_user_reads_and_changes_none_of_it(node: Node, pod: Pod) -> None:
    node.add(pod, WISH, conf=OFF).ok()
    theirs = f"{node.directory}/theirs"
    Path(theirs).touch()
    os.chown(theirs, NOBODY, NOBODY)
    ours = [*below(os.path.dirname(node.state_dir), os.path.dirname(node.run_dir)), node.log_file]
    with open_to_all(theirs):
        assert as_nobody(TOUCH, *ours) == ""
        assert f"append {theirs}\n" in as_nobody(TOUCH, theirs), "the attempt itself is in order"


# What is imported late would be closed to him where the interpreter is: that is not to be what stops him.
DROPPED = """
import codecs, difflib, json, os, sys, time, traceback
codecs.lookup("ascii")
sys.path += {path!r}
from cni_macvlan_egress import entry
from cni_macvlan_egress.daemon import supervisor
supervisor._preload()
os.setgroups([]); os.setgid({user}); os.setuid({user})
sys.exit(entry.serve(dict(os.environ)))
"""


def served_as_nobody(node: Node, verb: str, request: Request) -> Answer:
    """The plugin as its user calls it: with all code at hand, and no privilege."""
    program = DROPPED.format(path=[str(REPOSITORY), sysconfig.get_paths()["purelib"]], user=NOBODY)
    environment = {"CNI_COMMAND": verb, "CNI_PATH": node.bin_dir, "PATH": "/bin", **request.environment}
    done = within(
        node.path,
        lambda: subprocess.run(
            [sys.executable, "-c", program], env=environment, input=request.stdin.encode(), capture_output=True,
            check=False,
        ),
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode()).check()


@pytest.mark.parametrize("directories", ["the node's", "his own"])
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_user_who_calls_the_plugin_himself_changes_nothing(
    node: Node, pod: Pod, verb: str, directories: str
) -> None:
    """The files of the node are closed to him; with files of his own the kernel refuses the rest."""
    mine = node.pod()
    node.add(pod, WISH, conf=OFF).ok()
    asked = node.request(mine, source("192.168.12.98/24", destination=DESTINATION), conf=OFF)
    if verb == "DEL":
        asked = node.request(pod, WISH, conf=OFF)
    own = Path(node.directory) / "own"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    if directories == "his own":
        asked = asked.but(stateDir=str(own / "state"), runDir=str(own / "run"), logFile=str(own / "log"))
    with unchanged(node, mine), open_to_all(own / "x"):
        answer = served_as_nobody(node, verb, asked)
    if directories == "the node's":
        answer.refused(IO_FAILURE, node.directory)
    elif verb == "ADD":
        answer.refused(KERNEL_REFUSED)
    else:
        answer.ok()  # there is nothing of which his files would tell
    node.check(pod).ok()


def test_executables_lend_nobody_their_privileges(node: Node, native: str, tmp_path: Path) -> None:
    for path in (launcher.write(str(tmp_path)), native):
        mode = os.stat(path).st_mode
        assert stat.S_IMODE(mode) == 0o755, "set-user-ID, or others may write to it"
        with pytest.raises(OSError, match="No data") as caught:
            os.getxattr(path, "security.capability")
        assert caught.value.errno == errno.ENODATA


# -- what has been planted: by whoever may write there, because the admin has chosen such a place


def plant_link(path: str, victim: str) -> None:
    os.symlink(victim, path)


def plant_dangling_link(path: str, victim: str) -> None:
    os.symlink(f"{victim}.new", path)


def plant_hard_link(path: str, victim: str) -> None:
    os.link(victim, path)


def plant_fifo(path: str, _: str) -> None:
    os.mkfifo(path)


def plant_directory(path: str, _: str) -> None:
    os.mkdir(path)


def plant_socket(path: str, _: str) -> None:
    folder, _, name = path.rpartition("/")
    directory = os.open(folder, os.O_RDONLY)
    try:
        with closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.bind(f"/proc/self/fd/{directory}/{name}")  # the path itself may be longer than an address
    finally:
        os.close(directory)


PLANTS = [plant_link, plant_dangling_link, plant_hard_link, plant_fifo, plant_directory, plant_socket]


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[str]:
    """A file of somebody else, which is the same afterwards; nothing new is beside it."""
    path = tmp_path / "victim" / "file"
    path.parent.mkdir()
    path.write_text("precious\n")
    before = path.stat().st_mode
    yield str(path)
    assert (path.read_text(), path.stat().st_mode) == ("precious\n", before)
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("plant", PLANTS)
def test_log_goes_nowhere_else(node: Node, pod: Pod, victim: str, plant: Callable[[str, str], None]) -> None:
    """Nor does it keep an ADD from its work."""
    plant(node.log_file, victim)
    node.add(pod, WISH, conf=OFF).ok()


def test_log_is_no_news_for_who_listens_at_a_fifo(node: Node, pod: Pod) -> None:
    os.mkfifo(node.log_file)
    ear = os.open(node.log_file, os.O_RDONLY | os.O_NONBLOCK)
    try:
        node.add(pod, WISH, conf=OFF).ok()
        assert os.read(ear, 1) == b"", "somebody hears"
    finally:
        os.close(ear)


def record(node: Node, pod: Pod) -> str:
    return node.record(pod)


def unfinished_record(node: Node, pod: Pod) -> str:
    folder, _, name = node.record(pod).rpartition("/")
    return f"{folder}/.{name}.tmp"


def claim(node: Node, _: Pod) -> str:
    return f"{node.state_dir}/addresses/192.168.12.99"


def lock(node: Node, _: Pod) -> str:
    return f"{node.run_dir}/addresses.lock"


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("place", [record, unfinished_record, claim, lock])
def test_nothing_planted_in_the_plugins_directories_leads_out_of_them(
    node: Node, victim: str, place: Callable[[Node, Pod], str], plant: Callable[[str, str], None]
) -> None:
    """The call succeeds or says what is in its way, in any case soon; nobody else's file is touched."""
    pod = node.pod()
    path = place(node, pod)
    os.makedirs(os.path.dirname(path), 0o700)
    if (place, plant) == (unfinished_record, plant_hard_link):
        # The kernel lets nobody make a link to a file that he may not write to (fs.protected_hardlinks).
        assert "PermissionError" in as_nobody(LINK, victim, "/tmp/cme-never")
        return
    plant(path, victim)
    with unchanged(pod):
        answer = executed(node, "ADD", node.request(pod, WISH, conf=OFF))
        if answer.status:
            answer.refused(IO_FAILURE, node.directory)
        executed(node, "DEL", node.request(pod, WISH, conf=OFF))


LINK = """
import os, sys
try:
    os.link(*sys.argv[1:])
except OSError as error:
    print(type(error).__name__)
"""


# -- what has been set


TRAP = "import os\nopen({mark!r}, 'a').write(__name__ + ' ' + {name!r} + chr(10))\nraise ImportError\n"
MODULES = (
    "json", "socket", "struct", "ctypes", "pydantic", "pyroute2", "yaml", "dns", "sitecustomize", "usercustomize",
    "ipaddress", "subprocess", "fcntl", "difflib", "cni_macvlan_egress",
)  # fmt: skip


@pytest.fixture
def traps(tmp_path: Path) -> tuple[Path, Path]:
    """A directory with modules named like those that the plugin loads, and the file that tells whether one ran."""
    directory, mark = tmp_path / "traps", tmp_path / "mark"
    (directory / "lib").mkdir(parents=True)
    for name in MODULES:
        text = TRAP.format(mark=str(mark), name=name)
        (directory / f"{name}.py").write_text(text)
        (directory / name).mkdir()
        (directory / name / "__init__.py").write_text(text)
    (directory / "startup.py").write_text(TRAP.format(mark=str(mark), name="startup"))
    return directory, mark


def python_variables(directory: Path) -> dict[str, str]:
    """All that python(1) reads, with the worst that it could be."""
    here = str(directory)
    return {
        "PYTHONPATH": here, "PYTHONHOME": here, "PYTHONSTARTUP": f"{here}/startup.py", "PYTHONUSERBASE": here,
        "PYTHONINSPECT": "1", "PYTHONBREAKPOINT": "json.x", "PYTHONWARNINGS": "error::json.x", "PYTHONVERBOSE": "2",
        "PYTHONDUMPREFS": "1", "PYTHONPYCACHEPREFIX": here, "PYTHONEXECUTABLE": f"{here}/python",
        "PYTHONPLATLIBDIR": here, "PYTHONIOENCODING": "rot13", "PYTHONPROFILEIMPORTTIME": "1", "PYTHONDEBUG": "3",
        "PYTHONCASEOK": "1", "PYTHONOPTIMIZE": "2", "PYTHONMALLOC": "debug", "PYTHONNODEBUGRANGES": "1", "HOME": here,
        "VIRTUAL_ENV": here, "XDG_CONFIG_HOME": here,
    }  # fmt: skip


def test_traps_work(traps: tuple[Path, Path]) -> None:
    """A program that is not careful does run into them."""
    directory, mark = traps
    environment = {"PYTHONPATH": str(directory)}
    subprocess.run([sys.executable, "-c", "import json"], env=environment, capture_output=True, check=False)
    assert "sitecustomize" in mark.read_text()
    mark.unlink()
    subprocess.run(
        [sys.executable, "-c", "import yaml"], env={}, cwd=directory, capture_output=True, check=False
    )
    assert "yaml" in mark.read_text()


def test_python_variables_and_directory_mean_nothing_to_the_executable(
    node: Node, pod: Pod, traps: tuple[Path, Path]
) -> None:
    directory, mark = traps
    hostile: dict[str, Any] = {"environment": python_variables(directory), "cwd": str(directory)}
    asked = node.request(pod, WISH, conf={**OFF, "policy": {}, "clusterNetworks": ["10.0.0.0/8"]})
    with unchanged(pod):
        answer = executed(node, "ADD", asked, **hostile)
        assert answer.ok()
        assert answer.stderr == ""
        executed(node, "CHECK", asked, **hostile).ok()
        text = command(node, "status", "--state-dir", node.state_dir, "--run-dir", node.run_dir, **hostile)
        assert "192.168.12.99" in text
        executed(node, "DEL", asked, **hostile).ok()
    assert not mark.exists(), mark.read_text()


def test_python_variables_and_directory_mean_nothing_to_the_daemon(
    node: Node, pod: Pod, native: str, traps: tuple[Path, Path], make_daemon: Callable[..., Daemon]
) -> None:
    """Started by the node's executable, as its service file does."""
    directory, mark = traps
    script = f'cd "$0"; shift 4; exec {node.bin_dir}/macvlan-egress daemon "$@"'
    daemon = make_daemon(wrapper=("/bin/sh", "-c", script, str(directory)))
    daemon.start(python_variables(directory))
    assert os.readlink(f"/proc/{daemon.pid}/cwd") == str(directory)
    asked = node.request(pod, WISH, conf=OFF)
    for verb in ("ADD", "CHECK", "DEL"):
        environment = {"CNI_COMMAND": verb, **asked.environment, **python_variables(directory)}
        node.execute(environment, asked.stdin, program=native).ok()
    assert daemon.metric('calls_total{verb="ADD",code="0"}') == 1
    assert not mark.exists(), mark.read_text()


def test_path_leads_to_no_program(node: Node, pod: Pod, tmp_path: Path) -> None:
    """The plugin executes nothing but an IPAM plugin, which it finds by CNI_PATH."""
    programs, mark = tmp_path / "programs", tmp_path / "mark"
    programs.mkdir()
    for name in (
        "sh",
        "ip",
        "nft",
        "modprobe",
        "sysctl",
        "python3",
        "env",
        "id",
        "uname",
        "ldconfig",
        "gcc",
        "objdump",
    ):
        (programs / name).write_text(f"#!/bin/sh\necho {name} >> {mark}\nexit 1\n")
        (programs / name).chmod(0o755)
    environment = {"PATH": str(programs)}
    asked = node.request(pod, WISH, conf=OFF)
    executed(node, "ADD", asked, environment=environment).ok()
    executed(node, "CHECK", asked, environment=environment).ok()
    command(node, "status", "--state-dir", node.state_dir, environment=environment)
    executed(node, "DEL", asked, environment=environment).ok()
    assert not mark.exists(), mark.read_text()
    subprocess.run(["/bin/sh", "-c", "nft"], env=environment, check=False)
    assert mark.read_text() == "nft\n", "the trap itself is in order"


def test_dynamic_linker_is_not_asked_for_the_native_launcher(native: str, tmp_path: Path) -> None:
    """It is static: LD_PRELOAD and its like change nothing."""
    native = make_launcher(tmp_path / "hasty", "/nowhere/daemon.sock", direct="/nowhere/direct")
    variables = {
        "LD_PRELOAD": "/nowhere/evil.so", "LD_LIBRARY_PATH": "/nowhere", "LD_AUDIT": "/nowhere/audit.so",
        "LD_DEBUG": "all", "LD_TRACE_LOADED_OBJECTS": "1", "LD_SHOW_AUXV": "1", "GCONV_PATH": "/nowhere",
    }  # fmt: skip
    dynamic = subprocess.run(["/bin/true"], env=variables, capture_output=True, check=False)
    assert dynamic.stdout + dynamic.stderr, "another program does obey"
    plain, hostile = (
        subprocess.run([native], env={"CNI_COMMAND": "STATUS", "CNI_PATH": "/", **more}, input=b"{}",
                       capture_output=True, check=False)
        for more in ({}, variables)
    )  # fmt: skip
    assert (hostile.returncode, hostile.stdout, hostile.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )
    assert json.loads(hostile.stdout)["code"]


# -- what others could pick up


LEAKY = """#!/bin/sh
ls -l /proc/self/fd > {seen}
cat > /dev/null
case $CNI_COMMAND in
ADD) echo '{{"cniVersion": "1.1.0", "ips": [{{"address": "192.168.12.97/24"}}]}}' ;;
VERSION) echo '{{"cniVersion": "1.1.0", "supportedVersions": ["1.1.0"]}}' ;;
esac
"""


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """An IPAM plugin that tells which file descriptors it has been given."""
    path = tmp_path / "plugins" / "leaky"
    path.parent.mkdir()
    path.write_text(LEAKY.format(seen=tmp_path / "seen"))
    path.chmod(0o755)
    return path


def given(tmp_path: Path) -> set[str]:
    """The descriptors that it saw; 3 is the directory that ls(1) has opened itself."""
    lines = (tmp_path / "seen").read_text().splitlines()
    return {line.split(" -> ")[0].split()[-1] for line in lines if " -> " in line}


def ipam_request(node: Node, pod: Pod, leaky: Path) -> Request:
    asked = node.request(pod, {ASSIGN: "true"}, conf={**OFF, "ipam": {"type": "leaky"}})
    return asked.but({"CNI_PATH": f"{leaky.parent}:{node.bin_dir}"})


def test_ipam_plugin_inherits_no_descriptor(node: Node, pod: Pod, leaky: Path, tmp_path: Path) -> None:
    """Neither one of the plugin's, to the pod's namespace say, nor one that the runtime has left open."""
    asked = ipam_request(node, pod, leaky)
    with open(node.path) as left_open:
        variables = {"CNI_COMMAND": "ADD", "PATH": "/usr/bin:/bin", **asked.environment}
        subprocess.run(
            ["nsenter", f"--net={node.path}", f"{node.bin_dir}/macvlan-egress"], env=variables,
            input=asked.stdin.encode(), pass_fds=[left_open.fileno()], check=True, capture_output=True,
        )  # fmt: skip
    assert given(tmp_path) == {"0", "1", "2", "3"}
    node.send("DEL", asked).ok()
    assert given(tmp_path) == {"0", "1", "2", "3"}


def test_ipam_plugin_inherits_no_descriptor_of_the_daemon(
    node: Node, pod: Pod, leaky: Path, native: str, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    """Not its sockets, nor those of other calls."""
    daemon = make_daemon().start()
    asked = ipam_request(node, pod, leaky)
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.connect(daemon.socket)
        for verb in ("ADD", "DEL"):
            node.execute({"CNI_COMMAND": verb, **asked.environment}, asked.stdin, program=native).ok()
            assert given(tmp_path) == {"0", "1", "2", "3"}


PEEK = """
import os, sys
for pid in sys.argv[1:]:
    for name in ("environ", "mem", "maps", "auxv", "stack", "syscall", "io", "fd", "fdinfo", "map_files", "cwd", "root",
                 "exe", "ns/net"):
        path = f"/proc/{pid}/{name}"
        try:
            if name in ("cwd", "root", "exe", "ns/net"):
                os.readlink(path)
            elif os.path.isdir(path):
                os.listdir(path)
            else:
                open(path, "rb").read(1)
        except PermissionError:
            continue
        print(name)
    print(open(f"/proc/{pid}/cmdline").read().replace(chr(0), " "))
"""


def test_daemon_in_proc_tells_others_its_command_line_alone(
    node: Node, native: str, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon().start({"TOKEN": "secret"})
    eventually(daemon.caretaker, "the caretaker does not start")
    processes = [*daemon.processes(), daemon.caretaker()]
    seen = as_nobody(PEEK, *map(str, processes))
    assert "secret" not in seen
    assert len(seen.splitlines()) == len(processes), seen
    assert "--socket" in seen
    assert "environ" in as_nobody(PEEK.replace("sys.argv[1:]", "[os.getpid()]").replace('"mem", ', "")), (
        "the attempt itself is in order"
    )


SIGNALS = """
import os, signal, sys
for pid in map(int, sys.argv[1:]):
    for act in (lambda: os.kill(pid, signal.SIGTERM), lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
                lambda: os.sched_setaffinity(pid, {0}), lambda: open(f"/proc/{pid}/oom_score_adj", "w").write("1000")):
        try:
            act()
        except PermissionError:
            continue
        print(pid)
"""


def test_user_can_neither_stop_nor_hinder_the_daemon(
    node: Node, native: str, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon().start()
    assert as_nobody(SIGNALS, *map(str, daemon.processes())) == ""
    node.execute({"CNI_COMMAND": "VERSION"}, b"", program=native).ok()
