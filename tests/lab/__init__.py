"""The fixture language of the integration tests: a node, a LAN, hosts on it, pods; all network namespaces.

Nothing here touches the namespace the tests run in: links are made inside the lab's own namespaces, whose
names are random, so that several labs run side by side. All are removed when the test ends, however it ends.
"""

from __future__ import annotations

from .answer import Answer
from .capture import Capture, Frame
from .namespace import Namespace, within
from .network import Lab, Lan
from .node import Node
from .pod import Pod
from .request import ASSIGN, POD_ANNOTATIONS, Request, source
from .snapshot import unchanged

__all__ = [
    "ASSIGN",
    "POD_ANNOTATIONS",
    "Answer",
    "Capture",
    "Frame",
    "Lab",
    "Lan",
    "Namespace",
    "Node",
    "Pod",
    "Request",
    "source",
    "unchanged",
    "within",
]
