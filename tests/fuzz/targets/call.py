"""Environment and stdin of a CNI call, through the whole plugin up to where it would touch the kernel.

An input is what the process gets: a line for each variable, an empty line, stdin.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from ..mutations import words
from ..mutations.documents import Vocabulary, changed_text, choice, listed
from ..target import Target
from . import answers, terms

_POD = "io.kubernetes.cri.pod-annotations"
_VARIABLES = {
    "CNI_COMMAND": choice("ADD", "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "add", "", "UPDATE"),
    "CNI_CONTAINERID": choice("c1", "a" * 200, "a" * 201, "../x", "-", "c1\x7f", "c@1", ""),
    "CNI_NETNS": choice(
        "/run/fuzz/netns/pod", "/run/fuzz/none", "/proc/self/ns/net", "/proc/self/ns/mnt", "/dev/null", ""
    ),
    "CNI_IFNAME": terms.interface,
    "CNI_PATH": choice("/opt/cni/bin", ":", "/run/fuzz::relative", ""),
    "CNI_ARGS": lambda random: ";".join(terms.pair(random) for _ in range(random.randint(0, 5))),
    "CNI_NETNS_OVERRIDE": choice("1", "TRUE", "no"),
}
VOCABULARY = Vocabulary(
    keys=(
        "cniVersion",
        "cniVersions",
        "name",
        "type",
        "args",
        "capabilities",
        "runtimeConfig",
        "prevResult",
        "dns",
        "ipam",
        "master",
        "mode",
        "mtu",
        "ifName",
        "mac",
        "allow",
        "conflictDetection",
        "conflictTimeoutMs",
        "routes",
        "policy",
        "clusterNetworks",
        "annotations",
        "kubeconfig",
        "stateDir",
        "runDir",
        "logFile",
        "logLevel",
        "namespaces",
        "sources",
        "masters",
        "destinations",
        "directory",
        "kubernetes",
        "log",
        "unknownMacs",
        "ips",
        "interfaces",
        "address",
        "gateway",
        "interface",
        "sandbox",
        "dst",
        "gw",
        "ip4",
        "ip6",
        "ip",
        "version",
        "cni.dev/valid-attachments",
        "containerID",
        "ifname",
        "disableCheck",
        _POD,
        *terms.ANNOTATIONS,
    ),
    values=(
        *terms.ADDRESSES,
        *terms.NAMES,
        *terms.INTERFACES,
        *terms.PATHS,
        "runtime",
        "kubernetes",
        "host-local",
        "fast",
    ),
    makers={
        **terms.ANNOTATIONS,
        _POD: terms.annotations,
        "cniVersion": terms.version,
        "name": choice("cluster", "a/b", "-", "", 1),
        "prevResult": terms.previous,
        "runtimeConfig": lambda random: {_POD: terms.annotations(random)},
        "ips": choice(listed(terms.address), listed(terms.addresses_of_result)),
        "interfaces": listed(terms.interfaces_of_result),
        "routes": choice("destinations", "default", listed(terms.routes_of_result)),
        "mac": choice("kernel", "address", terms.mac),
        "master": terms.interface,
        "ifName": terms.interface,
        "mode": choice("bridge", "private", "vepa", "passthru"),
        "ipam": choice(
            {"type": "host-local"}, {"type": "../x"}, {"type": ""}, {}, {"type": "none", "x": [1]}
        ),
        "allow": listed(
            lambda random: {
                "namespaces": choice(["*"], ["shop"], [], ["["])(random),
                random.choice(("sources", "masters", "destinations", "x")): listed(
                    choice(terms.address, terms.name)
                )(random),
            }
        ),
        "clusterNetworks": listed(choice("10.244.0.0/16", "fd00:244::/32", terms.address)),
        "policy": choice(
            {}, {"kubernetes": True}, {"directory": "/run/fuzz/policies"}, {"log": 1}, {"unknownMacs": "pass"}
        ),
        "annotations": listed(choice("runtime", "kubernetes", "/run/fuzz/annotations", "x")),
        "stateDir": terms.path,
        "runDir": terms.path,
        "logFile": terms.path,
        "kubeconfig": terms.path,
        "conflictDetection": choice("fast", "strict", "off"),
        "cni.dev/valid-attachments": listed(
            choice({"containerID": "c1", "ifname": "eth0"}, {"containerID": 1}, 1)
        ),
    },
)


def read(data: bytes) -> tuple[dict[str, str], bytes]:
    """The variables and stdin of an input."""
    head, _, stdin = data.partition(b"\n\n")
    lines = (line.partition("=") for line in head.decode("utf-8", "surrogateescape").split("\n"))
    return {name: value.replace("\0", "") for name, equals, value in lines if equals}, stdin


def written(variables: dict[str, str], stdin: bytes) -> bytes:
    """An input of variables and stdin."""
    head = "\n".join(f"{name}={value}" for name, value in variables.items())
    return head.encode("utf-8", "surrogateescape") + b"\n\n" + stdin


def examine(data: bytes, seen: Callable[[], list[str]]) -> None:
    variables, stdin = read(data)
    answers.ask(variables, stdin, seen)


def mutate(data: bytes, random: Random) -> bytes:
    variables, stdin = read(data)
    if random.random() < 0.3:
        variables = variables_changed(variables, random)
    else:
        text = changed_text(stdin.decode("utf-8", "replace"), random, VOCABULARY)
        stdin = text.encode("utf-8", "surrogatepass")
    return written(variables, stdin)


def variables_changed(variables: dict[str, str], random: Random) -> dict[str, str]:
    """The variables with one that is changed, new or missing."""
    name = random.choice(sorted(_VARIABLES))
    made = dict(variables)
    match random.randrange(4):
        case 0:
            made.pop(name, None)
        case 1:
            made[name] = words.spoilt(variables.get(name, ""), random)
        case _:
            made[name] = str(_VARIABLES[name](random))
    return {name: value.replace("\n", "").encode("utf-8", "replace").decode() for name, value in made.items()}


TARGET = Target("call", examine, mutate, writes=True)
