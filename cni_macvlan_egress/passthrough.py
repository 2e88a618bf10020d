"""The answer for the many pods that want nothing: prevResult back, no kernel, no file, no heavy import."""

from __future__ import annotations

import posix

from .attach import paths, pods
from .model import keys
from .protocol.errors import DECODING_FAILURE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .protocol.call import Call


def answer(call: Call) -> str | None:
    """The text to print if the call concerns an unannotated pod; None if there is work to do."""
    command = call.environment.command
    if command == "ADD":
        keys.check_known(call.configuration)
        if not call.chained or not _wants_nothing(call):
            return None
        result = previous_result(call)  # it may be malformed, and then nothing is to be left
        if call.configuration.get("policy") is not None and not _free_of_policies(call):
            return None
        return result
    if command in ("DEL", "CHECK") and call.chained and not _recorded(call):
        if command == "CHECK":
            keys.check_known(call.configuration)
        attached = may_have_been_attached(call)
        if command == "DEL" and "policy" in call.configuration:
            pods.forget(pods.run_dir(call), call.environment.container_id, call.environment.ifname)
        return None if attached else ""
    return None


def may_have_been_attached(call: Call) -> bool:
    """Whether a call without a record may be about an attachment of ours all the same.

    A record that was lost is another matter than one that never was. With an IPAM plugin to ask it may even be a
    standalone attachment, whose DEL brings its own result along.
    """
    return _lists_our_interface(call) or (call.environment.command == "DEL" and "ipam" in call.configuration)


def names_a_pod(call: Call) -> bool:
    """Whether the runtime serves Kubernetes, so that the API server knows the pod."""
    args = call.environment.args
    return bool(args.get("K8S_POD_NAMESPACE") and args.get("K8S_POD_NAME"))


def previous_result(call: Call) -> str:
    """The text of prevResult as it came, or rewritten if it is of another version than the one asked for."""
    previous = call.previous or {}
    if previous.get("cniVersion") == call.version:
        return call.document.raw("prevResult")
    from .protocol import results, wire

    version = results.version_of(previous, call.version)
    return wire.encode(results.convert(previous, version, call.version))


def _wants_nothing(call: Call) -> bool:
    """Ask the sources that can be asked cheaply; whatever is not plain is left to the full path."""
    order = call.configuration.get("annotations", ["runtime", "kubernetes"])
    if not isinstance(order, list):
        return False
    for source in order:
        if source == "runtime":
            if keys.POD_ANNOTATIONS_CAPABILITY in call.runtime_config:
                annotations = call.runtime_config[keys.POD_ANNOTATIONS_CAPABILITY]
                # null is what a runtime says that knows of no annotation
                return annotations is None or (
                    isinstance(annotations, dict) and not keys.asks_to_attach(annotations)
                )
        elif source != "kubernetes":
            return False
        elif names_a_pod(call):
            return _the_api_wants_nothing(call)
    return not names_a_pod(call)


def _free_of_policies(call: Call) -> bool:
    if not pods.is_free(call):
        return False
    pods.note(call)
    return True


def _the_api_wants_nothing(call: Call) -> bool:
    kubeconfig = call.configuration.get("kubeconfig")
    if kubeconfig is not None and not (isinstance(kubeconfig, str) and kubeconfig.startswith("/")):
        return False
    from .sources import kubernetes

    if not kubernetes.configured(kubeconfig):
        return False
    call.fetched = kubernetes.fetch_for(call.environment.args, kubeconfig)
    return not keys.asks_to_attach(call.fetched)


def _recorded(call: Call) -> bool:
    try:
        state_dir = paths.directory(call.configuration.get("stateDir"), "stateDir", keys.DEFAULT_STATE_DIR)
        run_dir = pods.run_dir(call)
    except CniError:
        return True  # the full path says what is wrong, or releases in spite of it
    path = paths.record(state_dir, call.environment.container_id, call.environment.ifname)
    mark = paths.policy_mark(run_dir, call.environment.container_id, call.environment.ifname)
    # An ADD that was killed while it wrote its record has left the unfinished file alone.
    return any(_may_exist(one) for one in (path, paths.unfinished(path), mark))


def _may_exist(path: str) -> bool:
    try:
        posix.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True  # let the full path say what is wrong
    return True


def _lists_our_interface(call: Call) -> bool:
    ifname = call.configuration.get("ifName", keys.DEFAULT_IFNAME)
    interfaces = (call.previous or {}).get("interfaces") or []
    if not isinstance(interfaces, list):
        raise CniError(DECODING_FAILURE, "prevResult: interfaces is not a list")
    return any(
        isinstance(item, dict) and item.get("name") == ifname and item.get("sandbox") for item in interfaces
    )
