"""The place of a storm: a node with many pods of several kinds, and the ways its calls are made."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab import ASSIGN, Lab, Node, Pod, Request, source, within
from lab.network import PODS4, PODS6
from lab.node import MINIMAL_PATH
from lab.snapshot import Snapshot

from .schedule import Kind, Round

CALL_SECONDS = 90.0
# Half of the fast detection's time, so that more calls are made in the same time.
QUICK = {"conflictTimeoutMs": 100}
GATEWAYS = "192.168.12.1,fd00:12::1"
DESTINATIONS = "443 tcp 203.0.113.25\n8000-8010 udp 203.0.113.26\n203.0.113.27"
_FIRST_GUESS, _REMEMBERED = 0.1, 31
_FIRST_ADDRESS, _POOL = 20, "172.20.0.0/16"


@dataclass(frozen=True)
class Answer:
    """How a call ended.

    Attributes:
        code: of the error; 0 for success; None if it was killed before it could say anything.
    """

    code: int | None
    text: str = ""


class Place:
    """One pod's place on the node: the pod may vanish and be replaced by another one.

    Attributes:
        fresh: what its namespace looked like before anything was attached.
    """

    def __init__(self, stage: Stage, number: int) -> None:
        self._stage = stage
        self.number = number
        self.kind: Kind = "plain"
        self.rival_of: int | None = None
        self.pod = self._make()
        self.fresh: Snapshot = self.pod.snapshot()
        self._result: dict[str, Any] | None = None

    def _make(self) -> Pod:
        return self._stage.lab.node.pod(ipv6=True)

    def renew(self) -> None:
        """Make a new pod in place of one whose namespace is gone."""
        self.pod = self._make()
        self.fresh = self.pod.snapshot()
        self._result = None

    def forget_result(self) -> None:
        """What follows has no result of an ADD to refer to."""
        self._result = None

    @property
    def ifname(self) -> str:
        """CNI_IFNAME of its attachment."""
        return "net1" if self.kind == "leased" else "eth0"

    @property
    def interface(self) -> str:
        """The macvlan's name."""
        return "net1" if self.kind == "leased" else "macvlan0"

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that it asks for."""
        last = _FIRST_ADDRESS + (self.number if self.rival_of is None else self.rival_of)
        ipv4, ipv6 = f"192.168.12.{last}", f"fd00:12::{last:x}"
        return {"dual": (ipv4, ipv6), "default": (ipv4, ipv6), "plain": (ipv4,), "redirect": (ipv4,)}.get(
            self.kind, ()
        )

    @property
    def host_end(self) -> str:
        """The node's end of the pod's main interface."""
        return str(self.pod.previous["interfaces"][0]["name"])

    def request(self, verb: str) -> Request:
        """What its runtime sends."""
        node = self._stage.lab.node
        if self.kind == "leased":
            pool = {"subnet": _POOL, "rangeStart": "172.20.0.10", "gateway": "172.20.0.1"}
            ipam = {"type": "host-local", "ranges": [[pool]], "dataDir": self._stage.leases}
            asked = node.standalone(
                self.pod,
                self.ifname,
                version="1.0.0",
                conf={"ipam": ipam, "annotations": ["runtime"], **QUICK},
            )
        else:
            asked = node.request(
                self.pod, self._annotations(), conf={"clusterNetworks": [PODS4, PODS6], **QUICK}
            )
        if verb in ("CHECK", "DEL") and self._result is not None:
            return asked.but(prevResult=self._result)
        return asked

    @property
    def has_result(self) -> bool:
        """Whether an ADD has succeeded in this round."""
        return self._result is not None

    def remember(self, result: str) -> None:
        """Keep an ADD's result as a runtime does, for CHECK and DEL."""
        self._result = json.loads(result)

    def _annotations(self) -> dict[str, str]:
        if self.kind == "passing":
            return {}
        if self.kind == "bare":
            return {ASSIGN: "true"}
        more = {"destination": DESTINATIONS} if self.kind == "redirect" else {}
        more |= {"routes": "default"} if self.kind == "default" else {}
        lengths = [f"{one}/{64 if ':' in one else 24}" for one in self.addresses]
        return source(",".join(lengths), GATEWAYS if len(lengths) > 1 else "192.168.12.1", **more)


class Caller:
    """Makes calls on a node that may be killed on their way.

    Args:
        program: what is executed.
    """

    def __init__(self, node: Node, program: str) -> None:
        self._node = node
        self._program = program
        self._took: dict[str, deque[float]] = defaultdict(lambda: deque([_FIRST_GUESS], maxlen=_REMEMBERED))

    def call(
        self,
        verb: str,
        request: Request,
        *,
        kill_at: int | None = None,
        shift: int = 0,
        meanwhile: Callable[[], None] | None = None,
    ) -> tuple[Answer, str]:
        """Make a call as a runtime does; returns what came of it, and its standard output.

        Args:
            kill_at: percent of its usual time after which it is killed.
            shift: seconds that monotonic and boot time are ahead in its time namespace.
            meanwhile: done in a thread while it goes on.
        """
        environment = {
            "PATH": MINIMAL_PATH,
            "CNI_PATH": self._node.bin_dir,
            "CNI_COMMAND": verb,
            **request.environment,
        }
        clocks = ["unshare", "--time", f"--monotonic={shift}", f"--boottime={shift}"] if shift else []
        process = within(
            self._node.path,
            lambda: subprocess.Popen(
                [*clocks, self._program],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd="/",
                start_new_session=True,
            ),
        )
        began = time.monotonic()
        helper = threading.Thread(target=meanwhile) if meanwhile else None
        if helper:
            helper.start()
        try:
            patience = CALL_SECONDS if kill_at is None else kill_at / 100 * self.usual(verb)
            output, complaints = process.communicate(request.stdin, timeout=patience)
            self._took[verb].append(time.monotonic() - began)
        except subprocess.TimeoutExpired:
            process.kill()
            output, complaints = _rest(process)
            if kill_at is None:
                return Answer(-1, f"no answer within {CALL_SECONDS:.0f} s {complaints}"), output
        finally:
            if helper:
                helper.join()
        return _answer(process.returncode, output, complaints), output

    def usual(self, verb: str) -> float:
        """How many seconds such a call takes at present."""
        return statistics.median(list(self._took[verb]))


class Stage:
    """A lab with a number of places.

    Args:
        program: what is called: the executable, or a launcher that calls the daemon.
    """

    def __init__(self, lab: Lab, pods: int, program: str) -> None:
        self.lab = lab
        self.caller = Caller(lab.node, program)
        self.leases = f"{lab.node.directory}/leases"
        os.mkdir(lab.node.state_dir)
        self.places = [Place(self, number) for number in range(pods)]

    def prepare(self, round_: Round) -> None:
        """Give each place its kind, and another pod to those that have lost theirs."""
        for place in self.places:
            place.kind = round_.kinds[place.number]
            place.rival_of = round_.rivals.get(place.number)
            place.forget_result()
            if not place.pod.exists:
                place.renew()

    def interfaces(self, place: Place) -> list[str]:
        """The names of the links in a pod's namespace."""
        return within(place.pod.path, lambda: [name for _, name in socket.if_nameindex()])


def _rest(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a killed process has said; a child of its own may hold its pipes open for a moment."""
    try:
        return process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        for pipe in (process.stdout, process.stderr, process.stdin):
            if pipe:
                pipe.close()
        return "", ""


def _answer(status: int, output: str, complaints: str) -> Answer:
    if status < 0:
        return Answer(None)
    if "Traceback" in output + complaints:
        return Answer(-1, output + complaints)
    if status == 0:
        return Answer(0)
    try:
        error = json.loads(output)
        return Answer(int(error["code"]), f"{error['msg']} {error.get('details', '')}".strip())
    except (ValueError, KeyError, TypeError):
        return Answer(-1, f"exit status {status}, no error object: {output!r} {complaints!r}")


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether something is so soon enough."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
