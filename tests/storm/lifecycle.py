"""A model of an attachment's life, and the rules by which it is tried against the plugin (hypothesis' stateful tests).

One call after the other, so that the model knows nearly always what must be answered. What it does not know is how far
a killed ADD has come: that attachment is `unsure` until its next DEL.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from lab import ASSIGN, Answer, Node, Pod, Request, source
from lab.network import PODS4, PODS6
from lab.snapshot import Snapshot, differences, files

from .stage import QUICK, Caller

PODS = 3
UNKNOWN_CONTAINER, INVALID_NETNS, HELD, CONFLICT, BAD_ANNOTATION, DRIFT, ATTACHED = (
    3,
    8,
    103,
    104,
    106,
    107,
    108,
)
GATEWAYS = "192.168.12.1,fd00:12::1"
# What a pod may ask for: its annotations, and the addresses that are then its own.
WISHES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "nothing": ({}, ()),
    "bare": ({ASSIGN: "true"}, ()),
    "first": (source("192.168.12.101/24"), ("192.168.12.101",)),
    "second": (source("192.168.12.102/24", destination="443 tcp 203.0.113.25"), ("192.168.12.102",)),
    "both": (
        source("192.168.12.101/24,fd00:12::65/64", GATEWAYS, routes="default"),
        ("192.168.12.101", "fd00:12::65"),
    ),
    "private": (source("192.168.12.103/32", mode="private", mtu="1400"), ("192.168.12.103",)),
    "nonsense": (source("192.168.12.300/24"), ()),
}
WITH_RULES = ("second",)  # nftables rules come with a destination
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"ifName": "other0"},
    {"master": "nosuch0", "mode": "private"},
    {"prevResult": None},
    {"runtimeConfig": None, "prevResult": None, "allow": None, "capabilities": None},
    {"cniVersion": "0.3.1", "prevResult": None},
)
TAMPERINGS = ("link", "address", "down", "ruleset", "mtu")


@dataclass
class Attachment:
    """One pod and what the model knows of it.

    Attributes:
        wish: what the ADD that succeeded asked for; None if it is not attached.
        unsure: an ADD was killed.
        spoilt: how somebody has changed what ADD made.
        result: of the ADD, as the runtime keeps it.
    """

    pod: Pod
    fresh: Snapshot
    wish: str | None = None
    unsure: bool = False
    spoilt: set[str] = field(default_factory=set)
    result: dict[str, Any] | None = None
    gone: bool = False

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those it holds."""
        return WISHES[self.wish][1] if self.wish else ()


@dataclass
class Scene:
    """What all examples share.

    Attributes:
        send: makes a call to its end.
        killer: makes a call that is killed.
        spare: pods of earlier examples that are as they were at first.
    """

    node: Node
    send: Callable[[str, Request], Answer]
    killer: Caller
    spare: list[Attachment] = field(default_factory=list)

    def pod(self) -> Attachment:
        """A pod to which nothing is attached."""
        if self.spare:
            return self.spare.pop()
        pod = self.node.pod()
        return Attachment(pod, pod.snapshot())


class Lifecycle(RuleBasedStateMachine):
    """The rules; an example begins with two attached pods, one of which has asked for the other's address before."""

    numbers = Bundle("numbers")

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self.scene = scene
        self.node = scene.node
        self.send = scene.send
        self.pods = [scene.pod() for _ in range(PODS)]
        # The kernel takes a namespace apart when it finds time; until then its interfaces answer.
        self.fading: set[str] = set()

    @initialize(target=numbers)
    def begin(self) -> Any:
        for number, wish in ((0, "first"), (1, "both"), (1, "second")):
            self.add(number, wish)
        return multiple(*range(PODS))

    # -- calls

    @rule(number=numbers, wish=st.sampled_from(sorted(WISHES)))
    def add(self, number: int, wish: str) -> None:
        one = self.pods[number]
        answer = self.send("ADD", self._request(one, wish))
        expected = self._codes_of_add(one, wish)
        assert _code(answer) in expected, f"ADD {wish}: {answer}, expected one of {expected}"
        if answer.status == 0 and wish != "nothing":
            one.wish, one.unsure, one.result = wish, False, answer.json
            one.spoilt.clear()
        elif answer.status == 0:
            assert answer.json == self._request(one, wish).document["prevResult"]

    def _codes_of_add(self, one: Attachment, wish: str) -> set[int]:
        if wish == "nothing":
            return {0}
        if wish == "nonsense":
            return {BAD_ANNOTATION}
        if one.gone:
            return {INVALID_NETNS}
        if one.wish is not None and "link" not in one.spoilt:
            return {ATTACHED}
        wanted = set(WISHES[wish][1])
        others = [other for other in self.pods if other is not one and not other.gone]
        if any(wanted & set(other.addresses) for other in others):
            return {HELD}
        codes = {0}
        if any(other.unsure for other in others):
            codes |= {HELD, CONFLICT}
        if wanted & self.fading:
            codes.add(CONFLICT)
        if one.unsure:
            codes.add(ATTACHED)
        return codes

    @rule(number=numbers, changed=st.sampled_from(CHANGES))
    def delete(self, number: int, changed: dict[str, Any]) -> None:
        one = self.pods[number]
        self.send("DEL", self._later(one, "bare").but(**changed)).ok()
        self._forget(one)

    @rule(number=numbers)
    def check(self, number: int) -> None:
        one = self.pods[number]
        answer = self.send("CHECK", self._later(one, one.wish or "bare"))
        if one.unsure:
            return
        if one.wish is None:
            assert _code(answer) in {0, UNKNOWN_CONTAINER}, answer
        elif one.gone:
            assert answer.status != 0
        elif one.spoilt:
            answer.refused(DRIFT)
        else:
            answer.ok()

    @rule(kept=st.sets(st.integers(0, PODS - 1)))
    def collect(self, kept: set[int]) -> None:
        valid = [
            {"containerID": self.pods[number].pod.container_id, "ifname": "eth0"} for number in sorted(kept)
        ]
        conf = self.node.configuration(**{"cni.dev/valid-attachments": valid})
        self.send("GC", Request({}, conf)).ok()
        for number, one in enumerate(self.pods):
            if number not in kept:
                self._forget(one)
        keys = {f"{self.pods[number].pod.container_id}@eth0.json" for number in kept}
        assert set(self._records()) <= keys

    @rule()
    def status(self) -> None:
        self.send("STATUS", Request({}, self.node.configuration())).ok()

    @rule(number=numbers, wish=st.sampled_from(["bare", "second", "both"]), at=st.integers(20, 110))
    def killed_add(self, number: int, wish: str, at: int) -> None:
        one = self.pods[number]
        if one.gone:
            return
        finished = one.wish is not None and "link" not in one.spoilt
        self.scene.killer.call("ADD", self._request(one, wish), kill_at=at)
        if not finished:
            one.unsure, one.wish = True, None
            one.spoilt.clear()

    # -- what happens to pods

    @rule(number=numbers)
    def vanish(self, number: int) -> None:
        self._end(self.pods[number])
        self.pods[number].gone = True

    @precondition(lambda self: any(one.gone for one in self.pods))
    @rule()
    def replace(self) -> None:
        """The runtime has forgotten a pod without a DEL, and starts another one."""
        number = next(number for number, one in enumerate(self.pods) if one.gone)
        self.pods[number] = self.scene.pod()

    def _end(self, one: Attachment) -> None:
        one.pod.remove()
        self.fading |= (
            {address for _, held in WISHES.values() for address in held} if one.unsure else set(one.addresses)
        )

    @rule(number=numbers, how=st.sampled_from(TAMPERINGS))
    def tamper(self, number: int, how: str) -> None:
        one = self.pods[number]
        if one.gone or one.wish is None or one.unsure or "link" in one.spoilt:
            return
        if how == "address" and (not one.addresses or how in one.spoilt):
            return
        if how == "ruleset" and (one.wish not in WITH_RULES or how in one.spoilt):
            return
        command = {
            "link": "link delete macvlan0",
            "down": "link set macvlan0 down",
            "mtu": "link set macvlan0 mtu 1300",
            "address": f"address flush dev macvlan0 to {one.addresses[0]}" if one.addresses else "",
        }.get(how)
        if command:
            one.pod.ip(command)
        else:
            one.pod.run("nft", "delete", "table", "inet", "macvlan_egress")
        one.spoilt.add(how)

    @rule()
    def reboot(self) -> None:
        """All namespaces and what is in the run-time directory are gone; the state files stay."""
        for one in self.pods:
            self._end(one)
        shutil.rmtree(self.node.run_dir, ignore_errors=True)
        self.pods = [self.scene.pod() for _ in self.pods]

    # -- what has to be so at any time

    @invariant()
    def pods_have_what_the_model_says(self) -> None:
        for one in self.pods:
            if one.gone or one.unsure:
                continue
            is_there = one.pod.link("macvlan0") is not None
            assert is_there == (one.wish is not None and "link" not in one.spoilt)
            assert os.path.exists(self.node.record(one.pod)) == (one.wish is not None)

    @invariant()
    def every_address_has_its_holder(self) -> None:
        for one in self.pods:
            if not one.gone:
                for address in one.addresses:
                    target = os.readlink(f"{self.node.state_dir}/addresses/{address}")
                    assert one.pod.container_id in target

    @invariant()
    def no_claim_is_left(self) -> None:
        if any(one.unsure or one.gone for one in self.pods):
            return
        claims = f"{self.node.state_dir}/addresses"
        for address in os.listdir(claims) if os.path.isdir(claims) else ():
            holder = os.readlink(f"{claims}/{address}")
            if any(one.pod.container_id in holder for one in self.pods):
                assert os.path.exists(f"{claims}/{address}"), f"{address} is held for nobody"

    @invariant()
    def nothing_is_on_the_node(self) -> None:
        assert self.node.show("link show type macvlan") == []

    def teardown(self) -> None:
        """GC of what nobody knows, DEL of all; then nothing is left."""
        try:
            valid = [{"containerID": one.pod.container_id, "ifname": "eth0"} for one in self.pods]
            conf = self.node.configuration(**{"cni.dev/valid-attachments": valid})
            self.send("GC", Request({}, conf)).ok()
            for one in self.pods:
                self.send("DEL", self._later(one, "bare")).ok()
            assert files(self.node.state_dir) == []
            for one in self.pods:
                if not one.gone:
                    found = differences(one.fresh, one.pod.snapshot())
                    assert not found, found
                    self._forget(one)
                    self.scene.spare.append(one)
        finally:
            for one in self.pods:
                if one not in self.scene.spare:
                    one.pod.remove()
            shutil.rmtree(self.node.state_dir, ignore_errors=True)

    # --

    def _forget(self, one: Attachment) -> None:
        one.wish, one.unsure, one.result = None, False, None
        one.spoilt.clear()

    def _request(self, one: Attachment, wish: str) -> Request:
        return self.node.request(one.pod, WISHES[wish][0], conf={"clusterNetworks": [PODS4, PODS6], **QUICK})

    def _later(self, one: Attachment, wish: str) -> Request:
        asked = self._request(one, wish)
        return asked if one.result is None else asked.but(prevResult=one.result)

    def _records(self) -> list[str]:
        with suppress(FileNotFoundError):
            return os.listdir(f"{self.node.state_dir}/attachments")
        return []


def _code(answer: Answer) -> int:
    return int(json.loads(answer.stdout)["code"]) if answer.status else 0
