"""How much is tried, with what, and the tables of what has come of it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon.running import MACHINE, Daemon, Warm, make_launcher
from lab import Node
from policy.documents import Policies
from redirect.resolver import Resolver

from cni_macvlan_egress.admin import launcher
from cni_macvlan_egress.protocol.errors import CniError

from .aiming import QUIET, Direct, Runner, Warmed
from .bench import Bench
from .choice import Choice
from .scenarios import NAME, Scenario
from .tally import Tally, tables

PAGE = Path(__file__).resolve().parents[2] / "docs" / "proof.md"
_BEGIN, _END = "<!-- measured -->\n", "<!-- end -->\n"
_PROPERTY = "tally"
_SEED = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    """Understood where tests/faults is named on the command line."""
    group = parser.getgroup("faults")
    group.addoption("--every-call", action="store_true", help="hit every system call instead of a few")
    group.addoption(
        "--every-way", action="store_true", help="each with every error, and every way out after a kill"
    )
    group.addoption("--proof-table", action="store_true", help="write the tables into docs/proof.md")
    group.addoption("--fault-seed", type=int, default=_SEED, help="which ones are the few")


@pytest.fixture(scope="session", autouse=True)
def _can_be_traced() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the tracer knows the registers of x86-64 only")
    try:
        launcher.native(MACHINE)
    except CniError as error:
        pytest.skip(f"needs a C compiler: {error.msg}")


@pytest.fixture(scope="session")
def choice(pytestconfig: pytest.Config) -> Choice:
    return _choice(pytestconfig)


@pytest.fixture
def surrounded(node: Node, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """What starts a program where the node's resolver knows the name; mounts that come later are seen."""
    commands = []
    for name, content in (
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
        ("nsswitch.conf", "hosts: files dns\n"),
    ):
        (tmp_path / name).write_text(content)
        commands.append(f"mount --bind {tmp_path / name} $(readlink -f /etc/{name})")
    with Resolver(node) as resolver:
        resolver.names[NAME] = ("203.0.113.40", "2001:db8:113::40")
        yield (
            *("unshare", "--mount", "--propagation", "slave"),
            *("sh", "-ec", f'{"; ".join(commands)}; exec "$0" "$@"'),
        )


@pytest.fixture
def helper(node: Node, tmp_path: Path, surrounded: tuple[str, ...]) -> Iterator[Warm]:
    """A daemon of the node that nothing happens to."""
    daemon = Daemon(node, tmp_path / "helper", *QUIET, wrapper=surrounded)
    daemon.start()
    yield Warm(node, make_launcher(tmp_path / "launcher", daemon.socket))
    daemon.close()


@pytest.fixture
def make_bench(
    node: Node, helper: Warm, surrounded: tuple[str, ...], tmp_path: Path, tally: Callable[..., Tally]
) -> Iterator[Callable[..., Bench]]:
    """Makes the bench of a scenario."""
    runners: list[Runner] = []

    def make(table: str, scenario: Scenario, where: str) -> Bench:
        kind = Warmed if where == Warmed.name else Direct
        runners.append(kind(node, tmp_path / "runner", surrounded))
        return Bench(
            *(node, Policies(node), scenario, runners[-1], helper),
            make_tally=lambda verb: tally(table, scenario.name, verb, where),
        )

    yield make
    for one in runners:
        one.close()


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Callable[..., Tally]]:
    """Makes tallies that come into the tables."""
    made: list[Tally] = []

    def make(*words: str) -> Tally:
        made.append(Tally(*words))
        return made[-1]

    yield make
    request.node.user_properties += [(_PROPERTY, one.as_json()) for one in made]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the tables, and put them into the documentation if that is wanted."""
    reports = [one for some in terminalreporter.stats.values() for one in some]
    properties = [pair for one in reports for pair in getattr(one, "user_properties", ())]
    found = [Tally.from_json(value) for name, value in properties if name == _PROPERTY]
    if not found:
        return
    terminalreporter.section("calls that were killed or failed")
    text = f"{_extent(config)}\n\n{tables(found)}\n"
    terminalreporter.write(text)
    if config.getoption("--proof-table", default=False):
        before, _, rest = PAGE.read_text().partition(_BEGIN)
        PAGE.write_text(f"{before}{_BEGIN}{text}{_END}{rest.partition(_END)[2]}")


def _extent(config: pytest.Config) -> str:
    """What the tables are about."""
    choice = _choice(config)
    calls = (
        "Every system call"
        if choice.every_call
        else f"A few system calls of each (`--fault-seed {choice.seed}`)"
    )
    each = "with every error and every way out" if choice.every_way else "errors and ways out in turn"
    kernel = ".".join(platform.release().split(".")[:2])
    return f"{calls}, {each}; Linux {kernel}, Python {platform.python_version()}."


def _choice(config: pytest.Config) -> Choice:
    every_call = bool(config.getoption("--every-call", default=False))
    return Choice(
        every_call=every_call,
        every_way=every_call and bool(config.getoption("--every-way", default=False)),
        seed=int(config.getoption("--fault-seed", default=_SEED)),
    )
