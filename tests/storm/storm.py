"""Rounds of a storm: many workers call for many pods while things go wrong; then all has to be as the model says."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab import Namespace, Request
from lab.snapshot import Snapshot, differences, files

from .ledger import Entry, Ledger
from .schedule import Round, Step
from .stage import Place, Stage, eventually
from .weather import Weather

SHOWN = 12
_NETWORKS = ("pods", "lan")


@dataclass
class Outcome:
    """What came of a round.

    Attributes:
        faults: what contradicts the model or a promise; there must be none.
        answers: how many calls ended with which code; None counts the killed ones.
        standings: how many pods were what when the storm was over.
        examples: of each code of an error the first answer.
    """

    round: Round
    faults: list[str] = field(default_factory=list)
    answers: Counter[int | None] = field(default_factory=Counter)
    standings: Counter[str] = field(default_factory=Counter)
    examples: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0

    def text(self) -> str:
        """Everything that somebody needs who wants to see it again."""
        return "\n".join(
            [*self.faults[:SHOWN], f"{len(self.faults)} in all; the schedule was:", str(self.round)]
        )


class Storm:
    """Runs rounds on a stage.

    Args:
        resident: the processes that stay: the daemon's.
        is_idle: whether no call is being served.
    """

    def __init__(
        self,
        stage: Stage,
        weather: Weather,
        resident: Callable[[], Iterable[int]] = tuple,
        is_idle: Callable[[], bool] = lambda: True,
    ) -> None:
        self._stage = stage
        self._weather = weather
        self._resident = resident
        self._is_idle = is_idle
        self._node = stage.lab.node

    def run(self, round_: Round) -> Outcome:
        """One round, from a clean node to a clean node."""
        began = time.monotonic()
        self._stage.prepare(round_)
        before = self._node.snapshot()
        held = self._handles()
        outcome = Outcome(round_)
        ledger = Ledger([*(self._entry(place, round_) for place in self._stage.places), Entry()])
        _Calls(self._stage, ledger, outcome, round_).attach_all()
        self._blow(_Calls(self._stage, ledger, outcome, round_), ledger, round_)
        self._settle(outcome)
        outcome.faults += ledger.faults
        for standing in ("attached", "absent", "unknown"):
            outcome.standings[standing] = len(ledger.of(standing))
        ledger.faults.clear()
        outcome.faults += _Inspection(self._stage, ledger).faults()
        self._end(_Calls(self._stage, ledger, outcome, round_), ledger, round_)
        outcome.faults += ledger.faults
        outcome.faults += self._compare(before)
        if self._handles() > held:
            outcome.faults.append("the daemon keeps namespaces open")
        outcome.seconds = time.monotonic() - began
        return outcome

    def _entry(self, place: Place, round_: Round) -> Entry:
        rivals = {*round_.rivals, *round_.rivals.values()}
        return Entry(passing=place.kind == "passing", rival=place.number in rivals)

    def _blow(self, calls: _Calls, ledger: Ledger, round_: Round) -> None:
        """All workers and the weather at once, from a common start."""
        start = threading.Barrier(len(round_.workers) + 1)
        over = threading.Event()

        def work(steps: tuple[Step, ...]) -> None:
            start.wait()
            for step in steps:
                calls.make(step)

        def change() -> None:
            start.wait()
            for event in itertools.cycle(round_.events):
                over.wait(event.after / 100 * self._stage.caller.usual("ADD"))
                if over.is_set():
                    return
                with self._weather.spells[round_.theme](ledger):
                    over.wait(event.lasts / 100 * self._stage.caller.usual("ADD"))

        with ThreadPoolExecutor(len(round_.workers) + 1) as pool:
            weather = pool.submit(change)
            working = [pool.submit(work, steps) for steps in round_.workers]
            for one in working:
                one.exception()  # wait for all
            over.set()
            for one in [*working, weather]:
                one.result()

    def _settle(self, outcome: Outcome) -> None:
        """Wait for what killed callers have left running, which has to end by itself."""
        if not eventually(self._is_idle, 60):
            outcome.faults.append("the daemon still serves a call")
        if not eventually(lambda: not self._strays(), 20):
            outcome.faults.append(f"processes that do not end: {self._strays()}")

    def _strays(self) -> list[str]:
        """Processes in the lab's namespaces that are not the daemon's."""
        own = {_inode(self._node)} | {_inode(place.pod) for place in self._stage.places if place.pod.exists}
        resident = set(self._resident())
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) not in resident:
                with suppress(OSError):
                    if os.stat(f"/proc/{name}/ns/net").st_ino in own:
                        found.append(f"{name} {Path(f'/proc/{name}/cmdline').read_bytes()[:80]!r}")
        return found

    def _handles(self) -> int:
        """How many network namespaces the daemon has open."""
        count = 0
        for pid in self._resident():
            with suppress(OSError):
                for one in os.listdir(f"/proc/{pid}/fd"):
                    with suppress(OSError):
                        count += os.readlink(f"/proc/{pid}/fd/{one}").startswith("net:")
        return count

    def _end(self, calls: _Calls, ledger: Ledger, round_: Round) -> None:
        """GC with those that are attached, and some more; then DEL of all."""
        attached = set(ledger.of("attached"))
        stale = [number for number in round_.collected if number not in attached]
        for network in _NETWORKS:
            calls.collect(network, stale)
        for number in stale:
            place = self._stage.places[number]
            if os.path.exists(self._node.record(place.pod, place.ifname)):
                ledger.faults.append(f"pod {number}: GC has left its record")
        steps = [Step("CHECK", number) for number in sorted(attached)[::10]]
        steps += [Step("DEL", place.number) for place in self._stage.places]
        steps += [Step("DEL", place.number) for place in self._stage.places[::10]]
        with ThreadPoolExecutor(len(round_.workers)) as pool:
            list(pool.map(calls.make, steps))

    def _compare(self, before: Snapshot) -> list[str]:
        """What of node, pods and files is not as it was."""
        found = []
        vanished = [place.host_end for place in self._stage.places if not place.pod.exists]
        expected = {
            name: [line for line in lines if not any(end in line for end in vanished)]
            for name, lines in before.items()
        }

        def of_node() -> list[str]:
            return differences(expected, self._node.snapshot())

        # The main interface of a pod that has vanished goes a moment after the namespace.
        eventually(lambda: not of_node(), 10)
        found += [f"node: {line}" for line in of_node()]
        for place in self._stage.places:
            if place.pod.exists:
                found += [
                    f"pod {place.number}: {line}" for line in differences(place.fresh, place.pod.snapshot())
                ]
        leases = [name for name in files(self._stage.leases) if "/172.20." in name]
        found += [f"a lease is left: {one}" for one in leases]
        strange = [one for one in files(self._node.run_dir) if not one.partition(":")[0].endswith(".lock")]
        found += [f"a file is left: {one[:200]}" for one in strange]
        return found


class _Calls:
    """Calls with what the ledger has to know of them."""

    def __init__(self, stage: Stage, ledger: Ledger, outcome: Outcome, round_: Round) -> None:
        self._stage = stage
        self._ledger = ledger
        self._outcome = outcome
        self._round = round_
        self._counting = threading.Lock()

    def attach_all(self) -> None:
        """Attach those that are attached when the storm begins."""
        steps = [Step("ADD", number) for number in self._round.attached]
        with ThreadPoolExecutor(len(self._round.workers)) as pool:
            list(pool.map(self.make, steps))

    def make(self, step: Step) -> None:
        """One step of a worker."""
        if step.verb == "GC":
            self.collect("pods", self._round.forgotten, step)
        elif step.verb == "STATUS":
            self._call(step, Request({}, self._stage.lab.node.configuration()))
        else:
            place = self._stage.places[step.pod]
            self._call(step, place.request(step.verb), place)

    def collect(self, network: str, stale: Iterable[int], step: Step | None = None) -> None:
        """GC of a network for all pods but the stale ones."""
        gone = set(stale)
        valid = [
            {"containerID": place.pod.container_id, "ifname": place.ifname}
            for place in self._stage.places
            if place.number not in gone
        ]
        conf = self._stage.lab.node.configuration(**{"name": network, "cni.dev/valid-attachments": valid})
        code = self._call(step or Step("GC"), Request({}, conf))
        of_network = [
            number for number in gone if (self._stage.places[number].kind == "leased") == (network == "lan")
        ]
        self._ledger.collected(of_network, code)

    def _call(self, step: Step, request: Request, place: Place | None = None) -> int | None:
        # A standalone result looks like a chain's in which nothing was asked for.
        listed = place is not None and place.has_result and place.kind != "leased"
        pending = self._ledger.begin(step.verb, step.pod, listed=listed)

        def vanish() -> None:
            assert place
            assert step.vanish_at is not None
            time.sleep(step.vanish_at / 100 * self._stage.caller.usual(step.verb))
            self._ledger.remove_namespace(place.number)
            place.pod.remove()

        answer, output = self._stage.caller.call(
            step.verb,
            request,
            kill_at=step.kill_at,
            shift=step.shift,
            meanwhile=None if step.vanish_at is None else vanish,
        )
        if place and step.verb == "ADD" and answer.code == 0:
            place.remember(output)
        if place and step.verb == "DEL" and answer.code == 0 and pending.alone:
            self._has_gone(place)
        with self._counting:
            self._outcome.answers[answer.code] += 1
            if answer.code:
                self._outcome.examples.setdefault(answer.code, f"{step.verb}: {answer.text}")
        self._ledger.end(pending, answer.code, answer.text)
        return answer.code

    def _has_gone(self, place: Place) -> None:
        """A DEL that says so has done it."""
        left = _traces(self._stage, place)
        if left:
            self._ledger.faults.append(f"pod {place.number}: DEL succeeded and left {', '.join(left)}")


class _Inspection:
    """Looks at everything while nothing goes on."""

    def __init__(self, stage: Stage, ledger: Ledger) -> None:
        self._stage = stage
        self._ledger = ledger
        self._node = stage.lab.node

    def faults(self) -> list[str]:
        """What contradicts the model."""
        return [*self._of_pods(), *self._of_addresses(), *self._of_node(), *self._of_files()]

    def _of_pods(self) -> list[str]:
        found = []
        for place in self._stage.places:
            entry = self._ledger.entries[place.number]
            left = _traces(self._stage, place)
            if entry.standing == "absent" and left:
                found.append(f"pod {place.number} is absent and has {', '.join(left)}")
            if entry.standing == "unknown" and "an interface" in left and "a record" not in left:
                found.append(f"pod {place.number} has an interface and no record")
            if entry.standing == "attached" and place.pod.exists:
                answer, _ = self._stage.caller.call("CHECK", place.request("CHECK"))
                if answer.code != 0:
                    found.append(f"pod {place.number} is attached, and CHECK says {answer.text}")
        return found

    def _of_addresses(self) -> list[str]:
        holders: dict[str, list[int]] = {}
        for place in self._stage.places:
            if place.pod.exists and place.interface in self._stage.interfaces(place):
                for address in place.pod.addresses(place.interface):
                    holders.setdefault(address.partition("/")[0], []).append(place.number)
        return [f"{one} is held by pods {pods}" for one, pods in holders.items() if len(pods) > 1]

    def _of_node(self) -> list[str]:
        links = [link["ifname"] for link in self._node.show("link show type macvlan")]
        found = [f"the node has a macvlan {name}" for name in links]
        if "macvlan_egress" in self._node.run("nft", "list", "ruleset"):
            found.append("the node has a table of the plugin")
        return found

    def _of_files(self) -> list[str]:
        unsure = {self._stage.places[number].pod.container_id for number in self._ledger.of("unknown")}
        names = [line.partition(": ")[0].partition(" -> ")[0] for line in files(self._node.state_dir)]
        return [
            f"a temporary file is left: {name}"
            for name in names
            if os.path.basename(name).startswith(".") and not any(one in name for one in unsure)
        ]


def _traces(stage: Stage, place: Place) -> list[str]:
    """What there is of an attachment."""
    node, found = stage.lab.node, []
    if os.path.exists(node.record(place.pod, place.ifname)):
        found.append("a record")
    for address in place.addresses:
        with suppress(OSError):
            if place.pod.container_id in os.readlink(f"{node.state_dir}/addresses/{address}"):
                found.append(f"the claim of {address}")
    with suppress(FileNotFoundError):
        if place.interface in stage.interfaces(place):
            found.append("an interface")
    return found


def _inode(namespace: Namespace) -> int:
    return os.stat(namespace.path).st_ino
