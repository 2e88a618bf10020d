"""Calls as a runtime makes them, without a process around them."""

from __future__ import annotations

import json
from typing import Any

from cni_macvlan_egress.protocol import environment, wire
from cni_macvlan_egress.protocol.call import Call

POD_ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=1-2-3"
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"


def variables(verb: str, **changed: str) -> dict[str, str]:
    """The environment of a call."""
    return {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/none",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        **changed,
    }


def configuration(**keys: Any) -> dict[str, Any]:
    """The plugin's object of a conflist, as libcni completes it."""
    return {"cniVersion": "1.1.0", "name": "cluster", "type": "macvlan-egress", **keys}


def call(verb: str, document: dict[str, Any] | str, **changed: str) -> Call:
    """A call of a verb with a document on stdin; a text stays as it is."""
    text = document if isinstance(document, str) else json.dumps(document)
    return Call(environment.read(variables(verb, **changed)), wire.decode(text))
