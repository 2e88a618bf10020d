"""One kind of attachment on one node, whose calls are killed or fail, and what is to be seen afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daemon.running import Warm
from lab import Answer, Node, Pod, Request
from policy.documents import Policies

from cni_macvlan_egress.protocol.errors import ALREADY_ATTACHED, INTERNAL

from .aiming import Point, Run, Runner
from .scenarios import ADD, GC, GONE, Scenario, other
from .surroundings import Surroundings
from .tally import Tally

ERRORS = ("ENOMEM", "ENOBUFS", "EBUSY", "EEXIST", "ENOSPC", "EINTR")
ALONE = "IPAM plugin alone"
_ATTEMPTS = 3
# A thread that cannot come home from a pod's namespace ends its process (kernel/netns.py), and so does libnftables if
# it gets no socket.
ENDS_THE_PROCESS = re.compile(r": (setns net|socket netlink-netfilter)$")


class Bench:
    """Kills and fails.

    Args:
        runner: serves the calls that are hit, and those that follow.
        helper: serves all others.
        make_tally: makes what counts what comes of it, for a verb.
    """

    def __init__(
        self,
        node: Node,
        policies: Policies,
        scenario: Scenario,
        runner: Runner,
        helper: Warm,
        make_tally: Callable[[str], Tally],
    ) -> None:
        self._node = node
        self._policies = policies
        self._scenario = scenario
        self._runner = runner
        self._helper = helper
        self._make_tally = make_tally
        self._tallies: list[Tally] = []
        self._valid: list[Pod] = []
        scenario.prepare(policies)
        self._begin()

    def points(self, verb: str) -> list[Point]:
        """The system calls of a verb that change something."""
        if verb == "GC":
            self._add_other()
        self._before(verb)
        run = self._runner.run(verb, self._of(verb))
        run.answer.check().ok()
        if verb == "ADD":
            self._helper.send("DEL", self._request).ok()
        assert run.points
        self._tallies.append(self._make_tally(verb))
        self._tally.points = len(run.points)
        return run.points

    @property
    def _tally(self) -> Tally:
        """Of the verb whose points have been asked for last."""
        return self._tallies[-1]

    def kill(self, verb: str, point: Point, victim: str, way_out: str) -> None:
        """Kill a call at a point, and go a way out of it."""
        with self._counted(f"{verb} killed ({victim}) at {point}, then {way_out}", way_out):
            if way_out == GONE:
                self._kill_and_lose_the_pod(verb, point, victim)
                return
            run = self._hit(verb, point, victim=victim)
            if run is None:
                return
            self._get_out(way_out)
            self._is_as_before()
            self._is_usable()

    def check(self) -> None:
        """Fail with everything that did not end well."""
        for one in self._tallies:
            one.check()

    def kill_ipam(self, verb: str, point: Point) -> None:
        """Kill the IPAM plugin alone: an error like any other."""
        with self._counted(f"{verb}, IPAM plugin killed at {point}", ALONE):
            run = self._hit(verb, point, victim="process")
            if run is not None:
                self._outcome(verb, point, run)
                self._is_usable()

    def fail(self, verb: str, point: Point, error: str) -> None:
        """Have a system call fail."""
        with self._counted(f"{verb} with {error} at {point}", ""):
            run = self._hit(verb, point, error=error)
            if run is not None:
                outcome = self._outcome(verb, point, run)
                self._is_usable()
                self._tally.count(outcome)

    # -- what comes of it --------------------------------------------------------------------------------------

    def _outcome(self, verb: str, point: Point, run: Run) -> str:
        answer = run.answer
        assert "Traceback" not in answer.stdout + answer.stderr, answer
        if answer.status == 0:
            if verb == "ADD":
                self._helper.send("CHECK", self._request).ok()
                self._runner.send("DEL", self._request).ok()
            self._is_as_before()
            return "success"
        if _is_unsent(point, answer):
            self._runner.send("DEL", self._request).ok()
            self._is_as_before()
            return "no answer"
        if ENDS_THE_PROCESS.search(point.name) and (not answer.stdout or "gave no answer" in answer.stdout):
            self._runner.send("DEL" if verb == "ADD" else verb, self._of(verb)).ok()
            self._is_as_before()
            return "process ended"
        code = answer.check().json["code"]
        assert code != INTERNAL, answer
        if verb != "ADD":
            self._runner.send(verb, self._of(verb)).ok()
        self._is_as_before()
        return f"code {code}"

    def _get_out(self, way_out: str) -> None:
        if way_out == ADD:
            answer = self._runner.send("ADD", self._request)
            # The killed one may have finished but for its answer.
            assert answer.status == 0 or answer.json["code"] == ALREADY_ATTACHED, answer
            self._helper.send("CHECK", self._request).ok()
        if way_out == GC:
            self._runner.send("GC", self._of("GC")).ok()
        else:
            self._runner.send("DEL", self._request).ok()

    def _is_as_before(self) -> None:
        changes = self._surroundings.changes()
        assert not changes, "not as it was:\n" + "\n".join(changes)
        for pod in self._valid:
            self._helper.send("CHECK", other(self._node, self._policies, pod)).ok()

    def _is_usable(self) -> None:
        """A fresh ADD works; what its DEL may leave is seen at the next point."""
        self._helper.send("ADD", self._request).ok()
        self._helper.send("CHECK", self._request).ok()
        self._helper.send("DEL", self._request).ok()

    def _kill_and_lose_the_pod(self, verb: str, point: Point, victim: str) -> None:
        kept, surroundings = self._pod, Surroundings(self._runner, self._node)
        self._take(self._node.pod())
        try:
            run = self._hit(verb, point, victim=victim)
            gone = self._pod
            gone.remove()
            if run is not None:
                self._runner.send("GC", self._of("GC")).ok()
                changes = surroundings.changes(patient=True)
                assert not changes, "not as it was:\n" + "\n".join(changes)
        finally:
            self._take(kept)

    # -- how it is done ----------------------------------------------------------------------------------------

    def _hit(self, verb: str, point: Point, **deed: str) -> Run | None:
        """The run in which a point was hit; None if it was never met: a busy machine goes other ways."""
        for _ in range(_ATTEMPTS):
            self._before(verb)
            run = self._runner.run(verb, self._of(verb), point, **deed)
            if run.hit:
                return run
            self._helper.send("DEL", self._request).ok()
        self._tally.missed += 1
        return None

    def _before(self, verb: str) -> None:
        if verb != "ADD":
            self._helper.send("ADD", self._request).ok()

    def _of(self, verb: str) -> Request:
        """What is asked for, as a verb asks for it."""
        if verb != "GC":
            return self._request
        valid = [{"containerID": pod.container_id, "ifname": "eth0"} for pod in self._valid]
        document = {**self._request.document, "cni.dev/valid-attachments": valid}
        return Request({}, document).but(prevResult=None, runtimeConfig=None)

    @contextmanager
    def _counted(self, what: str, outcome: str) -> Iterator[None]:
        """Count what has gone well, and what has not; then go on with another pod."""
        missed = self._tally.missed
        try:
            yield
            if outcome and missed == self._tally.missed:
                self._tally.count(outcome)
        except AssertionError as error:
            self._tally.problem(f"{what}: {error}")
            self._pod.remove()
            self._helper.send("DEL", self._request)
            self._begin()

    def _begin(self) -> None:
        self._take(self._node.pod())
        for _ in range(2):  # directories, locks and indexes are there from now on
            self._is_usable()
        self._surroundings = Surroundings(self._runner, self._node, self._pod)

    def _add_other(self) -> None:
        pod = self._node.pod()
        self._helper.send("ADD", other(self._node, self._policies, pod)).ok()
        self._valid.append(pod)
        self._begin()

    def _take(self, pod: Pod) -> None:
        self._pod = pod
        self._request = self._scenario.request(self._node, self._policies, pod)


def _is_unsent(point: Point, answer: Answer) -> bool:
    """Whether it was the answer itself that could not be given: to the runtime, or by the daemon to its launcher."""
    if point.name.endswith(" stdout"):
        return not answer.stdout
    return point.name.endswith(": sendto unix-stream") and "gave no answer" in answer.stdout
