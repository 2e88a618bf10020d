"""The pod's annotations, from the first source that knows them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..model.configuration import Configuration
from ..model.keys import POD_ANNOTATIONS_CAPABILITY
from ..passthrough import names_a_pod
from ..protocol.call import Call
from ..protocol.errors import INVALID_CONFIGURATION, IO_FAILURE, CniError


def annotations_of(call: Call, configuration: Configuration) -> Mapping[str, Any]:
    """Ask the configured sources in their order; nothing is found only where nobody could have said anything.

    Raises:
        CniError: a source failed, or on Kubernetes none could be asked: that must not pass for "no annotations".
    """
    for source in configuration.annotations:
        found = _ask(source, call, configuration)
        if found is not None:
            return found
    if (
        call.chained
        and names_a_pod(call)
        and not all(one.startswith("/") for one in configuration.annotations)
    ):
        raise CniError(
            INVALID_CONFIGURATION,
            "nobody tells the pod's annotations: add "
            f'"capabilities": {{"{POD_ANNOTATIONS_CAPABILITY}": true}} to the plugin\'s entry in the conflist '
            "(containerd 1.5, CRI-O 1.28 and later), or set 'kubeconfig'",
        )
    return {}


def _ask(source: str, call: Call, configuration: Configuration) -> Mapping[str, Any] | None:
    if source == "runtime":
        return _from_runtime(call)
    if source == "kubernetes":
        return _from_kubernetes(call, configuration.kubeconfig)
    return _from_directory(source, call)


def _from_runtime(call: Call) -> Mapping[str, Any] | None:
    if POD_ANNOTATIONS_CAPABILITY not in call.runtime_config:
        return None
    given = call.runtime_config[POD_ANNOTATIONS_CAPABILITY] or {}
    if not isinstance(given, dict):
        raise CniError(
            INVALID_CONFIGURATION, f"runtimeConfig.{POD_ANNOTATIONS_CAPABILITY} is not an object of strings"
        )
    return given


def _from_kubernetes(call: Call, kubeconfig: str | None) -> Mapping[str, Any] | None:
    from . import kubernetes

    if call.fetched is not None:
        return call.fetched
    if not names_a_pod(call) or not kubernetes.configured(kubeconfig):
        return None
    return kubernetes.fetch_for(call.environment.args, kubeconfig)


def _from_directory(directory: str, call: Call) -> Mapping[str, Any] | None:
    """A file `CONTAINERID.json` or `NAMESPACE_NAME.json` with an object of annotations."""
    from .regular_file import BYTES_MAX, content

    args = call.environment.args
    names = [f"{call.environment.container_id}.json"]
    if names_a_pod(call):
        names.append(f"{args['K8S_POD_NAMESPACE']}_{args['K8S_POD_NAME']}.json")
    for name in names:
        if "/" in name or "\0" in name:
            continue
        path = os.path.join(directory, name)
        try:
            data = content(path)
            if len(data) > BYTES_MAX:
                raise ValueError(f"larger than {BYTES_MAX >> 20} MiB")
            found = json.loads(data)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise CniError(IO_FAILURE, f"cannot read the annotations in {path}: {reason}") from None
        if not isinstance(found, dict):
            raise CniError(IO_FAILURE, f"{path}: an object of annotations is expected")
        return found
    return None
