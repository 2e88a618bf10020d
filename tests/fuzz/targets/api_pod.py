"""What an API server answers when it is asked for a pod."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from cni_macvlan_egress.protocol.errors import TRY_AGAIN_LATER, CniError
from cni_macvlan_egress.sources.kubernetes import fetch_annotations

from ..mutations.documents import Vocabulary, choice
from ..target import Target
from . import http_answers, terms

_VOCABULARY = Vocabulary(
    keys=(
        "kind", "apiVersion", "metadata", "name", "namespace", "uid", "annotations", "kubernetes.io/config.mirror",
        "status",
        "message", "code", "spec", *terms.ANNOTATIONS,
    ),
    values=("Pod", "PartialObjectMetadata", "Status", "v1", "cart", "shop", "1-2-3", *terms.PODS),
    makers={
        **terms.ANNOTATIONS,
        "kind": choice("Pod", "PartialObjectMetadata", "PodList", "Status"),
        "annotations": choice(terms.annotations, None, [], {"a": 1}),
        "name": choice("cart", terms.pod),
        "namespace": choice("shop", terms.pod),
        "uid": choice("1-2-3", "4-5-6", None, 1),
        "metadata": choice({"name": "cart", "namespace": "shop", "uid": "1-2-3"}, {}, None, []),
        "message": choice("pods \"cart\" not found", "\x1b[31m\n", "x" * 400, 1),
    },
)  # fmt: skip


def examine(data: bytes, _seen: Callable[[], list[str]]) -> None:
    with http_answers.serving(data):
        try:
            found = fetch_annotations("/etc/kubeconfig", "shop", "cart", "1-2-3")
        except CniError as error:
            judge(error)
            return
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in found.items()), found


def judge(error: CniError) -> None:
    """An error that an answer of the server has led to."""
    assert error.code == TRY_AGAIN_LATER, error
    assert error.msg.isprintable(), ascii(error.msg)
    assert error.details.isprintable(), ascii(error.details)
    assert len(str(error)) < 2000, "the error is a novel"


def mutate(data: bytes, random: Random) -> bytes:
    return http_answers.mutated(data, random, _VOCABULARY)


TARGET = Target("api_pod", examine, mutate)
