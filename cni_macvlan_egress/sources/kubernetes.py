"""The pod's annotations from the Kubernetes API: one question within one deadline.

No answer may pass for "no annotations": everything but a good one is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..model.complaints import show
from ..protocol.errors import INVALID_ENVIRONMENT, CniError
from ..turns import waiting
from .kubeconfig import from_file, from_service_account, in_cluster

if TYPE_CHECKING:
    from .https import Question

# A pod's start waits for the answer, and the kubelet waits two minutes for the whole sandbox.
DEADLINE_SECONDS = 5.0
# etcd refuses objects over 1.5 MiB, which JSON may make some times larger.
MAX_ANSWER_BYTES = 8 * 1024 * 1024

# The metadata alone, which every server since 1.15 can give; else the whole pod.
_ACCEPT = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"
_KINDS = ("Pod", "PartialObjectMetadata")
# The API server knows a static pod by a mirror with another UID; here the kubelet notes the one it has itself.
_MIRROR = "kubernetes.io/config.mirror"
_LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_CHARACTERS = "lower-case letters, digits and '-'"
_NAMESPACE_MAX, _NAME_MAX = 63, 253


def configured(kubeconfig: str | None) -> bool:
    """Whether there is an API server to ask."""
    return kubeconfig is not None or in_cluster(os.environ)


def fetch_for(args: Mapping[str, str], kubeconfig: str | None) -> Mapping[str, Any]:
    """The annotations of the pod that CNI_ARGS names; see fetch_annotations()."""
    with waiting():
        return fetch_annotations(
            kubeconfig, args["K8S_POD_NAMESPACE"], args["K8S_POD_NAME"], args.get("K8S_POD_UID", "")
        )


def fetch_annotations(kubeconfig: str | None, namespace: str, name: str, uid: str) -> Mapping[str, Any]:
    """The annotations that the API server has for a pod; {} if it has none.

    Args:
        kubeconfig: path of a kubeconfig; None for the service account of the pod this runs in.
        namespace: K8S_POD_NAMESPACE.
        name: K8S_POD_NAME.
        uid: K8S_POD_UID; "" where the runtime does not tell.

    Raises:
        CniError: TRY_AGAIN_LATER if the server cannot be reached, refuses or has no such pod;
            INVALID_ENVIRONMENT, INVALID_CONFIGURATION or IO_FAILURE if it cannot even be asked.
    """
    _check_names(namespace, name)
    access = from_file(kubeconfig) if kubeconfig is not None else from_service_account(os.environ)
    from .https import Deadline, Question, Server

    refusals = {
        403: (
            "it does not let the plugin read the pod",
            f"give the user of {access.origin} the verb 'get' on 'pods' by a ClusterRole and a ClusterRoleBinding",
        ),
        404: (
            "it has no such pod",
            f"the pod was deleted meanwhile, or {access.origin} leads to another cluster",
        ),
    }
    question = Question(
        Server(access),
        f"the annotations of pod {namespace}/{name}",
        f"/api/v1/namespaces/{namespace}/pods/{name}",
        refusals,
        _ACCEPT,
    )
    body = question.ask(Deadline(DEADLINE_SECONDS), MAX_ANSWER_BYTES)
    return _annotations(question, body, namespace, name, uid)


def check_namespace(namespace: str) -> None:
    """It becomes part of a path: nothing but what Kubernetes itself allows (RFC 1123 label)."""
    if len(namespace) > _NAMESPACE_MAX or not _is_label(namespace):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_ARGS: K8S_POD_NAMESPACE: {show(namespace)}: at most {_NAMESPACE_MAX} {_CHARACTERS} are expected, "
            "the first and last no '-'",
        )


def _annotations(question: Question, body: bytes, namespace: str, name: str, uid: str) -> Mapping[str, Any]:
    """The annotations in a body, once it is clear that it is the pod's."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise question.garbage("the pod", "it is not JSON", body) from None
    if not isinstance(answer, dict) or answer.get("kind") not in _KINDS:
        raise question.garbage("the pod", "it is no object of kind Pod", body)
    metadata = answer.get("metadata")
    if not isinstance(metadata, dict):
        raise question.garbage("the pod", "it has no metadata", body)
    for key, asked in (("namespace", namespace), ("name", name)):
        if metadata.get(key, asked) != asked:
            raise question.garbage("the pod", f"its {key} is {show(metadata[key])}", body)
    found = metadata.get("annotations")
    annotations = {} if found is None else found
    if not isinstance(annotations, dict) or not all(isinstance(one, str) for one in annotations.values()):
        raise question.garbage("the pod", "its annotations are not strings", body)
    if uid and uid not in (metadata.get("uid"), annotations.get(_MIRROR)):
        raise question.error(
            f"it has a pod of that name with UID {show(metadata.get('uid'))}, not {show(uid)}",
            "the pod was replaced; the runtime tries again if this one is still wanted",
        )
    return annotations


def _check_names(namespace: str, name: str) -> None:
    check_namespace(namespace)
    if len(name) > _NAME_MAX or not all(map(_is_label, name.split("."))):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_ARGS: K8S_POD_NAME: {show(name)}: at most {_NAME_MAX} {_CHARACTERS} are expected, or such parts "
            "joined by '.', the first and last of a part no '-'",
        )


def _is_label(text: str) -> bool:
    return text != "" and _LABEL_CHARACTERS.issuperset(text) and "-" not in (text[0], text[-1])
