"""Who may import whom, and what a pass-through may load."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cni_macvlan_egress
from cni_macvlan_egress.sources.policy_directory import fingerprint

from .calls import ANNOTATIONS, POD_ARGS, configuration, variables

PACKAGE = cni_macvlan_egress.__name__
ROOT = Path(cni_macvlan_egress.__file__).parent

# Each layer with those of the package that it may import besides itself.
LAYERS = {
    "protocol": set(),
    "model": {"protocol"},
    "decide": {"protocol", "model"},
    "kernel": {"protocol", "model", "decide", "turns"},
}
# The only places that speak netlink; pyroute2 is for those that are in no hurry.
NETLINK = ("kernel/messages.py", "kernel/netlink.py")
PYROUTE2 = ("admin/theatre",)
# What a pass-through cannot afford, with what it would cost (milliseconds as measured are in docs).
HEAVY = (
    "json", "pydantic", "pyroute2", "yaml", "socket", "subprocess", "asyncio", "logging", "re", "typing", "enum",
    "dataclasses", "collections", "functools", "pathlib", "ipaddress", "tempfile", "threading", "ctypes", "ssl", "site",
)  # fmt: skip


def modules() -> Iterator[tuple[str, str]]:
    """Every module of the package: its path below the package's directory, and its dotted name."""
    for path in sorted(ROOT.rglob("*.py")):
        below = path.relative_to(ROOT)
        parts = below.with_suffix("").parts
        yield str(below), ".".join((PACKAGE, *parts[: -1 if parts[-1] == "__init__" else None]))


def imports(path: str, name: str) -> set[str]:
    """The dotted names of all that a module imports, also inside functions; `from x import y` gives x and x.y."""
    tree = ast.parse((ROOT / path).read_text())
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            base = (
                importlib.util.resolve_name(f"{dots}{node.module or ''}", package)
                if dots
                else node.module or ""
            )
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


MODULES = {path: (name, imports(path, name)) for path, name in modules()}


def layers_of(imported: set[str]) -> set[str]:
    """The parts of the package that are imported from."""
    ours = (one.split(".") for one in imported if one.startswith(f"{PACKAGE}."))
    return {parts[1] for parts in ours}


def test_imports_are_found_wherever_they_stand() -> None:
    _, found = MODULES["protocol/wire.py"]
    assert {"posix", "json", f"{PACKAGE}.protocol.errors"} <= found
    assert layers_of(MODULES["attach/add.py"][1]) >= {"decide", "kernel", "model", "protocol", "attach"}


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_imports_downward_only(layer: str) -> None:
    of_layer = {path: found for path, (_, found) in MODULES.items() if path.startswith(f"{layer}/")}
    assert of_layer
    wrong = {
        path: above
        for path, found in of_layer.items()
        if (above := layers_of(found) - LAYERS[layer] - {layer})
    }
    assert wrong == {}


def test_rtnetlink_is_spoken_in_few_places() -> None:
    speakers = {
        path
        for path, (_, found) in MODULES.items()
        if any(one.split(".")[0] == "pyroute2" for one in found) and not path.startswith(PYROUTE2)
    }
    # These look where and in which version it is installed, and speak to nobody.
    assert speakers <= {"admin/launcher.py", "admin/version.py"}
    messengers = {path for path, (_, found) in MODULES.items() if f"{PACKAGE}.kernel.messages" in found}
    assert messengers <= set(NETLINK)


def test_pure_layers_know_nothing_of_the_machine() -> None:
    """Rules are tested by plain data; only stdin and stdout are read and written in protocol/wire.py."""
    machine = {
        "os",
        "posix",
        "socket",
        "subprocess",
        "pathlib",
        "time",
        "random",
        "threading",
        "ctypes",
        "fcntl",
    }
    pure = {
        path: found & machine
        for path, (_, found) in MODULES.items()
        if path.startswith(("protocol/", "model/", "decide/"))
    }
    assert {path: found for path, found in pure.items() if found} == {"protocol/wire.py": {"posix"}}


# -- a real run

# Prints the modules that the run has loaded beyond those of an empty interpreter.
WATCH = """
import sys
before = set(sys.modules)
sys.path.append(sys.argv.pop())
from cni_macvlan_egress.entry import script
status = script()
sys.stderr.write("\\n".join(sorted(set(sys.modules) - before)))
sys.exit(status)
"""
PREVIOUS = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "eth0", "sandbox": "/x"}],
    "ips": [{"address": "10.0.0.5/24"}],
}
UNANNOTATED = configuration(
    prevResult=PREVIOUS,
    capabilities={ANNOTATIONS: True},
    runtimeConfig={ANNOTATIONS: {"some/other": "annotation"}},
    allow=[{"namespaces": ["*"]}],
    stateDir="/nowhere/state",
)


def loaded(environment: dict[str, str], document: dict[str, Any]) -> tuple[set[str], str]:
    """The modules that a call loads, as an installed launcher runs it, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-IBS", "-c", WATCH, str(ROOT.parent)],
        env=environment,
        input=json.dumps(document),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return set(done.stderr.split("\n")), done.stdout


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "VERSION"])
def test_pass_through_loads_a_handful_of_modules(verb: str) -> None:
    found, output = loaded(variables(verb, CNI_ARGS=POD_ARGS), UNANNOTATED)
    if verb == "ADD":
        assert json.loads(output) == PREVIOUS
    assert f"{PACKAGE}.entry" in found
    assert not found.intersection(HEAVY)
    others = {name for name in found if name.split(".")[0] != PACKAGE}
    assert others <= {"__future__", "_json"}
    assert {name.split(".")[1] for name in found if name.count(".")} <= {
        "entry", "passthrough", "protocol", "model", "attach",
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_pod_without_policy_on_a_node_with_policies_loads_hardly_more(tmp_path: Path, verb: str) -> None:
    directory = tmp_path / "policies.d"
    directory.mkdir()
    index = tmp_path / "run/policy/index"
    index.parent.mkdir(parents=True)
    index.write_text(f"{directory} {fingerprint(str(directory))}\nbank\n")
    settings = {"policy": {"directory": str(directory)}, "clusterNetworks": ["10.0.0.0/8"]}
    document = {
        **UNANNOTATED,
        **settings,
        "stateDir": str(tmp_path / "state"),
        "runDir": str(tmp_path / "run"),
    }
    found, output = loaded(variables(verb, CNI_ARGS=POD_ARGS), document)
    if verb == "ADD":
        assert json.loads(output) == PREVIOUS
        (note,) = (tmp_path / "run/policy/pods").iterdir()
        assert json.loads(note.read_text())["addresses"] == ["10.0.0.5"]
    assert not found.intersection(HEAVY)
    assert {name for name in found if name.split(".")[0] != PACKAGE} <= {"__future__", "_json"}


def test_what_heavy_modules_look_like_to_this_test() -> None:
    rewritten = {**UNANNOTATED, "cniVersion": "1.0.0"}  # another version has to be encoded
    found, _ = loaded(variables("ADD", CNI_ARGS=POD_ARGS), rewritten)
    assert {"json", "re"} <= found
    assert not found.intersection({"pydantic", "pyroute2", "socket", "subprocess", "typing"})
