"""What an API server answers when it is asked for all egress policies: lists, in pages."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from cni_macvlan_egress.model.policy_documents import gather
from cni_macvlan_egress.model.policy_documents import policies as meant
from cni_macvlan_egress.protocol.errors import POLICY_UNUSABLE, CniError
from cni_macvlan_egress.sources.policy_kubernetes import RESOURCES, Document, fetch_all

from ..mutations.documents import Vocabulary, choice
from ..target import Target
from . import http_answers, policies
from .api_pod import judge

_METADATA = choice(
    {"resourceVersion": "7"}, {"resourceVersion": "8", "continue": "abc"}, {"continue": 1}, {}, None
)
VOCABULARY = Vocabulary(
    keys=(
        *policies.VOCABULARY.keys, "resourceVersion", "continue", "remainingItemCount", "uid", "object", "type", "code",
        "message", "groups",
    ),
    values=(*policies.VOCABULARY.values, "EgressFirewallList", "EgressNetworkPolicyList", "APIGroupList", "7", "8"),
    makers={
        **policies.VOCABULARY.makers,
        "kind": choice("EgressFirewallList", "EgressNetworkPolicyList", "APIGroupList",
        policies.VOCABULARY.makers["kind"]),
        "metadata": choice(_METADATA, {"name": "default", "namespace": "shop", "resourceVersion": "9"}),
        "resourceVersion": choice("7", "8", "", 7, None, "a&b=c\r\n"),
        "continue": choice("abc", "", None, 1, "\ud800", "x\r\ny"),
        "items": choice(None, [], [{}], [None], "x", 7, {}),
        "code": choice(410, 500, "410", None),
    },
)  # fmt: skip


def examine(data: bytes, _seen: Callable[[], list[str]]) -> None:
    with http_answers.serving(data):
        try:
            found = fetch_all("/etc/kubeconfig")
        except CniError as error:
            judge(error)
            return
    understand(found)


def understand(documents: list[Document]) -> None:
    """What has come from the server means something, or says why not."""
    kinds = [(one.kind, one.api_version) for one in RESOURCES]
    understood = []
    for document in documents:
        assert (document["kind"], document["apiVersion"]) in kinds
        assert "managedFields" not in document["metadata"]
        try:
            understood += meant(document, "the API server")
        except CniError as error:
            assert error.code == POLICY_UNUSABLE, error
            assert error.msg.isprintable(), ascii(error.msg)
    for namespace, policy in gather(understood).items():
        assert policy.namespace == namespace
        policies.enforce(policy)


def mutate(data: bytes, random: Random) -> bytes:
    return http_answers.mutated(data, random, VOCABULARY)


TARGET = Target("api_policies", examine, mutate)
