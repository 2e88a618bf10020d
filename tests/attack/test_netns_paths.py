"""A CNI_NETNS that is the node's own by another name, no network namespace at all, or another one a moment later.

Everything is tried on a node whose first process is in the lab as well: /proc/1/ns/net is this node's there.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from daemon.running import Daemon, eventually, make_launcher
from lab import Answer, Lab, Node, Pod, Request, source, unchanged, within
from lab.needed import made_lab

from cni_macvlan_egress import entry
from cni_macvlan_egress.protocol import wire
from cni_macvlan_egress.protocol.errors import CniError

from .stage import OFF

ENVIRONMENT, NETNS, DRIFT, NOT_ALLOWED = 4, 8, 107, 100
WISH = source("192.168.12.99/24")
# A first process in the node's namespace, and the plugin beside it.
BESIDE_THE_FIRST = ("unshare", "--pid", "--fork", "--mount-proc", "/bin/sh", "-c", '"$0" "$@"; exit $?')


@pytest.fixture(scope="module")
def lab(bin_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with made_lab(bin_dir, tmp_path_factory) as lab:
        yield lab


@pytest.fixture(scope="module")
def pod(lab: Lab) -> Pod:
    """One that nobody attaches."""
    return lab.node.pod()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where an attacker makes other paths."""
    with ExitStack() as stack:
        stack.callback(lambda: [unmount(path) for path in tmp_path.iterdir() if os.path.ismount(path)])
        yield tmp_path


def unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", path], check=True)


def mount(namespace: str, path: Path) -> str:
    """Make a namespace appear at another path, as container runtimes do."""
    path.touch()
    subprocess.run(["mount", "--bind", namespace, path], check=True)
    return str(path)


# -- the node's own


def bound(node: Node, place: Path) -> str:
    return mount(node.path, place / "innocent")


def linked(node: Node, place: Path) -> str:
    (place / "one").symlink_to(node.path)
    (place / "two").symlink_to("one")
    return str(place / "two")


def linked_to_itself(_: Node, place: Path) -> str:
    """Whoever follows it is led to his own."""
    (place / "self").symlink_to("/proc/self/ns/net")
    return str(place / "self")


def roundabout(node: Node, _: Path) -> str:
    return f"/proc/self/root//run/./netns/../netns/{node.name}"


OWN: list[Callable[[Node, Path], str]] = [
    lambda *_: "/proc/1/ns/net",
    lambda *_: "/proc/self/ns/net",
    lambda *_: "/proc/thread-self/ns/net",
    lambda *_: "/proc/1/task/1/ns/net",
    bound,
    linked,
    linked_to_itself,
    roundabout,
]
OWN_NAMES = ["of process 1", "of the process", "of the thread", "of a thread of process 1", "mounted elsewhere",
             "behind links", "behind a link to itself", "roundabout"]  # fmt: skip


@pytest.mark.parametrize("make", OWN, ids=OWN_NAMES)
def test_nodes_own_namespace_is_refused_whatever_its_path(
    lab: Lab, pod: Pod, place: Path, make: Callable[[Node, Path], str]
) -> None:
    node = lab.node
    asked = node.request(pod, WISH, conf=OFF).but({"CNI_NETNS": make(node, place)})
    with unchanged(node):
        for verb in ("ADD", "DEL"):
            environment = {"CNI_COMMAND": verb, **asked.environment}
            answer = node.execute(environment, asked.stdin, wrapper=BESIDE_THE_FIRST)
            if verb == "ADD":
                answer.refused(NETNS, "the plugin's own")
            else:
                assert answer.status == 0 or answer.json["code"] == NETNS


def test_daemon_does_not_take_its_own_namespace_for_a_pods(lab: Lab, pod: Pod, place: Path) -> None:
    """/proc/self is the daemon there, and so are its file descriptors."""
    node = lab.node
    try:
        program = make_launcher(place / "launcher", str(place / "daemon" / "daemon.sock"))
    except CniError as error:
        pytest.skip(f"needs a C compiler: {error.msg}")
    daemon = Daemon(node, place / "daemon")
    try:
        daemon.start()
        paths = ["/proc/self/ns/net", "/proc/thread-self/ns/net", f"/proc/{daemon.pid}/ns/net", node.path]
        descriptors = [f"/proc/self/fd/{number}" for number in range(12)]
        with unchanged(node):
            for path in (*paths, *descriptors, "/proc/self/ns/user"):
                asked = node.request(pod, WISH, conf=OFF).but({"CNI_NETNS": path})
                environment = {"CNI_COMMAND": "ADD", **asked.environment}
                node.execute(environment, asked.stdin, program=program).refused(NETNS, path)
        assert daemon.metric("workers_replaced_total") == 0
    finally:
        daemon.close()


# -- none at all


def in_directory(name: str) -> Callable[[Path], str]:
    def make(place: Path) -> str:
        (place / name).write_text("no namespace")
        return str(place / name)

    return make


def cycle(place: Path) -> str:
    (place / "loop").symlink_to("loop")
    return str(place / "loop")


def fifo_behind_a_link(place: Path) -> str:
    os.mkfifo(place / "fifo")
    (place / "link").symlink_to("fifo")
    return str(place / "link")


def unreadable_mount(place: Path) -> str:
    return mount("/proc/self/ns/uts", place / "uts")


NONE: dict[str, Callable[[Path], str]] = {
    "user": lambda _: "/proc/self/ns/user",
    "pid": lambda _: "/proc/self/ns/pid",
    "pid of children": lambda _: "/proc/self/ns/pid_for_children",
    "uts": lambda _: "/proc/self/ns/uts",
    "ipc": lambda _: "/proc/self/ns/ipc",
    "cgroup": lambda _: "/proc/self/ns/cgroup",
    "mounted uts": unreadable_mount,
    "stdin": lambda _: "/dev/stdin",
    "zeros": lambda _: "/dev/zero",
    "memory": lambda _: "/proc/self/mem",
    "cycle": cycle,
    "fifo behind a link": fifo_behind_a_link,
    "new line": in_directory("a\nb"),
    "escape sequence": in_directory("\x1b]0;evil\x07"),
    "quotes": in_directory('"; flush ruleset; #'),
    "not UTF-8": in_directory("\udcff"),
    "long": lambda place: f"{place}/{'x' * 5000}",
    "empty component": lambda _: "/run/netns//",
}  # fmt: skip


@pytest.mark.parametrize("kind", NONE)
def test_what_is_no_network_namespace_is_refused_in_words_of_one_line(
    lab: Lab, pod: Pod, place: Path, kind: str
) -> None:
    node = lab.node
    asked = node.request(pod, WISH, conf=OFF).but({"CNI_NETNS": NONE[kind](place)})
    answer = node.execute({"CNI_COMMAND": "ADD", **asked.environment}, asked.stdin)
    answer.refused(NETNS)
    assert answer.stderr.count("\n") == 1
    assert answer.stderr[:-1].isprintable()
    node.execute({"CNI_COMMAND": "DEL", **asked.environment}, asked.stdin).ok()
    assert not os.path.exists(node.record(pod))
    assert not pod.link("macvlan0")


def test_nul_byte_in_the_path_is_refused(lab: Lab, pod: Pod) -> None:
    """No environment can hold one; the daemon's caller might try, and a shorter path would be another."""
    asked = lab.node.request(pod, WISH).but({"CNI_NETNS": f"{pod.path}\0/elsewhere"})
    variables = {"CNI_COMMAND": "ADD", "CNI_PATH": "/", **asked.environment}
    status, output, _ = entry.respond(variables, lambda: wire.decode(asked.stdin))
    Answer(status, output, "").refused(ENVIRONMENT, "CNI_NETNS", "NUL")


# -- another one a moment later


@contextmanager
def swapped_while_it_waits(
    node: Node, pod: Pod, request: Request, swap: Callable[[], None]
) -> Iterator[Answer]:
    """An ADD whose path leads elsewhere as soon as the plugin has opened it: it has to wait for a lock then."""
    os.makedirs(node.run_dir, 0o700, exist_ok=True)
    bucket = zlib.crc32(f"{pod.container_id}@eth0".encode()) % 64
    path = f"{node.run_dir}/attachment-{bucket:02}.lock"
    variables = {
        "CNI_COMMAND": "ADD",
        "CNI_PATH": node.bin_dir,
        "PATH": "/usr/bin:/bin",
        **request.environment,
    }
    with open(path, "w") as held:
        os.chmod(path, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        call = within(
            node.path,
            lambda: subprocess.Popen(
                [f"{node.bin_dir}/macvlan-egress"], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            ),
        )  # fmt: skip
        assert call.stdin
        call.stdin.write(request.stdin)
        call.stdin.close()
        call.stdin = None
        eventually(lambda: path in open_files(call.pid), "it does not come to the lock")
        swap()
    output, words = call.communicate(timeout=60)
    yield Answer(call.returncode, output, words).check()


def open_files(pid: int) -> set[str]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return found


@pytest.fixture
def two(lab: Lab) -> Iterator[tuple[Pod, Pod]]:
    """The pod that is meant, and another one."""
    pods = lab.node.pod(), lab.node.pod()
    yield pods
    for one in pods:
        lab.node.delete(one)


@pytest.mark.parametrize("policy", [False, True], ids=["without policies", "with policies"])
def test_namespace_that_is_swapped_during_add_is_the_one_that_was_opened(
    lab: Lab, two: tuple[Pod, Pod], place: Path, policy: bool
) -> None:
    """Link, addresses, record and what policies remember: all of it belongs to one and the same."""
    node = lab.node
    meant, other = two
    path = place / "netns"
    path.symlink_to(meant.path)
    conf = (
        {**OFF, "policy": {"directory": f"{place}/none"}, "clusterNetworks": ["10.0.0.0/8"]}
        if policy
        else OFF
    )
    asked = node.request(meant, WISH, conf=conf).but({"CNI_NETNS": str(path)})

    def swap() -> None:
        (place / "new").symlink_to(other.path)
        (place / "new").rename(path)

    with unchanged(other), swapped_while_it_waits(node, meant, asked, swap) as answer:
        answer.ok()
    assert meant.link("macvlan0")
    identity = os.stat(meant.path).st_ino
    assert json.loads(Path(node.record(meant)).read_text())["netns_inode"] == identity
    if policy:
        (note,) = Path(node.run_dir, "policy/pods").iterdir()
        assert json.loads(note.read_text())["netnsInode"] == identity
    path.unlink()
    path.symlink_to(meant.path)
    node.send("DEL", asked).ok()
    assert not meant.link("macvlan0")


@pytest.mark.parametrize("how", ["link", "mount"])
def test_namespace_that_takes_anothers_place_after_add_is_left_alone(
    lab: Lab, two: tuple[Pod, Pod], place: Path, how: str
) -> None:
    """DEL, CHECK and GC go by the namespace of the record; one that has its path only is somebody else's."""
    node = lab.node
    meant, other = two
    node.add(other, source("192.168.12.98/24"), conf=OFF).ok()
    path = place / "netns"
    if how == "link":
        path.symlink_to(meant.path)
    else:
        mount(meant.path, path)
    asked = node.request(meant, WISH, conf=OFF).but({"CNI_NETNS": str(path)})
    node.send("ADD", asked).ok()
    if how == "link":
        path.unlink()
        path.symlink_to(other.path)
    else:
        unmount(path)
        mount(other.path, path)
    with unchanged(other):
        node.send("CHECK", asked).refused(DRIFT, "namespace", "another")
        node.gc(other).ok()
        node.send("DEL", asked).ok()
    assert not node.holds("192.168.12.99")
    assert node.holds("192.168.12.98")
    node.check(other).ok()
