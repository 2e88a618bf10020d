"""What an API server tells of changes to egress policies: a list, then events, a line each."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from cni_macvlan_egress.protocol.errors import CniError
from cni_macvlan_egress.sources.policy_watch import Snapshot, Watch

from ..mutations.documents import Vocabulary, choice
from ..target import Target
from . import api_policies, http_answers
from .api_pod import judge

_EVENTS = choice("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "OTHER", None, "Allow", "Deny")
_OBJECT = {
    "kind": "EgressFirewall",
    "metadata": {"name": "default", "namespace": "shop", "resourceVersion": "10"},
}
_VOCABULARY = Vocabulary(
    keys=api_policies.VOCABULARY.keys,
    values=(*api_policies.VOCABULARY.values, "ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"),
    makers={
        **api_policies.VOCABULARY.makers,
        "type": _EVENTS,
        "object": choice(_OBJECT, {"code": 410, "message": "gone"}, {"metadata": {}}, None),
    },
)


def examine(data: bytes, _seen: Callable[[], list[str]]) -> None:
    snapshots: list[Snapshot] = []
    watch = Watch("/etc/kubeconfig", snapshots.append)
    # One of its followers, round by round and without its thread, so that an input always does the same.
    follower = watch._followers[1]
    with http_answers.serving(data) as left:
        while left:
            before = len(left)
            try:
                follower._round()
            except CniError as error:
                judge(error)
                follower._failed(str(error))
            pause = follower._pause()
            assert math.isfinite(pause)
            assert 0 <= pause <= 60, pause
            assert len(left) < before, "a round that asks for nothing"
    numbers = [one.number for one in snapshots]
    assert numbers == sorted(set(numbers)), numbers
    for one in (*snapshots, watch.snapshot()):
        api_policies.understand(list(one.documents))
    assert len(watch.states()) == 2


def mutate(data: bytes, random: Random) -> bytes:
    return http_answers.mutated(data, random, _VOCABULARY)


TARGET = Target("api_watch", examine, mutate)
